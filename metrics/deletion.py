"""Deletion and insertion curves over pixels (Petsiuk et al. 2018), with their gap."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.operations.curves import area, rescaled, step_counts, tie_share
from xbench.operations.ranks import order_ranks
from xbench.registry import LATER, METRICS
from xbench.streams import Streams

from ._removal import Curve, blank_where, check_curve, sampled_curve, sound_maps

_PAPER = "Petsiuk et al., RISE, BMVC 2018"
_POINTS = "min(points, steps + 1) if points else steps + 1"


def pixel_order(maps: Tensor, streams: Streams) -> Tensor:
    """Most relevant pixel first, ties at random; the same draw for all metrics, int64 (N, H*W)."""
    return order_ranks(maps, streams.shared(), "removal")


def deletion_curve(
    case: Case,
    maps: Tensor,
    streams: Streams,
    steps: int,
    imputer: str,
    *,
    points: int = 0,
    least: bool = False,
) -> Curve:
    """The curve while pixels are removed, most relevant first (or least), K = steps."""
    ranks = pixel_order(maps, streams)
    pixels = ranks.shape[1]
    ranks = pixels - 1 - ranks if least else ranks
    return sampled_curve(case, ranks, step_counts(pixels, steps), imputer, streams, points)


def insertion_curve(
    case: Case, maps: Tensor, streams: Streams, steps: int, imputer: str, *, points: int = 0
) -> Curve:
    """The curve while pixels come back, most relevant first, K = steps.

    Having the top k back is having the others removed, so it is the curve of least relevant
    first, read from its end.
    """
    ranks = pixel_order(maps, streams)
    pixels = ranks.shape[1]
    counts = pixels - step_counts(pixels, steps).flip(0)
    return sampled_curve(case, pixels - 1 - ranks, counts, imputer, streams, points).flip()


@METRICS.register
@dataclass(frozen=True)
class Deletion(Metric):
    """Area under p_c while the most relevant pixels are replaced.

    AUC = trapezoid over k = 0..K of p_c(x with the top k/K of its pixels imputed), x axis in
    [0, 1]; p_c is the softmax probability of the target. `normalized` puts the removed image at 0
    and the clean one at 1 first; it is NaN where they lie less than 0.01 apart.

    Attributes:
        steps: K, the number of steps; both ends count, so there are K + 1 points.
        imputer: what takes the place of removed pixels.
        points: how many of the points are measured, chosen where the curve moves; 0 for all.
    """

    steps: int = 28
    imputer: str = "mean"
    points: int = field(default=0, metadata=LATER)

    card: ClassVar[MetricCard] = MetricCard(
        name="deletion",
        summary="Area under the target's probability while the most relevant pixels are removed.",
        paper=_PAPER,
        limitations="Scattered single pixels act as adversarial noise, which favors maps of high "
        "frequency; a fill that equals a method's own baseline favors that method.",
        property="faithfulness",
        direction="lower",
        range=(0.0, 1.0),
        needs=("model",),
        forwards=_POINTS,
        shared="2",
        invariances=("monotone", "scale", "shift"),
        chance="the random control, below the clean probability; a constant map gets the same",
        default=True,
    )

    def __post_init__(self) -> None:
        check_curve(self.steps, self.imputer, points=self.points)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Area per image; curves `probability` and `logit`, details `normalized`, `ties`.

        With `points`, details `error` (a bound, see `xbench.operations.adaptive`) and `points`.
        """
        maps, finite = sound_maps(case)
        found = deletion_curve(case, maps, streams, self.steps, self.imputer, points=self.points)
        p = found.probability
        return blank_where(
            finite,
            area(p),
            curves={"probability": p, "logit": found.logit},
            details={
                "normalized": area(rescaled(p, p[:, 0], p[:, -1])),
                "ties": tie_share(maps),
                **found.details(),
            },
        )


