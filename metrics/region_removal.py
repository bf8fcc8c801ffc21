"""Removing whole regions in order of relevance: AOPC, selectivity, IROF, monotonicity."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.curves import area, step_counts
from xbench.operations.imputers import NOISY
from xbench.operations.ranks import order_ranks
from xbench.operations.segments import check_segmentation
from xbench.operations.subsets import region_sums
from xbench.registry import METRICS
from xbench.streams import Streams

from ._regions import (
    GRID_CELLS,
    check_grid,
    count_regions,
    grid_regions,
    region_counts,
    superpixels,
)
from ._removal import (
    Outputs,
    blank_where,
    check_curve,
    clean_outputs,
    curve_outputs,
    outputs_at,
    sound_maps,
)

Order = Literal["morf", "lerf"]


def region_order(values: Tensor, regions: Tensor, streams: Streams) -> Tensor:
    """Each pixel's rank is that of its region, most relevant first, int64 (N, H*W).

    Args:
        values: float64 (N, M), the relevance of each region; -inf for regions an image lacks.
        regions: int64 (N, H, W).
        streams: ties are broken at random, the same for all metrics.
    """
    ranks = order_ranks(values[:, None], streams.shared(), "regions")
    return ranks.to(regions.device).gather(1, regions.flatten(1))


def grid_order(case: Case, maps: Tensor, grid: int, streams: Streams) -> tuple[Tensor, int]:
    """Pixel ranks by summed relevance of grid cells, and the number of cells."""
    regions = grid_regions(case, grid)
    cells = count_regions(regions)
    return region_order(region_sums(maps, regions, cells), regions, streams), cells


@METRICS.register
@dataclass(frozen=True)
class RegionPerturbation(Metric):
    """Area over the perturbation curve, regions replaced by noise, most relevant first.

    AOPC = 1 / (L + 1) sum_{k=0..L} (f_c(x_0) - f_c(x_k)), x_k the image after k regions, f_c the
    logit, averaged over draws of the noise.

    Attributes:
        grid: cells a side; the regions are its cells.
        regions: L, how many are removed at most.
        draws: how often the noise is drawn.
        imputer: what takes the place of removed regions.
        order: "morf" removes the most relevant first, "lerf" the least relevant.
    """

    grid: int = 16
    regions: int = 100
    draws: int = 3
    imputer: str = "uniform"
    order: Order = "morf"

    card: ClassVar[MetricCard] = MetricCard(
        name="region_perturbation",
        summary="Mean drop of the logit while the most relevant regions turn into noise (AOPC).",
        paper="Samek et al., Evaluating the visualization of what a deep neural network has "
        "learned, TNNLS 2017",
        limitations="In units of the model's logit; a random map is above 0, so compare with the "
        "random control.",
        property="faithfulness",
        direction="higher",
        range=(float("-inf"), float("inf")),
        needs=("model",),
        forwards=f"1 + draws * min(regions, {GRID_CELLS})",
        shared="1",
        invariances=("scale",),
        chance="the random control, above 0",
    )

    def __post_init__(self) -> None:
        check_grid(self.grid, self.imputer)
        if self.regions < 1 or self.draws < 1:
            raise ParameterError(f"{self.card.name} takes regions >= 1 and draws >= 1.")
        if self.draws > 1 and self.imputer not in NOISY:
            raise ParameterError(
                f"The imputer '{self.imputer}' draws no noise; set draws=1 with it."
            )

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """AOPC per image; curve `logit`."""
        maps, finite = sound_maps(case)
        ranks, cells = grid_order(case, maps, self.grid, streams)
        ranks = cells - 1 - ranks if self.order == "lerf" else ranks
        counts = torch.arange(1, min(self.regions, cells) + 1)
        clean = clean_outputs(case).logit
        total = torch.zeros(len(case), len(counts), dtype=torch.float64)
        for draw in range(self.draws):
            found = outputs_at(case, ranks, counts, self.imputer, streams, draw)
            total = total + found.logit / self.draws
        curve = torch.cat([clean, total], dim=1)
        return blank_where(finite, (clean - curve).mean(dim=1), curves={"logit": curve})


METRICS.preset(
    "aopc_lerf",
    RegionPerturbation,
    card={
        "summary": "Mean drop of the logit while the least relevant regions turn into noise.",
        "direction": "lower",
    },
    order="lerf",
)
METRICS.preset(
    "aopc_morf_mean",
    RegionPerturbation,
    card={"summary": "AOPC, most relevant first, regions filled with the mean color."},
    imputer="mean",
    draws=1,
)


@METRICS.register
@dataclass(frozen=True)
class Selectivity(Metric):
    """Area under p_c while cells are removed one after the other, most relevant first.

    Attributes:
        grid: cells a side.
        steps: points of the curve after the clean one; all cells are gone at the last.
        imputer: what takes the place of removed cells.
    """

    grid: int = 16
    steps: int = 32
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="selectivity",
        summary="Area under the target's probability while the most relevant cells are removed.",
        paper="Montavon et al., Methods for interpreting and understanding deep neural networks, "
        "DSP 2018",
        limitations="Cells in place of pixels favor maps that are smooth at the size of a cell.",
        property="faithfulness",
        direction="lower",
        range=(0.0, 1.0),
        needs=("model",),
        forwards="steps + 1",
        shared="2",
        invariances=("scale",),
        chance="the random control",
    )

    def __post_init__(self) -> None:
        check_grid(self.grid, self.imputer)
        check_curve(self.steps, self.imputer)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Area per image; curves `probability` and `logit`."""
        maps, finite = sound_maps(case)
        ranks, cells = grid_order(case, maps, self.grid, streams)
        counts = step_counts(cells, self.steps)
        found = curve_outputs(case, ranks, counts, self.imputer, streams)
        return blank_where(
            finite,
            area(found.probability),
            curves={"probability": found.probability, "logit": found.logit},
        )


