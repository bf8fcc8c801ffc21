"""Robustness: do maps stay when the input hardly changes?

Every metric explains perturbed copies with the method's own random draws unchanged (common random
numbers), so a stochastic method is charged for the perturbation alone; controls that are re-seeded
from call to call are not spared. A constant map is perfectly stable: never read these alone.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.registry import METRICS
from xbench.streams import Streams

from ._inputs import check_count, check_share, keeps_prediction, nanmax, nanmean, noise
from ._stability import Perturbation, stability


@METRICS.register
@dataclass(frozen=True)
class NoiseStability(Metric):
    """Agreement of the maps of x and of x + N(0, sigma^2) under noise of rising strength.

    sigma is 10, 20, 50 and 100 % of `strongest`. The value is the mean over levels and draws of
    the signed Spearman correlation; the curves `spearman` and `iou` (intersection over union of
    the top share) have one point a level. The same standard normal draw is scaled to every level.
    Noisy pixels are not clipped.

    Attributes:
        strongest: largest sigma, as a share of the pixel range.
        draws: noise draws a level.
        top: share of pixels whose overlap is measured; chance is top / (2 - top).
    """

    strongest: float = 0.1
    draws: int = 1
    top: float = 0.1

    card: ClassVar[MetricCard] = MetricCard(
        name="noise_stability",
        summary="Signed Spearman of the maps of an image and of copies with 1 to 10 % noise.",
        paper="Alvarez-Melis & Jaakkola 2018, On the Robustness of Interpretability Methods",
        limitations="A prior that ignores the image is perfectly stable.",
        property="robustness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model", "explain"),
        forwards="1 + 4 * draws",
        shared="1 + 4 * draws",
        explains="4 * draws",
        invariances=("monotone", "scale", "shift"),
        chance="0 for a map drawn anew at each call",
        default=True,
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        check_count("draws", self.draws)
        check_share("top", self.top)
        if self.strongest <= 0:
            raise ParameterError("strongest must be positive.")

    @property
    def levels(self) -> tuple[float, ...]:
        """The standard deviations, shares of the pixel range."""
        return tuple(self.strongest * share for share in (0.1, 0.2, 0.5, 1.0))

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Mean signed Spearman over levels and draws; higher is better."""
        copies = [
            Perturbation(f"noise {level} {draw}", partial(_noisy, case, level, draw, streams))
            for level in self.levels
            for draw in range(self.draws)
        ]
        return stability(case, copies, len(self.levels), self.top, streams)


METRICS.preset(
    "rising_noise_stability",
    NoiseStability,
    card={
        "summary": "Signed Spearman of the maps of an image and of copies with 4 to 40 % noise.",
        "default": False,
    },
    strongest=0.4,
)


def _noisy(case: Case, level: float, draw: int, streams: Streams) -> Tensor:
    return case.images + level * noise(case, "normal", draw, streams)


@METRICS.register
@dataclass(frozen=True)
class Sensitivity(Metric):
    """Relative change of the map in a small neighborhood of the image.

    max (or mean) over d of |phi(x + d) - phi(x)|_2 / |phi(x)|_2, with d uniform in
    [-radius, radius] at every value, estimated from `draws` draws. Pixels are not clipped. The
    detail `same_prediction` takes only draws that leave the predicted class as it was, `kept` is
    their share.

    Attributes:
        radius: half width of the neighborhood, as a share of the pixel range.
        draws: number of draws.
        statistic: "max" or "mean" over the draws.
    """

    radius: float = 0.02
    draws: int = 10
    statistic: str = "max"

    card: ClassVar[MetricCard] = MetricCard(
        name="max_sensitivity",
        summary="Largest relative change of the map under small uniform noise.",
        paper="Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations",
        limitations="The maximum grows with the number of draws; a constant map is the best.",
        property="robustness",
        direction="lower",
        range=(0.0, float("inf")),
        needs=("model", "explain"),
        forwards="1 + draws",
        shared="1 + draws",
        explains="draws",
        invariances=("scale", "sign"),
        chance="0.71 for uniform and 1.41 for Gaussian maps drawn anew at each call",
        default=True,
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        check_count("draws", self.draws)
        if self.radius <= 0:
            raise ParameterError("radius must be positive.")
        if self.statistic not in ("max", "mean"):
            raise ParameterError(f"statistic is max or mean, not '{self.statistic}'.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """The relative change over the draws; lower is better; undefined for a zero map."""
        changes, kept = [], []
        for draw in range(self.draws):
            images = case.images + self.radius * noise(case, "uniform", draw, streams)
            maps = case.explain(images, call=f"sensitivity {self.radius} {draw}")
            changes.append(relative_change(case.maps, maps))
            key = ("sensitivity", streams.seed, streams.repetition, self.radius, draw)
            kept.append(keeps_prediction(case, key, images))
        change, same = torch.stack(changes, dim=1), torch.stack(kept, dim=1)
        reduce = nanmax if self.statistic == "max" else nanmean
        return Scores.of(
            reduce(change),
            details={
                "same_prediction": reduce(change.masked_fill(~same, torch.nan)),
                "kept": same.double().mean(dim=1),
            },
            reason="The map is zero everywhere.",
        )


METRICS.preset(
    "avg_sensitivity",
    Sensitivity,
    card={
        "summary": "Mean relative change of the map under small uniform noise.",
        "limitations": "A constant map is the best.",
        "default": False,
    },
    statistic="mean",
)


def relative_change(maps: Tensor, changed: Tensor) -> Tensor:
    """|changed - maps|_2 / |maps|_2 of every image, float64 (N,); NaN for a zero map.

    >>> relative_change(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[3.0, 3.0]]])).item()
    0.2
    """
    flat, other = maps.flatten(1).double(), changed.flatten(1).double()
    size = flat.square().sum(dim=1).sqrt()
    change = (other - flat).square().sum(dim=1).sqrt()
    return (change / size).masked_fill(size == 0, torch.nan)
