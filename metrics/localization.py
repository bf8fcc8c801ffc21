"""Localization: does a map point at the pixels that are known to count?

Rank metrics (pointing, rank accuracy, top-k) and mass metrics answer differently: mass punishes
coarse maps that are well placed, ranks do not see how much lies elsewhere. Report both.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from xbench.contracts import MetricCard
from xbench.errors import ParameterError
from xbench.operations.selection import dilate, random_argmax
from xbench.registry import METRICS
from xbench.streams import Streams

from ._truth import NO_MASS, TruthMetric, area_share, bounding_boxes, hits_at_area, positive_share

_NEEDS = ("truth",)


@METRICS.register
@dataclass(frozen=True)
class PointingGame(TruthMetric):
    """1 if the maximum of the map lies within `tolerance` of the object, else 0.

    Several equal maxima: one of them, by a seeded draw, so that coarse or constant maps gain
    nothing. Distance is Euclidean.

    Args:
        tolerance: pixels at a short side of 224; scaled with the short side and rounded.
    """

    tolerance: float = 15.0

    card: ClassVar[MetricCard] = MetricCard(
        name="pointing_game",
        summary="Whether the maximum lies on the object, give or take a tolerance.",
        paper="Zhang et al. 2018, Top-down neural attention by excitation backprop",
        limitations="One pixel decides; a prior on the center is strong on centered objects.",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        invariances=("monotone", "scale", "shift"),
        chance="the share of the image within the tolerance of the object",
        default=True,
    )

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise ParameterError(
                "pointing_game[tolerance=...] is a distance in pixels, at least 0."
            )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """1 for a hit, 0 for a miss, float64 (N,)."""
        point = random_argmax(maps, streams.uniform((1,), "argmax")[:, 0])
        return self._dilated(truth).flatten(1).gather(1, point[:, None])[:, 0].double()

    def chance(self, truth: Tensor) -> Tensor:
        """Share of the dilated mask, float64 (N,)."""
        return area_share(self._dilated(truth))

    def _dilated(self, truth: Tensor) -> Tensor:
        return dilate(truth, round(self.tolerance * min(truth.shape[1:]) / 224))


@METRICS.register
@dataclass(frozen=True)
class RankAccuracy(TruthMetric):
    """Share of the top |M| pixels that lie inside the mask M: |top(|M|) n M| / |M|.

    Ties count by the probability that a random order puts them on top.
    """

    card: ClassVar[MetricCard] = MetricCard(
        name="rank_accuracy",
        summary="Share of the |M| most relevant pixels that lie in the mask M.",
        paper="Arras et al. 2022, CLEVR-XAI",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        invariances=("monotone", "scale", "shift"),
        chance="the share of the image that the mask covers",
        default=True,
    )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """Share of hits among the top |M|, float64 (N,)."""
        return hits_at_area(maps, truth) / truth.flatten(1).sum(dim=1)

    def chance(self, truth: Tensor) -> Tensor:
        """Share of the mask, float64 (N,)."""
        return area_share(truth)


@METRICS.register
@dataclass(frozen=True)
class MassAccuracy(TruthMetric):
    """Share of the positive relevance that lies inside the mask M: sum_M a+ / sum a+."""

    undefined: ClassVar[str] = NO_MASS

    card: ClassVar[MetricCard] = MetricCard(
        name="mass_accuracy",
        summary="Share of the positive mass that lies in the mask.",
        paper="Arras et al. 2022, CLEVR-XAI",
        limitations="Punishes low resolution: a coarse map spills over the border of the object.",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        invariances=("scale",),
        chance="the share of the image that the mask covers",
        default=True,
    )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """Share of positive mass, float64 (N,)."""
        return positive_share(maps, truth)

    def chance(self, truth: Tensor) -> Tensor:
        """Share of the mask, float64 (N,)."""
        return area_share(truth)


@METRICS.register
@dataclass(frozen=True)
class EnergyPointingGame(TruthMetric):
    """Share of the positive relevance inside the bounding box of the object: sum_B a+ / sum a+."""

    undefined: ClassVar[str] = NO_MASS

    card: ClassVar[MetricCard] = MetricCard(
        name="energy_pointing_game",
        summary="Share of the positive mass that lies in the bounding box of the mask.",
        paper="Wang et al. 2020, Score-CAM",
        limitations="A box holds background too, which counts as a hit.",
        property="localization",
        direction="higher",
        range=(0.0, 1.0),
        needs=_NEEDS,
        invariances=("scale",),
        chance="the share of the image that the box covers",
    )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """Share of positive mass in the box, float64 (N,)."""
        return positive_share(maps, bounding_boxes(truth))

    def chance(self, truth: Tensor) -> Tensor:
        """Share of the box, float64 (N,)."""
        return area_share(bounding_boxes(truth))


@METRICS.register
@dataclass(frozen=True)
class AttributionLocalization(TruthMetric):
    """Inside-total relevance ratio, weighted by size: mu_w = (R_in / R_tot) (S_tot / S_in).

    R_in and R_tot sum the positive relevance inside the bounding box and in the image, S_in and
    S_tot count pixels; so 1 is what noise gets, whatever the size of the object.
    """

    undefined: ClassVar[str] = NO_MASS

    card: ClassVar[MetricCard] = MetricCard(
        name="attribution_localization",
        summary="Density of the positive mass in the bounding box over that in the image.",
        paper="Kohlbrenner et al. 2020, Towards best practice in explaining with LRP",
        limitations="Small objects can score higher than large ones; compare on the same images.",
        property="localization",
        direction="higher",
        range=(0.0, math.inf),
        needs=_NEEDS,
        invariances=("scale",),
        chance="1",
    )

    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """Weighted ratio, float64 (N,)."""
        box = bounding_boxes(truth)
        return positive_share(maps, box) / area_share(box)
