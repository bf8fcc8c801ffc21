"""Complexity: over how many pixels does a map spread? Descriptive; no direction is better."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.registry import METRICS
from xbench.streams import Streams

_REASON = "the map is zero everywhere or not finite"


@dataclass(frozen=True)
class SpreadMetric(Metric):
    """A statistic of how |a| is spread over the pixels of one map; undefined for a zero map."""

    @abstractmethod
    def values(self, shares: Tensor) -> Tensor:
        """The statistic of each row, float64 (N,).

        Args:
            shares: |a| over its largest value, float64 (N, H*W), sorted ascending.
        """

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """The statistic of each map, NaN for zero and non-finite maps."""
        sizes = case.maps.flatten(1).double().abs()
        largest = sizes.amax(dim=1, keepdim=True)
        defined = torch.isfinite(largest[:, 0]) & (largest[:, 0] > 0)
        shares = (sizes / largest).masked_fill(~defined[:, None], 1.0).sort(dim=1).values
        return Scores.of(self.values(shares).masked_fill(~defined, torch.nan), reason=_REASON)


@METRICS.register
@dataclass(frozen=True)
class Sparseness(SpreadMetric):
    """Gini index of |a|: sum_i (2 i - N - 1) |a|_(i) / (N sum |a|), values sorted ascending.

    0 for equal values everywhere, 1 - 1/N for a single pixel.
    """

    card: ClassVar[MetricCard] = MetricCard(
        name="sparseness",
        summary="Gini index of the absolute map.",
        paper="Chalasani et al. 2020; index after Hurley & Rickard 2009",
        property="complexity",
        direction="none",
        range=(0.0, 1.0),
        invariances=("scale", "sign"),
        chance="1/3 for uniform noise in [0, 1), 0.41 for Gaussian noise",
        default=True,
    )

    def values(self, shares: Tensor) -> Tensor:
        """Gini index, float64 (N,), in [0, 1)."""
        size = shares.shape[1]
        weight = 2 * torch.arange(1, size + 1, device=shares.device).double() - size - 1
        return (shares @ weight / (size * shares.sum(dim=1))).clamp(min=0)


@METRICS.register
@dataclass(frozen=True)
class Entropy(SpreadMetric):
    """Entropy of p = |a| / sum |a| over its largest value: -sum p ln p / ln N."""

    card: ClassVar[MetricCard] = MetricCard(
        name="entropy",
        summary="Entropy of the absolute map over that of a flat one.",
        paper="Bhatt et al. 2020, divided by ln N",
        property="complexity",
        direction="none",
        range=(0.0, 1.0),
        invariances=("scale", "sign"),
        chance="close to 1 for noise: 0.98 for 224 x 224 uniform values",
    )

    def values(self, shares: Tensor) -> Tensor:
        """Entropy in units of ln N, float64 (N,), in [0, 1]."""
        return (_entropy(shares) / math.log(max(2, shares.shape[1]))).clamp(0, 1)


@METRICS.register
@dataclass(frozen=True)
class Complexity(SpreadMetric):
    """Entropy of the fractional contributions in nats: -sum p ln p, p = |a| / sum |a|."""

    card: ClassVar[MetricCard] = MetricCard(
        name="complexity",
        summary="Entropy of the absolute map in nats, as in the paper.",
        paper="Bhatt et al. 2020, Evaluating and aggregating feature-based model explanations",
        limitations="Grows with the number of pixels; `entropy` is comparable between sizes.",
        property="complexity",
        direction="none",
        range=(0.0, math.inf),
        invariances=("scale", "sign"),
        chance="ln N for a flat map, a little less for noise",
    )

    def values(self, shares: Tensor) -> Tensor:
        """Entropy in nats, float64 (N,), at least 0."""
        return _entropy(shares).clamp(min=0)


@METRICS.register
@dataclass(frozen=True)
class EffectiveComplexity(SpreadMetric):
    """Share of the pixels with |a| > eps max |a|: how many count at all.

    The threshold is relative to the map's own maximum, so no other image and no scale matters.

    Attributes:
        eps: threshold as a share of the largest |a|.
    """

    eps: float = 0.01

    card: ClassVar[MetricCard] = MetricCard(
        name="effective_complexity",
        summary="Share of the pixels above 1 % of the largest absolute value.",
        paper="after Nguyen & Martinez 2020, with a relative threshold",
        limitations="One extreme pixel moves the threshold.",
        property="complexity",
        direction="none",
        range=(0.0, 1.0),
        invariances=("scale", "sign"),
        chance="0.99 for uniform noise",
    )

    def __post_init__(self) -> None:
        if not 0 <= self.eps < 1:
            raise ParameterError("effective_complexity[eps=...] is at least 0 and below 1.")

    def values(self, shares: Tensor) -> Tensor:
        """Share of pixels that count, float64 (N,)."""
        return (shares > self.eps).double().mean(dim=1)


@METRICS.register
@dataclass(frozen=True)
class Area50(SpreadMetric):
    """Smallest share of the pixels that holds half of the absolute mass.

    Attributes:
        mass: the share of the mass to hold.
    """

    mass: float = 0.5

    card: ClassVar[MetricCard] = MetricCard(
        name="area50",
        summary="Smallest share of the pixels that holds half of the absolute mass.",
        paper="a point of the Lorenz curve, Lorenz 1905",
        property="complexity",
        direction="none",
        range=(0.0, 1.0),
        invariances=("scale", "sign"),
        chance="0.29 for uniform noise, 0.5 for a flat map",
    )

    def __post_init__(self) -> None:
        if not 0 < self.mass <= 1:
            raise ParameterError("area50[mass=...] is a share of the mass, above 0 and at most 1.")

    def values(self, shares: Tensor) -> Tensor:
        """Share of pixels, float64 (N,), in (0, 1]."""
        held = shares.flip(1).cumsum(dim=1)
        wanted = self.mass * held[:, -1:] * (1 - 1e-12)
        return ((held < wanted).sum(dim=1).double() + 1) / shares.shape[1]


def _entropy(shares: Tensor) -> Tensor:
    p = shares / shares.sum(dim=1, keepdim=True)
    return -torch.xlogy(p, p).sum(dim=1)
