"""Randomization judged without comparing maps: does the map become more disordered (eMPRT)?"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.classifier.randomize import HOWS
from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.registry import METRICS
from xbench.streams import Streams

from .randomization import needs_weights, randomized_network


@METRICS.register
@dataclass(frozen=True)
class EntropyRise(Metric):
    """Relative rise of the map's entropy when all weights are randomized (eMPRT).

    (H(M_random) - H(M)) / H(M), H the entropy of the histogram of the map's values over
    equally wide bins between its own smallest and largest value. The details keep both entropies.

    Attributes:
        bins: number of bins.
        absolute: whether the histogram is of absolute values.
        how: how weights are randomized, see `cascading_randomization`.
    """

    bins: int = 100
    absolute: bool = False
    how: str = "permutation"

    card: ClassVar[MetricCard] = MetricCard(
        name="efficient_randomization",
        summary="Relative rise of the map's entropy under fully random weights (eMPRT).",
        paper="Hedström et al. 2024, A Fresh Look at Sanity Checks for Saliency Maps",
        limitations=(
            "Informational: it ranks guided backpropagation first, the opposite of cascading "
            "randomization; one outlier pixel empties most bins."
        ),
        property="randomization",
        direction="higher",
        range=(-1.0, float("inf")),
        needs=("model", "explain"),
        explains="1",
        invariances=("scale", "shift"),
        chance="0",
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        if self.bins < 2:
            raise ParameterError("bins must be at least 2.")
        if self.how not in HOWS:
            raise ParameterError(f"how is {' or '.join(HOWS)}, not '{self.how}'.")

    def supports(self, case: Case) -> str | None:
        """Why there is nothing to randomize, if so."""
        return needs_weights(case)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """The relative rise; higher is better; undefined where the map has no entropy."""
        network = randomized_network(case, self.how, streams)
        every = range(len(network.layers))
        maps = case.explain(
            case.images, model=network.at(every), call=f"random weights {self.how} {list(every)}"
        )
        before, after = self._entropy(case.maps), self._entropy(maps)
        return Scores.of(
            (after - before) / before,
            details={"before": before, "after": after},
            reason="The map is constant.",
        )

    def _entropy(self, maps: Tensor) -> Tensor:
        return histogram_entropy(maps.abs() if self.absolute else maps, self.bins)


def histogram_entropy(maps: Tensor, bins: int) -> Tensor:
    """Entropy in nats of the values of each map over equal bins of its own range, float64 (N,).

    >>> histogram_entropy(torch.tensor([[[0.0, 1.0]], [[3.0, 3.0]]]), 2).tolist()
    [0.6931471805599453, 0.0]
    """
    flat = maps.flatten(1).double()
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    width = (high - low).masked_fill(high == low, 1.0)
    index = ((flat - low) / width * bins).floor().long().clamp(max=bins - 1)
    ones = torch.ones_like(flat)
    counts = torch.zeros(flat.shape[0], bins, device=flat.device, dtype=torch.float64)
    share = counts.scatter_add(1, index, ones) / flat.shape[1]
    return -torch.xlogy(share, share).sum(dim=1) + 0.0
