"""Agreement on features: the few cells of an image that matter most to two methods.

Krishna et al. 2022 compare the top-k features of two explanations by magnitude; the features here
are the cells of a grid, each with the sum of the map inside it.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.contracts import MetricCard, PairMetric, Scores
from xbench.errors import ParameterError
from xbench.operations.selection import rank_probabilities
from xbench.registry import METRICS
from xbench.streams import Streams

from .agreement import where_defined

Condition = Literal["feature", "rank", "sign", "signed_rank"]
_PAPER = "Krishna et al. 2022, The disagreement problem in explainable machine learning"


@METRICS.register
@dataclass(frozen=True)
class FeatureAgreement(PairMetric):
    """Share of the top k cells, by |sum of the map in the cell|, on which two maps agree.

    Equal cells take their ranks in a random order, each map by its own, and the share is the
    expected one. The condition is that a cell is among both tops (feature), at the same rank in
    both (rank), in both with the same sign (sign), or at the same rank with the same sign.

    Attributes:
        top: k.
        grid: cells a side, at most the pixels of that side.
        condition: what a cell must share.
    """

    top: int = 10
    grid: int = 7
    condition: Condition = "feature"

    card: ClassVar[MetricCard] = MetricCard(
        name="feature_agreement",
        summary="Share of the top 10 of 7x7 cells that two methods have in common.",
        paper=_PAPER,
        property="agreement",
        direction="none",
        range=(0.0, 1.0),
        needs=("pair",),
        invariances=("scale", "sign"),
        chance="top / cells: 0.20",
    )

    def __post_init__(self) -> None:
        if self.grid < 1 or not 1 <= self.top <= self.grid**2:
            raise ParameterError(
                "Agreement on cells needs a grid of at least 1 and a top between 1 and grid x grid."
            )

    def compare(self, first: Tensor, second: Tensor, *, streams: Streams) -> Scores:
        """Share of agreement, (N,)."""
        a, b = cell_sums(first, self.grid), cell_sums(second, self.grid)
        top = min(self.top, a.shape[1])
        ranks_a, ranks_b = rank_probabilities(a.abs(), top), rank_probabilities(b.abs(), top)
        if self.condition in ("rank", "signed_rank"):
            both = (ranks_a * ranks_b).sum(dim=2)
        else:
            both = ranks_a.sum(dim=2) * ranks_b.sum(dim=2)
        if self.condition in ("sign", "signed_rank"):
            both = both * (a.sign() == b.sign())
        return where_defined(both.sum(dim=1) / top, first, second)


METRICS.preset(
    "rank_agreement",
    FeatureAgreement,
    card={
        "summary": "Share of the top 10 of 7x7 cells that have the same rank in both.",
        "chance": "1 / cells: 0.02",
    },
    condition="rank",
)
METRICS.preset(
    "sign_agreement",
    FeatureAgreement,
    card={
        "summary": "Share of the top 10 of 7x7 cells that are in both with the same sign.",
        "chance": "top / (2 cells) for maps of random sign: 0.10",
        "invariances": ("scale",),
    },
    condition="sign",
)
METRICS.preset(
    "signed_rank_agreement",
    FeatureAgreement,
    card={
        "summary": "Share of the top 10 of 7x7 cells with the same rank and the same sign in both.",
        "chance": "1 / (2 cells) for maps of random sign: 0.01",
        "invariances": ("scale",),
    },
    condition="signed_rank",
)


def cell_sums(maps: Tensor, grid: int) -> Tensor:
    """Sum of each map in each cell of a grid, row by row, float64 (N, cells).

    Pixel row y of H belongs to cell row floor(y grid / H); a side shorter than the grid has one
    cell a pixel.

    >>> cell_sums(torch.arange(6.0).view(1, 2, 3), 2).tolist()
    [[1.0, 2.0, 7.0, 5.0]]
    """
    height, width = maps.shape[1:]
    rows, columns = _members(height, grid, maps), _members(width, grid, maps)
    return torch.einsum("nyx,yr,xc->nrc", maps.double(), rows, columns).flatten(1)


def _members(size: int, grid: int, like: Tensor) -> Tensor:
    cells = min(grid, size)
    index = torch.arange(size, device=like.device) * cells // size
    return F.one_hot(index, cells).double()
