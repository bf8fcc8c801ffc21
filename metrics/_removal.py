"""What every metric that removes pixels shares: outputs of the target, both ends, one curve."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from xbench.contracts import Case, Scores
from xbench.errors import ParameterError
from xbench.operations.adaptive import MIN_POINTS, Floats, Integers, between, points_of, sample
from xbench.operations.curves import removal_logits
from xbench.operations.imputers import (
    NOISY,
    Imputer,
    check_imputer,
    imputed_logits,
    make_imputer,
    mean_color,
)
from xbench.streams import Streams


@dataclass(frozen=True)
class Outputs:
    """What the model says of the target on K variants of each image.

    Attributes:
        logit: float64 (N, K), the target's raw score.
        probability: float64 (N, K), softmax.
        top: int64 (N, K), the class with the largest score.
    """

    logit: Tensor
    probability: Tensor
    top: Tensor

    @staticmethod
    def of(logits: Tensor, targets: Tensor) -> "Outputs":
        """Of logits (N, K, classes) and targets (N,)."""
        index = targets.to(logits.device).view(-1, 1, 1).expand(-1, logits.shape[1], 1)
        wide = logits.double()
        return Outputs(
            wide.gather(2, index)[..., 0].cpu(),
            wide.softmax(dim=2).gather(2, index)[..., 0].cpu(),
            logits.argmax(dim=2).cpu(),
        )

    @staticmethod
    def join(*parts: "Outputs") -> "Outputs":
        """Side by side along K."""
        return Outputs(
            torch.cat([part.logit for part in parts], dim=1),
            torch.cat([part.probability for part in parts], dim=1),
            torch.cat([part.top for part in parts], dim=1),
        )


def check_curve(steps: int, *imputers: str, points: int = 0) -> None:
    """Refuse parameters that make no curve.

    Raises:
        ParameterError: fewer than two steps, too few points, or an unknown imputer.
    """
    if steps < 2:
        raise ParameterError(f"A curve takes at least 2 steps, not {steps}.")
    if points and points < MIN_POINTS:
        raise ParameterError(
            f"A curve takes at least {MIN_POINTS} points, not {points}; 0 measures every step."
        )
    for imputer in imputers:
        check_imputer(imputer)


def targets_key(case: Case) -> tuple[int, ...]:
    """The classes asked for, as part of a bank key."""
    return tuple(case.targets.tolist())


def clean_outputs(case: Case) -> Outputs:
    """On the untouched images, K = 1; one forward an image, once for all methods and metrics."""

    def compute() -> Outputs:
        return Outputs.of(case.model.logits(case.images)[:, None], case.targets)

    found: Outputs = case.bank.get(("outputs", "clean", targets_key(case)), compute)
    return found


def draw_of(name: str, streams: Streams, draw: int = 0) -> tuple[str, int, int]:
    """An imputer and its noise as part of a bank key; imputers without noise have one draw."""
    return (name, streams.repetition, draw) if name in NOISY else (name, 0, 0)


def imputer_of(case: Case, name: str, streams: Streams, draw: int = 0) -> Imputer:
    """The imputer on these images, made once for all methods; the same noise for all."""
    key = draw_of(name, streams, draw)

    def compute() -> Imputer:
        mean = mean_color(case.model)
        scope = "shared" if key[2] == 0 else f"shared {key[2]}"
        return make_imputer(name, case.images, mean=mean, streams=streams.shared().scoped(scope))

    found: Imputer = case.bank.get(("imputer", key), compute)
    return found


def removed_outputs(case: Case, name: str, streams: Streams) -> Outputs:
    """With every pixel removed, K = 1; one forward an image, once for all methods and metrics."""

    def compute() -> Outputs:
        imputer = imputer_of(case, name, streams)
        everywhere = torch.ones_like(case.images[:, :1], dtype=torch.bool)
        logits = imputed_logits(
            case.model, imputer, len(case), lambda index: (index, everywhere[index])
        )
        return Outputs.of(logits[:, None], case.targets)

    key = ("outputs", "removed", draw_of(name, streams), targets_key(case))
    found: Outputs = case.bank.get(key, compute)
    return found


def outputs_at(
    case: Case, ranks: Tensor, counts: Tensor, name: str, streams: Streams, draw: int = 0
) -> Outputs:
    """With the lowest ranks removed, at each of the K counts; K forwards an image.

    Args:
        case: the case.
        ranks: int64 (N, H*W), 0 goes first.
        counts: int64 (K,) or (N, K).
        name: the imputer.
        streams: of the metric.
        draw: which draw of the imputer's noise.
    """
    imputer = imputer_of(case, name, streams, draw)
    return Outputs.of(removal_logits(case.model, imputer, ranks, counts), case.targets)


def curve_outputs(
    case: Case, ranks: Tensor, counts: Tensor, name: str, streams: Streams
) -> Outputs:
    """A whole curve from nothing to everything removed; both ends come from the bank.

    Args:
        case: the case.
        ranks: int64 (N, H*W), 0 goes first.
        counts: int64 (K,) or (N, K), from 0 to everything.
        name: the imputer.
        streams: of the metric.
    """
    inner = outputs_at(case, ranks, counts[..., 1:-1], name, streams)
    return Outputs.join(clean_outputs(case), inner, removed_outputs(case, name, streams))


@dataclass(frozen=True)
class Curve:
    """A whole curve, K + 1 points; on straight lines between measured points, where not all are.

    Attributes:
        probability: float64 (N, K + 1), of the target.
        logit: float64 (N, K + 1), its raw score.
        points: how many points of each were measured.
        error: float64 (N,), how far its area may lie from that of every step measured; 0 there.
    """

    probability: Tensor
    logit: Tensor
    points: int
    error: Tensor

    def flip(self) -> "Curve":
        """The same read from its end."""
        return replace(self, probability=self.probability.flip(1), logit=self.logit.flip(1))

    def details(self) -> dict[str, Tensor]:
        """What a metric tells of a curve that was not measured at every step."""
        if self.points == self.probability.shape[1]:
            return {}
        return {"error": self.error, "points": torch.full_like(self.error, self.points)}


def sampled_curve(
    case: Case, ranks: Tensor, counts: Tensor, name: str, streams: Streams, points: int
) -> Curve:
    """A curve of which at most `points` points are measured, where it moves; 0 measures all.

    All images take the same number, and each round measures those of all images together. The
    other arguments are those of `curve_outputs`, with counts (K + 1,).
    """
    steps = len(counts) - 1
    number = points_of(steps, points)
    if number == steps + 1:
        whole = curve_outputs(case, ranks, counts, name, streams)
        exact = torch.zeros(len(case), dtype=torch.float64)
        return Curve(whole.probability, whole.logit, number, exact)
    ends = Outputs.join(clean_outputs(case), removed_outputs(case, name, streams))
    logits = np.zeros((len(case), steps + 1))
    logits[:, [0, steps]] = ends.logit.numpy()

    def measure(positions: Integers) -> Floats:
        found = outputs_at(case, ranks, counts[torch.from_numpy(positions)], name, streams)
        np.put_along_axis(logits, positions, found.logit.numpy(), axis=1)
        return found.probability.numpy()

    found = sample(measure, ends.probability.numpy(), steps, number)
    logit = between(found.positions, np.take_along_axis(logits, found.positions, axis=1))
    return Curve(
        torch.from_numpy(between(found.positions, found.values)),
        torch.from_numpy(logit),
        number,
        torch.from_numpy(found.error),
    )


def sound_maps(case: Case) -> tuple[Tensor, Tensor]:
    """The maps with broken images zeroed, and bool (N,) on the CPU: which are finite."""
    finite = torch.isfinite(case.maps.flatten(1)).all(dim=1)
    return torch.where(finite[:, None, None], case.maps, torch.zeros_like(case.maps)), finite.cpu()


def blank_where(
    scores_defined: Tensor,
    values: Tensor,
    *,
    curves: dict[str, Tensor] | None = None,
    details: dict[str, Tensor] | None = None,
    reason: str = "the map has NaN or infinite values",
) -> Scores:
    """Scores that are undefined, details and curves included, where `scores_defined` is False."""

    def blank(found: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (found.ndim - 1)
        return found.double().cpu().masked_fill(~scores_defined.view(shape), float("nan"))

    return Scores.of(
        blank(values),
        curves={key: blank(found) for key, found in (curves or {}).items()},
        details={key: blank(found) for key, found in (details or {}).items()},
        reason=reason,
    )
