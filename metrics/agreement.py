"""Agreement: do two methods say the same of an image? Descriptive; agreement is not truth."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import MetricCard, PairMetric, Scores
from xbench.errors import ParameterError
from xbench.operations.ranks import spearman
from xbench.operations.selection import top_membership
from xbench.operations.similarity import map_ssim
from xbench.registry import METRICS
from xbench.streams import Streams

_NEEDS = ("pair",)


@METRICS.register
@dataclass(frozen=True)
class Iou(PairMetric):
    """Intersection over union of the two maps' top q pixels.

    Each map breaks its ties by its own random order, and the intersection is the expected one:
    with k pixels selected and membership probabilities u, v the score is s / (2 k - s), where
    s = sum u v. A draw shared by both maps would make them agree where both are flat; here the
    flat parts of two maps agree as often as chance has it, and a map whose top q reaches into its
    flat part does not fully agree with itself. A constant map selects nothing and is undefined.

    Attributes:
        q: share of the pixels selected.
    """

    q: float = 0.1

    card: ClassVar[MetricCard] = MetricCard(
        name="iou",
        summary="Intersection over union of the two maps' top 10 % of the pixels.",
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
        """Overlap of the top masks, (N,)."""
        count = max(1, round(self.q * first.shape[1] * first.shape[2]))
        shared = (top_membership(first, count) * top_membership(second, count)).sum(dim=1)
        return where_defined(shared / (2 * count - shared), first, second)


@METRICS.register
@dataclass(frozen=True)
class SpearmanAgreement(PairMetric):
    """Spearman correlation of the two maps' pixels, ties with average ranks.

    Attributes:
        absolute: compare |a| instead of a.
    """

    absolute: bool = False

    card: ClassVar[MetricCard] = MetricCard(
        name="spearman_agreement",
        summary="Spearman correlation of the two signed maps.",
        paper="Krishna et al. 2022, The disagreement problem in explainable machine learning",
        property="agreement",
        direction="none",
        range=(-1.0, 1.0),
        needs=_NEEDS,
        invariances=("monotone", "scale", "shift"),
        chance="0",
    )

    def compare(self, first: Tensor, second: Tensor, *, streams: Streams) -> Scores:
        """Correlation, (N,)."""
        a, b = (first.abs(), second.abs()) if self.absolute else (first, second)
        return where_defined(spearman(a, b), first, second)


METRICS.preset(
    "abs_spearman_agreement",
    SpearmanAgreement,
    card={
        "summary": "Spearman correlation of the two absolute maps.",
        "limitations": "Zero background ties maps of one image together, whatever they say.",
        "invariances": ("scale", "sign"),
    },
    absolute=True,
)


@METRICS.register
@dataclass(frozen=True)
class SsimAgreement(PairMetric):
    """SSIM of the two absolute maps, each clipped at and divided by its 99th percentile."""

    card: ClassVar[MetricCard] = MetricCard(
        name="ssim_agreement",
        summary="Structural similarity of the two absolute maps.",
        paper="Wang et al. 2004; for saliency maps Adebayo et al. 2018",
        limitations="High for any two sparse maps; undefined on sides shorter than 11 pixels and "
        "where a map is flat after clipping.",
        property="agreement",
        direction="none",
        range=(-1.0, 1.0),
        needs=_NEEDS,
        invariances=("scale", "sign"),
        chance="depends on the texture of the maps; compare with the random control",
    )

    def compare(self, first: Tensor, second: Tensor, *, streams: Streams) -> Scores:
        """Similarity, (N,)."""
        return where_defined(map_ssim(first, second), first, second)


def where_defined(values: Tensor, first: Tensor, second: Tensor) -> Scores:
    """Scores with NaN where one of the maps is constant or not finite."""
    rows = torch.ones(first.shape[0], dtype=torch.bool, device=first.device)
    for maps in (first.flatten(1), second.flatten(1)):
        rows &= torch.isfinite(maps).all(dim=1) & (maps.amax(dim=1) > maps.amin(dim=1))
    return Scores.of(
        values.masked_fill(~rows, torch.nan), reason="one of the maps is constant or not finite"
    )
