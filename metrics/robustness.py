"""Robustness: do maps stay when the input hardly changes?

Every metric explains perturbed copies with the method's own random draws unchanged (common random
numbers), so a stochastic method is charged for the perturbation alone; controls that are re-seeded
from call to call are not spared. A constant map is perfectly stable: never read these alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.ranks import average_ranks, pearson
from xbench.operations.similarity import top_overlap
from xbench.registry import METRICS
from xbench.streams import Streams

from ._inputs import keeps_prediction, nanmax, nanmean, noise

LEVELS = (0.01, 0.02, 0.05, 0.10)


@METRICS.register
@dataclass(frozen=True)
class NoiseStability(Metric):
    """Agreement of the maps of x and x + N(0, sigma^2), sigma 1, 2, 5 and 10 % of the pixel range.

    The value is the mean over the levels and draws of the signed Spearman correlation; the curves
    `spearman` and `iou` (intersection over union of the top share) have one point a level. The
    same standard normal draw is scaled to every level. Noisy pixels are not clipped.

    Attributes:
        draws: noise draws a level.
        top: share of pixels whose overlap is measured; chance is top / (2 - top).
    """

    draws: int = 1
    top: float = 0.1

    card: ClassVar[MetricCard] = MetricCard(
        name="noise_stability",
        summary="signed Spearman of the maps of an image and of its noisy copies",
        paper="Alvarez-Melis & Jaakkola 2018, On the Robustness of Interpretability Methods",
        limitations="A prior that ignores the image is perfectly stable.",
        property="robustness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model", "explain"),
        forwards="1 + 4 * draws",
        explains="4 * draws",
        invariances=("monotone", "scale", "shift"),
        chance="0 for a map drawn anew at each call",
        default=True,
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        if self.draws < 1:
            raise ParameterError("draws must be at least 1.")
        if not 0 < self.top < 1:
            raise ParameterError("top is a share of the pixels, between 0 and 1.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Mean signed Spearman over levels and draws; higher is better."""
        own = average_ranks(case.maps.flatten(1))
        ranks, overlaps, kept = [], [], []
        for level in LEVELS:
            for draw in range(self.draws):
                images = case.images + level * noise(case, "normal", draw, streams)
                maps = case.explain(images, call=f"noise {level} {draw}")
                ranks.append(pearson(own, average_ranks(maps.flatten(1))))
                overlaps.append(top_overlap(case.maps, maps, self.top, streams, str(level), draw))
                key = ("noise", streams.seed, streams.repetition, level, draw)
                kept.append(keeps_prediction(case, key, images))
        shape = (len(case), len(LEVELS), self.draws)
        spearman = torch.stack(ranks, dim=1).view(shape)
        overlap = torch.stack(overlaps, dim=1).view(shape)
        same = torch.stack(kept, dim=1).view(shape)
        return Scores.of(
            nanmean(spearman),
            curves={"spearman": spearman.nanmean(dim=2), "iou": overlap.nanmean(dim=2)},
            details={
                "iou": nanmean(overlap),
                "same_prediction": nanmean(spearman.masked_fill(~same, torch.nan)),
                "kept": same.double().flatten(1).mean(dim=1),
            },
            reason="The map is constant, or constant for all noisy copies.",
        )


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
        summary="largest relative change of the map under small uniform noise",
        paper="Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations",
        limitations="The maximum grows with the number of draws; a constant map is the best.",
        property="robustness",
        direction="lower",
        range=(0.0, float("inf")),
        needs=("model", "explain"),
        forwards="1 + draws",
        explains="draws",
        invariances=("scale", "sign"),
        chance="0.71 for uniform and 1.41 for Gaussian maps drawn anew at each call",
        default=True,
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        if self.draws < 1:
            raise ParameterError("draws must be at least 1.")
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
        "summary": "mean relative change of the map under small uniform noise",
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
