"""Localization by overlap: what thresholds of a map share with the mask of the object."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import MetricCard
from xbench.errors import ParameterError
from xbench.operations.ranks import average_ranks
from xbench.operations.selection import top_membership
from xbench.registry import METRICS
from xbench.streams import Streams

from ._truth import TruthMetric, hits_at_area

_NEEDS = ("truth",)
_RANKS = ("monotone", "scale", "shift")


@METRICS.register
@dataclass(frozen=True)
class MaskIou(TruthMetric):
    """IoU of the mask M with the top |M| pixels: h / (2 |M| - h), h the expected hits."""

    card: ClassVar[MetricCard] = MetricCard(
        name="mask_iou",
        summary="Intersection over union of the mask with as many top pixels.",
        paper="matched-area variant of the IoU of Zhou et al. 2016",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        invariances=_RANKS,
        chance="s / (2 - s), s the share of the image that the mask covers",
    )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """IoU at matched area, float64 (N,)."""
        hits = hits_at_area(maps, truth)
        return hits / (2 * truth.flatten(1).sum(dim=1) - hits)


@METRICS.register
@dataclass(frozen=True)
class BestMaskIou(TruthMetric):
    """Largest IoU of the mask with {a >= t} over all thresholds t, chosen for each image."""

    card: ClassVar[MetricCard] = MetricCard(
        name="best_mask_iou",
        summary="Intersection over union of the mask with the map at its best threshold.",
        paper="Choe et al. 2020, Evaluating weakly supervised object localization methods right",
        limitations="The threshold is chosen with the mask at hand: an upper bound.",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        invariances=_RANKS,
        chance="slightly above the share of the image that the mask covers",
    )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """IoU at the best threshold, float64 (N,)."""
        flat, inside = maps.flatten(1), truth.flatten(1)
        ordered, order = flat.sort(dim=1, descending=True)
        hits = inside.gather(1, order).double().cumsum(dim=1)
        taken = torch.arange(1, flat.shape[1] + 1, device=flat.device).double()
        overlap = hits / (taken + inside.sum(dim=1, keepdim=True) - hits)
        possible = torch.ones_like(inside)
        possible[:, :-1] = ordered[:, :-1] > ordered[:, 1:]
        return overlap.masked_fill(~possible, 0.0).amax(dim=1)


@METRICS.register
@dataclass(frozen=True)
class MaskAuc(TruthMetric):
    """Area under the pixel ROC: the chance that a pixel of M outranks one outside, ties half."""

    card: ClassVar[MetricCard] = MetricCard(
        name="mask_auc",
        summary="Chance that a pixel of the mask outranks a pixel outside.",
        paper="Fawcett 2006; for saliency Judd et al. 2012",
        limitations="Saturates for small objects: many easy pixels outside.",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        invariances=_RANKS,
        chance="1/2",
    )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """Mann-Whitney statistic over its largest value, float64 (N,)."""
        inside = truth.flatten(1).double()
        size = inside.sum(dim=1)
        ranks = (average_ranks(maps.flatten(1)) * inside).sum(dim=1)
        return (ranks - size * (size + 1) / 2) / (size * (inside.shape[1] - size))


@METRICS.register
@dataclass(frozen=True)
class TopKIntersection(TruthMetric):
    """Share of the top k pixels that lie inside the mask M: |top(k) n M| / k.

    Ties count by the probability that a random order puts them on top.

    Attributes:
        share: k as a share of the pixels (0.02 is 1003 pixels of 224 x 224).
        concept_influence: divide by the share of the image that the mask covers, so that 1 is
            chance.
    """

    share: float = 0.02
    concept_influence: bool = False

    card: ClassVar[MetricCard] = MetricCard(
        name="top_k_intersection",
        summary="Share of the top 2 % of the pixels that lie in the mask.",
        paper="Theiner et al. 2022, Interpretable semantic photo geolocation",
        property="localization",
        direction="higher",
        range=(0.0, float("inf")),
        needs=_NEEDS,
        invariances=_RANKS,
        chance="the share of the image that the mask covers, 1 with concept_influence",
    )

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ParameterError(
                "top_k_intersection[share=...] is a share of the pixels, above 0 and at most 1."
            )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """Expected hits over k, float64 (N,)."""
        inside = truth.flatten(1).double()
        count = max(1, round(self.share * inside.shape[1]))
        hits = (top_membership(maps, count) * inside).sum(dim=1) / count
        return hits / inside.mean(dim=1) if self.concept_influence else hits
