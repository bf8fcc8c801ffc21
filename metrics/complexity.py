"""Complexity: over how many pixels does a map spread? Descriptive; no direction is better."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
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
        summary="Gini index of the absolute map",
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