@METRICS.register
@dataclass(frozen=True)
class Insertion(Metric):
    """Area under p_c while the most relevant pixels come back.

    AUC = trapezoid over k = 0..K of p_c(imputed image with the top k/K of the pixels of x).
    `start` is p_c of the imputed image: where it is not small, the start tells the class already.

    Attributes:
        steps: K, the number of steps; both ends count, so there are K + 1 points.
        imputer: the start of the curve.
        points: how many of the points are measured, chosen where the curve moves; 0 for all.
    """

    steps: int = 28
    imputer: str = "blur"
    points: int = field(default=0, metadata=LATER)

    card: ClassVar[MetricCard] = MetricCard(
        name="insertion",
        summary="Area under the target's probability while the most relevant pixels come back.",
        paper=_PAPER,
        limitations="Smooth maps are favored: a center prior beats the gradient on photographs. "
        "Saturated where a few pixels suffice.",
        property="faithfulness",
        direction="higher",
        range=(0.0, 1.0),
        needs=("model",),
        forwards=_POINTS,
        shared="2",
        invariances=("monotone", "scale", "shift"),
        chance="the random control; a constant map gets the same",
        default=True,
    )

    def __post_init__(self) -> None:
        check_curve(self.steps, self.imputer, points=self.points)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Area per image; curves `probability`, `logit`, details `normalized`, `start`, `ties`.

        With `points`, details `error` (a bound, see `xbench.operations.adaptive`) and `points`.
        """
        maps, finite = sound_maps(case)
        found = insertion_curve(case, maps, streams, self.steps, self.imputer, points=self.points)
        p = found.probability
        return blank_where(
            finite,
            area(p),
            curves={"probability": p, "logit": found.logit},
            details={
                "normalized": area(rescaled(p, p[:, -1], p[:, 0])),
                "start": p[:, 0],
                "ties": tie_share(maps),
                **found.details(),
            },
        )


METRICS.preset(
    "deletion_blur",
    Deletion,
    card={"summary": "Deletion where removed pixels are blurred (sigma 20 of 224)."},
    imputer="blur",
)
METRICS.preset(
    "deletion_tokens",
    Deletion,
    card={
        "summary": "Deletion from a vision transformer by leaving out the tokens of patches.",
        "limitations": "Only transformers with a class token; a patch goes when half of its "
        "pixels are removed.",
        "needs": ("model", "attention"),
        "default": False,
    },
    imputer="tokens",
)
METRICS.preset(
    "deletion_adaptive",
    Deletion,
    card={
        "summary": "Deletion in 224 steps, a quarter of them measured, where the curve moves.",
        "limitations": "An estimate: the detail `error` covers its distance from all steps on 95 % "
        "of curves. " + Deletion.card.limitations,
        "default": False,
    },
    steps=224,
    points=57,
)
METRICS.preset(
    "insertion_adaptive",
    Insertion,
    card={
        "summary": "Insertion in 224 steps, a quarter of them measured, where the curve moves.",
        "limitations": "An estimate: the detail `error` covers its distance from all steps on 95 % "
        "of curves. " + Insertion.card.limitations,
        "default": False,
    },
    steps=224,
    points=57,
)
METRICS.preset(
    "insertion_rise2018",
    Insertion,
    card={
        "summary": "Insertion from the blur of the RISE authors' code (11x11, sigma 5).",
        "limitations": "At 224 pixels the start still tells the class (probability .16 and more).",
        "default": False,
    },
    imputer="blur_rise",
)


@METRICS.register
@dataclass(frozen=True)
class InsertionMinusDeletion(Metric):
    """Insertion AUC minus deletion AUC, each with its own imputer.

    Attributes:
        steps: K of both curves.
        deletion_imputer: what takes the place of removed pixels.
        insertion_imputer: the start of insertion.
        points: how many points of each curve are measured, where it moves; 0 for all.
    """

    steps: int = 28
    deletion_imputer: str = "mean"
    insertion_imputer: str = "blur"
    points: int = field(default=0, metadata=LATER)

    card: ClassVar[MetricCard] = MetricCard(
        name="insertion_minus_deletion",
        summary="Insertion area minus deletion area.",
        paper="Zhang et al., Group-CAM, 2021; " + _PAPER,
        limitations="Adds two scores that rank methods differently; read both first.",
        property="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards=f"2 * ({_POINTS}) - (2 if deletion_imputer == insertion_imputer else 1)",
        shared="2 if deletion_imputer == insertion_imputer else 3",
        invariances=("monotone", "scale", "shift"),
        chance="the random control",
    )

    def __post_init__(self) -> None:
        check_curve(self.steps, self.deletion_imputer, self.insertion_imputer, points=self.points)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """The difference per image; details `insertion` and `deletion`.

        With `points`, details `error`, the root of the sum of both squared, and `points` of each.
        """
        maps, finite = sound_maps(case)
        removing = deletion_curve(
            case, maps, streams, self.steps, self.deletion_imputer, points=self.points
        )
        returning = insertion_curve(
            case, maps, streams, self.steps, self.insertion_imputer, points=self.points
        )
        deletion, insertion = area(removing.probability), area(returning.probability)
        details = {"insertion": insertion, "deletion": deletion, **removing.details()}
        if "error" in details:
            details["error"] = torch.hypot(removing.error, returning.error)
        return blank_where(finite, insertion - deletion, details=details)
