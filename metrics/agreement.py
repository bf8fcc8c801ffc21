"""Agreement: do two methods say the same of an image? Descriptive; agreement is not truth."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import MetricCard, PairMetric, Scores
from xbench.errors import ParameterError
from xbench.operations.selection import top_membership
from xbench.registry import METRICS
from xbench.streams import Streams

_NEEDS = ("pair",)


@METRICS.register
@dataclass(frozen=True)
class Iou(PairMetric):
    """Intersection over union of the two maps' top q pixels.

    Each map breaks its ties by its own random order, and the intersection is the expected one:
    with k pixels selected and membership probabilities u, v the score is s / (2 k - s), where
    s = sum u v. A draw shared by both maps would make them agree where both are flat; here a
    constant map scores exactly chance, and so does, against itself, the flat part of a map whose
    top q reaches into it.

    Args:
        q: share of the pixels selected.
    """

    q: float = 0.1

    card: ClassVar[MetricCard] = MetricCard(
        name="iou",
        summary="Intersection over union of the two maps' top pixels",
        paper="top-k agreement after Krishna et al. 2022",
        property="agreement",
        direction="none",
        range=(0.0, 1.0),
        needs=_NEEDS,
        invariances=("monotone", "scale", "shift"),
        chance="q / (2 - q): 0.053 at q = 0.1",
        default=True,
    )

    def __post_init__(self) -> None:
        if not 0 < self.q <= 1:
            raise ParameterError("iou[q=...] is a share of the pixels, above 0 and at most 1.")

    def compare(self, first: Tensor, second: Tensor, *, streams: Streams) -> Scores:
        """Overlap of the top masks, (N,); NaN where a map is not finite."""
        count = max(1, round(self.q * first.shape[1] * first.shape[2]))
        shared = (top_membership(first, count) * top_membership(second, count)).sum(dim=1)
        return _defined(shared / (2 * count - shared), finite(first, second))


def finite(first: Tensor, second: Tensor) -> Tensor:
    """Rows where both maps are finite, bool (N,)."""
    return torch.isfinite(first).flatten(1).all(dim=1) & torch.isfinite(second).flatten(1).all(
        dim=1
    )


def _defined(values: Tensor, rows: Tensor) -> Scores:
    return Scores.of(values.masked_fill(~rows, torch.nan), reason="one of the maps is not finite")
