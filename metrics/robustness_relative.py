"""Robustness relative to how much the input, the output or the features changed."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.classifier.shifted import shifted
from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.ranks import spearman
from xbench.registry import METRICS
from xbench.streams import Streams

from ._inputs import check_count, keeps_prediction, nanmax, noise
from .robustness import relative_change

KINDS = ("input", "output", "representation")


@METRICS.register
@dataclass(frozen=True)
class LocalLipschitz(Metric):
    """Local Lipschitz estimate of the explanation as a function of the image.

    max over d of |phi(x) - phi(x + d)|_2 / |d|_2, d uniform in [-radius, radius] at every value.
    The paper takes maps as they come; here both are divided by max |phi(x)| of the image's own
    map, so that loud and quiet methods compare (`normalize=false` for the paper's).

    Attributes:
        radius: half width of the neighborhood, as a share of the pixel range.
        draws: number of draws.
        normalize: whether maps are scaled.
    """

    radius: float = 0.02
    draws: int = 10
    normalize: bool = True

    card: ClassVar[MetricCard] = MetricCard(
        name="local_lipschitz",
        summary="Largest change of the map for the size of the change of the image.",
        paper="Alvarez-Melis & Jaakkola 2018, Towards Robust Interpretability",
        limitations="Depends on the resolution; grows with the draws; a constant map is the best.",
        property="robustness",
        direction="lower",
        range=(0.0, float("inf")),
        needs=("model", "explain"),
        forwards="1 + draws",
        shared="1 + draws",
        explains="draws",
        invariances=("scale", "sign"),
        chance="about 0.7 sqrt(1 / channels) / radius for uniform maps drawn anew at each call",
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        _check(self.radius, self.draws)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """The largest ratio over the draws; lower is better; undefined for a zero map."""
        ratios, kept = [], []
        size = case.maps.flatten(1).double().abs().amax(dim=1)
        scale = size if self.normalize else torch.ones_like(size)
        for draw in range(self.draws):
            step = self.radius * noise(case, "uniform", draw, streams)
            maps = case.explain(case.images + step, call=f"sensitivity {self.radius} {draw}")
            moved = _norm(maps.double() - case.maps.double())
            ratios.append((moved / scale / _norm(step.double())).masked_fill(size == 0, torch.nan))
            key = ("sensitivity", streams.seed, streams.repetition, self.radius, draw)
            kept.append(keeps_prediction(case, key, case.images + step))
        return _largest(ratios, kept)


@METRICS.register
@dataclass(frozen=True)
class RelativeStability(Metric):
    """Relative input, output or representation stability.

    The largest change of the map for the change of what it explains,
    max over x' of |(phi(x) - phi(x')) / phi(x)|_2 / max(D, 1e-6), x' = x + d of the same
    predicted class, d uniform in [-radius, radius], with D

    - "input": |(x - x') / x|_2,
    - "output": |f(x) - f(x')|_2 of the logits,
    - "representation": |(L(x) - L(x')) / L(x)|_2 of the layer's features.

    Quotients are by element. The paper divides by elements as they come, so those at zero decide
    everything, down to rounding; here no divisor is smaller than `floor` times the largest
    element. The value takes only x' that keep the predicted class, as the paper demands; the detail
    `any_prediction` takes all.

    Attributes:
        kind: what the change is relative to.
        radius: half width of the neighborhood, as a share of the pixel range.
        draws: number of draws.
        layer: whose features, a role or a dotted name; "representation" only.
        floor: smallest divisor, as a share of the image's largest element.
    """

    kind: str = "input"
    radius: float = 0.02
    draws: int = 10
    layer: str = "last_conv"
    floor: float = 1e-3

    card: ClassVar[MetricCard] = MetricCard(
        name="relative_input_stability",
        summary="Largest relative change of the map for the relative change of the image.",
        paper="Agarwal et al. 2022, Rethinking Stability for Attribution-based Explanations",
        limitations="Ruled by elements near zero, of the map above all; depends on `floor`.",
        property="robustness",
        direction="lower",
        range=(0.0, float("inf")),
        needs=("model", "explain"),
        forwards="1 + draws",
        shared="1 + draws",
        explains="draws",
        invariances=("scale", "sign"),
        chance="hundreds for a map drawn anew at each call; depends on `floor`",
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        _check(self.radius, self.draws)
        if self.kind not in KINDS:
            raise ParameterError(f"kind is {', '.join(KINDS)}, not '{self.kind}'.")
        if not 0 < self.floor <= 1:
            raise ParameterError("floor is a share of the largest element, above 0, at most 1.")

    def supports(self, case: Case) -> str | None:
        """Why the representation cannot be read, if it cannot."""
        if self.kind != "representation":
            return None
        layer = case.model.find_layer(self.layer, case.images)
        if layer is None:
            return "The model has no convolutional layer whose features could be compared."
        if layer.calls > 1:
            return f"The layer '{layer.name}' runs more than once; choose another with layer=NAME."
        return None

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """The largest ratio over draws that keep the class; lower is better."""
        clean, features = self._response(case, case.images, "clean")
        ratios, kept = [], []
        for draw in range(self.draws):
            images = case.images + self.radius * noise(case, "uniform", draw, streams)
            maps = case.explain(images, call=f"sensitivity {self.radius} {draw}")
            key = (streams.seed, streams.repetition, self.radius, draw)
            logits, moved = self._response(case, images, key)
            if self.kind == "input":
                below = _by_element(case.images, images, self.floor)
            elif self.kind == "output":
                below = _norm(clean.double() - logits.double())
            else:
                below = _by_element(features, moved, self.floor)
            ratios.append(_by_element(case.maps, maps, self.floor) / below.clamp(min=1e-6))
            kept.append(logits.argmax(dim=1) == clean.argmax(dim=1))
        ratio, same = torch.stack(ratios, dim=1), torch.stack(kept, dim=1)
        return Scores.of(
            nanmax(ratio.masked_fill(~same, torch.nan)),
            details={"any_prediction": nanmax(ratio), "kept": same.double().mean(dim=1)},
            reason="The map is zero everywhere, or every draw changed the predicted class.",
        )

    def _response(self, case: Case, images: Tensor, key: object) -> tuple[Tensor, Tensor]:
        """Logits and (for "representation") features, in one pass, shared by all methods."""

        def compute() -> tuple[Tensor, Tensor]:
            if self.kind != "representation":
                return case.model.logits(images), images[:, :0]
            layer = case.model.layer(self.layer, case.images)
            with case.model.captured(layer) as kept:
                logits = case.model.logits(images)
            return logits, torch.cat(kept).detach()

        layer = self.layer if self.kind == "representation" else ""
        found: tuple[Tensor, Tensor] = case.bank.get(("response", layer, key), compute)
        return found


METRICS.preset(
    "relative_output_stability",
    RelativeStability,
    card={"summary": "Largest relative change of the map for the change of the logits."},
    kind="output",
)
METRICS.preset(
    "relative_representation_stability",
    RelativeStability,
    card={"summary": "Largest relative change of the map for the relative change of the features."},
    kind="representation",
)


@METRICS.register
@dataclass(frozen=True)
class InputInvariance(Metric):
    """Whether a constant shift of the input, undone by the network, leaves the map as it is.

    With g(x + m) = f(x) for all x, the value is the signed Spearman correlation of the map of f at
    x and that of g at x + m; the detail `relative_change` is |difference|_2 / |map|_2. Methods
    that multiply by the input, or compare with a fixed color (a baseline, the fill of an
    occlusion), fail; what they take from the image itself moves along.

    Attributes:
        offset: m, added to every pixel value; -1 moves [0, 1] to [-1, 0] as in the paper.
    """

    offset: float = -1.0

    card: ClassVar[MetricCard] = MetricCard(
        name="input_invariance",
        summary="Signed Spearman of the maps before and after a shift that the network undoes.",
        paper="Kindermans et al. 2017, The (Un)reliability of Saliency Methods",
        limitations="Shifted pixels lie outside [0, 1]; a reference taken from the image passes.",
        property="robustness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model", "explain"),
        explains="1",
        invariances=("monotone", "scale", "shift"),
        chance="0 for a map drawn anew at each call",
    )

    def __post_init__(self) -> None:
        """Refuse a shift by nothing."""
        if self.offset == 0:
            raise ParameterError("offset must not be 0.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Signed Spearman of the two maps; higher is better; undefined for constant maps."""
        maps = case.explain(
            case.images + self.offset,
            model=shifted(case.model, self.offset),
            call=f"offset {self.offset}",
        )
        return Scores.of(
            spearman(case.maps, maps),
            details={"relative_change": relative_change(case.maps, maps)},
            reason="One of the two maps is constant.",
        )


def _check(radius: float, draws: int) -> None:
    check_count("draws", draws)
    if radius <= 0:
        raise ParameterError("radius must be positive.")


def _norm(values: Tensor) -> Tensor:
    return values.flatten(1).square().sum(dim=1).sqrt()


def _by_element(values: Tensor, changed: Tensor, floor: float) -> Tensor:
    """|(values - changed) / max(|values|, floor max |values|)|_2, NaN where all are zero."""
    flat, other = values.flatten(1).double(), changed.flatten(1).double()
    size = flat.abs()
    least = floor * size.amax(dim=1, keepdim=True)
    return _norm((flat - other) / torch.maximum(size, least)).masked_fill(
        least[:, 0] == 0, torch.nan
    )


def _largest(ratios: list[Tensor], kept: list[Tensor]) -> Scores:
    ratio, same = torch.stack(ratios, dim=1), torch.stack(kept, dim=1)
    return Scores.of(
        nanmax(ratio),
        details={
            "same_prediction": nanmax(ratio.masked_fill(~same, torch.nan)),
            "kept": same.double().mean(dim=1),
        },
        reason="The map is zero everywhere.",
    )