@METRICS.register
@dataclass(frozen=True)
class Irof(Metric):
    """Area over the curve of p_c(x_k) / p_c(x) while superpixels are removed, best first.

    IROF = 1 - area of p_c(x_k) / p_c(x_0) over the share of superpixels removed; superpixels in
    order of their mean relevance. Dividing by the number of superpixels keeps images with many of
    them from weighing more.

    Attributes:
        segmentation: slic, grid, quickshift or felzenszwalb.
        segments: how many superpixels are asked for.
        steps: points of the curve after the clean one; L superpixels go in `steps` steps.
        imputer: what takes the place of removed superpixels.
    """

    segmentation: str = "slic"
    segments: int = 50
    steps: int = 25
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="irof",
        summary="Area over the curve of the probability while superpixels are removed.",
        paper="Rieger and Hansen, IROF: a low resource evaluation metric, 2020",
        limitations="Depends on the segmentation; unstable where the clean probability is small.",
        property="faithfulness",
        direction="higher",
        range=(float("-inf"), 1.0),
        needs=("model",),
        forwards="steps + 1",
        shared="2",
        invariances=("scale", "shift"),
        chance="the random control",
    )

    def __post_init__(self) -> None:
        check_segmentation(self.segmentation, self.segments)
        check_curve(self.steps, self.imputer)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """IROF per image; curve `ratio`, detail `superpixels`."""
        maps, finite = sound_maps(case)
        regions = superpixels(case, self.segmentation, self.segments)
        sizes = region_counts(regions)
        means = region_sums(maps, regions, sizes.shape[1]) / sizes
        ranks = region_order(means.nan_to_num(nan=float("-inf")), regions, streams)
        own = (sizes > 0).sum(dim=1)
        counts = torch.stack([step_counts(int(count), self.steps) for count in own])
        found = curve_outputs(case, ranks, counts, self.imputer, streams)
        ratio = found.probability / found.probability[:, :1]
        share = counts.double() / own[:, None]
        return blank_where(
            finite,
            1 - torch.trapezoid(ratio, share, dim=1),
            curves={"ratio": ratio},
            details={"superpixels": own},
        )


@METRICS.register
@dataclass(frozen=True)
class Monotonicity(Metric):
    """How often p_c does not fall while cells come back, least relevant first.

    Cells are added to the imputed image in increasing order of relevance; the paper's verdict,
    detail `all`, is whether p_c never falls; the value is the share of steps at which it does not.

    Attributes:
        grid: cells a side.
        imputer: the start.
    """

    grid: int = 7
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="monotonicity",
        summary="Share of steps at which the probability does not fall while cells come back.",
        paper="Arya et al., One explanation does not fit all (AI Explainability 360), 2019",
        limitations="For a linear model the share is the same for every map: only interactions of "
        "cells tell maps apart, so it says little.",
        property="faithfulness",
        direction="higher",
        range=(0.0, 1.0),
        needs=("model",),
        forwards=f"1 + {GRID_CELLS}",
        shared="2",
        invariances=("scale",),
        chance="the random control",
    )

    def __post_init__(self) -> None:
        check_grid(self.grid, self.imputer)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Share per image; curve `probability` from the start on, detail `all`."""
        maps, finite = sound_maps(case)
        ranks, cells = grid_order(case, maps, self.grid, streams)
        found: Outputs = curve_outputs(case, ranks, torch.arange(cells + 1), self.imputer, streams)
        curve = found.probability.flip(1)
        rises = curve.diff(dim=1) >= -1e-9  # equal up to rounding
        return blank_where(
            finite,
            rises.double().mean(dim=1),
            curves={"probability": curve},
            details={"all": rises.all(dim=1)},
        )
