"""Single cells: does the relevance of a cell say what the output loses without it?

Faithfulness estimate, single deletion and monotonicity correlation differ in the cells, the fill
and the correlation; outputs without one cell are computed once an image for all methods.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.ranks import pearson, spearman
from xbench.registry import METRICS
from xbench.streams import Streams

from ._regions import (
    GRID_CELLS,
    NO_CORRELATION,
    cell_logit_drops,
    cell_sums,
    check_grid,
    constant_maps,
)
from ._removal import blank_where, sound_maps


@METRICS.register
@dataclass(frozen=True)
class FaithfulnessEstimate(Metric):
    """Pearson correlation between the relevance of single cells and the drop without each.

    corr over i of (R_i, f_c(x) - f_c(x without i)); f_c is the logit, features are cells.

    Attributes:
        grid: cells a side.
        imputer: what takes the place of the removed cell.
    """

    grid: int = 14
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="faithfulness_estimate",
        summary="Correlation of the relevance of single cells and the logit drop without each.",
        paper="Alvarez-Melis and Jaakkola, Towards robust interpretability with self-explaining "
        "neural networks, NeurIPS 2018",
        limitations="Cells one at a time: redundant evidence looks unimportant.",
        property="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards=f"1 + {GRID_CELLS}",
        shared=f"1 + {GRID_CELLS}",
        invariances=("scale",),
        chance="0",
    )

    def __post_init__(self) -> None:
        check_grid(self.grid, self.imputer)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Correlation per image."""
        maps, finite = sound_maps(case)
        drops = cell_logit_drops(case, self.grid, self.imputer, streams)
        return blank_where(
            finite & ~constant_maps(maps),
            pearson(cell_sums(case, maps, self.grid), drops),
            reason=NO_CORRELATION,
        )


@METRICS.register
@dataclass(frozen=True)
class SingleDeletion(Metric):
    """Spearman correlation between the relevance of large cells and the drop without each.

    SDS = rho over cells of (sum of the map in the cell, f_c(x) - f_c(x without the cell)). Only
    for a model that was trained on images with one cell removed is this the in-domain score.

    Attributes:
        grid: cells a side.
        imputer: what takes the place of the removed cell.
    """

    grid: int = 4
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="single_deletion",
        summary="Rank correlation of the relevance of 4x4 cells and the logit drop without each.",
        paper="Hesse et al., Benchmarking the attribution quality of vision models, NeurIPS 2024",
        limitations="Sixteen cells leave a coarse grain; unless the model was trained on images "
        "with removed cells they are off its distribution.",
        property="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards=f"1 + {GRID_CELLS}",
        shared=f"1 + {GRID_CELLS}",
        invariances=("scale",),
        chance="0",
        default=True,
    )

    def __post_init__(self) -> None:
        check_grid(self.grid, self.imputer)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Rank correlation per image."""
        maps, finite = sound_maps(case)
        drops = cell_logit_drops(case, self.grid, self.imputer, streams)
        return blank_where(
            finite & ~constant_maps(maps),
            spearman(cell_sums(case, maps, self.grid), drops),
            reason=NO_CORRELATION,
        )


@METRICS.register
@dataclass(frozen=True)
class InDomainSingleDeletion(SingleDeletion):
    """Single deletion on a model trained on images with one cell removed (`masked_training`)."""

    card: ClassVar[MetricCard] = replace(
        SingleDeletion.card,
        name="in_domain_single_deletion",
        summary="Single deletion where the model was trained on images with removed cells.",
        limitations="Needs a model fine-tuned with the same cells and the same fill.",
        needs=("model", "masked_training"),
        default=False,
    )

    def supports(self, case: Case) -> str | None:
        """Refuses models that do not say that they were trained on images with removed cells."""
        if getattr(case.model, "masked_training", False):
            return None
        return (
            "The model was not trained on images with removed cells (its `masked_training` is not "
            "set); use single_deletion."
        )


METRICS.preset(
    "single_deletion_7x7",
    SingleDeletion,
    card={
        "summary": "Single deletion over 7x7 cells.",
        "default": False,
    },
    grid=7,
)


@METRICS.register
@dataclass(frozen=True)
class MonotonicityCorrelation(Metric):
    """Spearman correlation between |relevance| of a cell and how the output varies with it.

    rho over cells i of (|R_i|, E[(f_c(x) - f_c(x with cell i redrawn))^2]), the expectation over
    uniform noise in the cell; f_c is the logit. The paper's factor 1 / f_c(x)^2 is one number an
    image and leaves ranks as they are.

    Attributes:
        grid: cells a side.
        draws: how often each cell is redrawn.
    """

    grid: int = 7
    draws: int = 5

    card: ClassVar[MetricCard] = MetricCard(
        name="monotonicity_correlation",
        summary="Rank correlation of absolute relevance and the squared change when a cell is "
        "redrawn.",
        paper="Nguyen and Martinez, On quantitative aspects of model interpretability, 2020",
        limitations="Cells one at a time: redundant evidence looks unimportant; blind to sign.",
        property="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards=f"1 + draws * {GRID_CELLS}",
        shared=f"1 + draws * {GRID_CELLS}",
        invariances=("scale", "sign"),
        chance="0",
    )

    def __post_init__(self) -> None:
        check_grid(self.grid, "uniform")
        if self.draws < 1:
            raise ParameterError("monotonicity_correlation takes draws >= 1.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Rank correlation per image."""
        maps, finite = sound_maps(case)
        square = torch.zeros(len(case), 1, dtype=torch.float64)
        for draw in range(self.draws):
            drops = cell_logit_drops(case, self.grid, "uniform", streams, draw)
            square = square + drops.square()
        return blank_where(
            finite & ~constant_maps(maps),
            spearman(cell_sums(case, maps, self.grid).abs(), square / self.draws),
            reason=NO_CORRELATION,
        )
