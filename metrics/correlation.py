"""Does the sum of a map over a set of pixels say how much the output drops without them?

Sensitivity-n and faithfulness correlation ask this of random sets of cells of a grid; outputs
without a set are computed once an image and shared by all methods.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.ranks import pearson
from xbench.registry import METRICS
from xbench.streams import Streams

from ._regions import (
    NO_CORRELATION,
    cell_sums,
    check_grid,
    constant_maps,
    subset_drops,
    subset_logit_drops,
)
from ._removal import blank_where, sound_maps


def subset_sums(sums: Tensor, subsets: Tensor) -> Tensor:
    """Sums over subsets, float64 (N, D), from cell sums (N, M) and subsets bool (N, D, M)."""
    return (subsets.double() @ sums[:, :, None])[..., 0]


def sizes_between(least: int, most: int, count: int) -> list[int]:
    """Set sizes on a log scale, both ends included.

    >>> sizes_between(1, 16, 5)
    [1, 2, 4, 8, 16]
    """
    return [round(float(n)) for n in np.geomspace(least, max(least, most), count)]


@METRICS.register
@dataclass(frozen=True)
class SensitivityN(Metric):
    """Pearson correlation between sums over random sets of n cells and output drops, mean over n.

    PCC over subsets S of size n of (sum_{i in S} R_i, f_c(x) - f_c(x without S)), for each n on a
    log scale from 1 to `share` of the cells; f_c is the logit. The subsets are random for every
    image and the same for every method. An n at which no subset meets the map's only cell with
    relevance has no correlation; the mean is over the others.

    Attributes:
        grid: cells a side; the features are its cells.
        sizes: how many values of n.
        subsets: how many random sets of each size.
        share: the largest n as a share of the cells.
        imputer: what takes the place of removed cells.
    """

    grid: int = 14
    sizes: int = 8
    subsets: int = 100
    share: float = 0.8
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="sensitivity_n",
        summary="Correlation of summed relevance and logit drop over random sets of n cells.",
        paper="Ancona et al., Towards better understanding of gradient-based attribution methods, "
        "ICLR 2018",
        limitations="Asks for sums of signed evidence: maps without sign are at a disadvantage.",
        property="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards="1 + sizes * subsets",
        shared="1 + sizes * subsets",
        invariances=("scale",),
        chance="0",
    )

    def __post_init__(self) -> None:
        check_grid(self.grid, self.imputer)
        if self.sizes < 1 or self.subsets < 3 or not 0 < self.share < 1:
            raise ParameterError(
                "sensitivity_n takes sizes >= 1, subsets >= 3 and a share between 0 and 1."
            )

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Mean correlation per image; curve `pearson` over n."""
        maps, finite = sound_maps(case)
        sums = cell_sums(case, maps, self.grid)
        cells = sums.shape[1]
        found: list[Tensor] = []
        sizes = sizes_between(1, int(self.share * cells), self.sizes)
        chosen = [
            subset_drops(case, streams, cells, n, self.subsets, i) for i, n in enumerate(sizes)
        ]
        key = ("sensitivity_n", *sizes, self.subsets, streams.repetition)
        drops = subset_logit_drops(
            case, self.grid, torch.cat(chosen, dim=1), key, self.imputer, streams
        )
        for subsets, drop in zip(chosen, drops.split(self.subsets, dim=1), strict=True):
            found.append(pearson(subset_sums(sums, subsets), drop))
        curve = torch.stack(found, dim=1)
        return blank_where(
            finite & ~constant_maps(maps),
            curve.nanmean(dim=1),
            curves={"pearson": curve},
            reason=NO_CORRELATION,
        )


@METRICS.register
@dataclass(frozen=True)
class FaithfulnessCorrelation(Metric):
    """Pearson correlation between sums over random sets of one size and output drops.

    corr over S of (sum_{i in S} g_i, f_c(x) - f_c(x without S)), |S| fixed; f_c is the logit.

    Attributes:
        grid: cells a side; the features are its cells.
        share: size of the sets as a share of the cells.
        draws: how many random sets.
        imputer: what takes the place of removed cells.
    """

    grid: int = 9
    share: float = 0.2
    draws: int = 200
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="faithfulness_correlation",
        summary="Correlation of summed relevance and logit drop over random sets of cells.",
        paper="Bhatt et al., Evaluating and aggregating feature-based model explanations, "
        "IJCAI 2020",
        limitations="One set size only; removed cells are off the distribution of the images.",
        property="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards="1 + draws",
        shared="1 + draws",
        invariances=("scale",),
        chance="0",
        default=True,
    )

    def __post_init__(self) -> None:
        check_grid(self.grid, self.imputer)
        if self.draws < 3 or not 0 < self.share < 1:
            raise ParameterError(
                "faithfulness_correlation takes draws >= 3 and a share between 0 and 1."
            )

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Correlation per image."""
        maps, finite = sound_maps(case)
        sums = cell_sums(case, maps, self.grid)
        cells = sums.shape[1]
        size = max(1, round(self.share * cells))
        subsets = subset_drops(case, streams, cells, size, self.draws)
        key = ("faithfulness_correlation", size, self.draws, streams.repetition)
        drops = subset_logit_drops(case, self.grid, subsets, key, self.imputer, streams)
        return blank_where(
            finite & ~constant_maps(maps),
            pearson(subset_sums(sums, subsets), drops),
            reason=NO_CORRELATION,
        )
