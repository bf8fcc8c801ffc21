"""Guided backpropagation and deconvnet: the gradient with another backward rule at every ReLU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.classifier.preparation import activations, is_relu, prepared
from xbench.classifier.single import right_with_hooks
from xbench.contracts import MethodCard
from xbench.errors import InvalidMapError, UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._pixel import PixelMethod

Rule = Callable[[Tensor, Tensor], Tensor]

_GATES = (nn.Sigmoid, nn.Hardsigmoid, nn.Tanh)


@METHODS.register
@dataclass(frozen=True)
class GuidedBackprop(PixelMethod):
    """The gradient, passing only where it is positive: R_in = 1[z > 0] 1[R_out > 0] R_out.

    Applied at every ReLU-like activation (ReLU, ReLU6, clamps from 0), module or function, on a
    prepared copy of the model; at a cap (6) the true derivative stands for 1[z > 0].
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="guided_backprop",
        family="gradient",
        summary="Gradient that passes each ReLU only where it is positive.",
        paper="Springenberg et al. 2015, Striving for Simplicity: The All Convolutional Net",
        limitations="Hardly depends on the upper layers or on the class: fails randomization "
        "checks; only for networks whose activations are ReLU.",
        needs=("gradients", "relu"),
        forwards="1",
        backwards="1",
    )

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks without ReLU, or with other activations between."""
        return relu_reason(model)

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Guided gradients, float32 (N, C, H, W)."""
        return ruled_gradients(model, images, targets, lambda own, _: own.clamp(min=0))


@METHODS.register
@dataclass(frozen=True)
class Deconvnet(PixelMethod):
    """Deconvolution: R_in = 1[R_out > 0] R_out at every ReLU, whatever went into it."""

    card: ClassVar[MethodCard] = MethodCard(
        name="deconvnet",
        family="gradient",
        summary="Gradient with each ReLU applied to the signal that goes back.",
        paper="Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks",
        limitations="Hardly depends on the class; only for networks whose activations are ReLU.",
        needs=("gradients", "relu"),
        forwards="1",
        backwards="1",
    )

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks without ReLU, or with other activations between."""
        return relu_reason(model)

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Deconvolved signal, float32 (N, C, H, W)."""
        return ruled_gradients(model, images, targets, lambda _, out: out.clamp(min=0))


def relu_reason(model: Classifier) -> str | None:
    """Why rules for ReLU are not right on a model, None if they are.

    Gates (sigmoid, hard sigmoid, tanh) may be there beside the ReLUs; their gradient is kept.
    """
    try:
        found = activations(prepared(model)).values()
    except UnsupportedError as error:
        return str(error)
    if not any(is_relu(module) for module in found):
        return "The model has no ReLU, so its guided gradient would be the plain gradient."
    other = {type(m).__name__ for m in found if not is_relu(m) and not isinstance(m, _GATES)}
    if other:
        return f"The model has activations that are not ReLU ({', '.join(sorted(other))})."
    return None


def ruled_gradients(model: Classifier, images: Tensor, targets: Tensor, rule: Rule) -> Tensor:
    """Gradients with `rule` in place of the ReLU's own backward step.

    Args:
        model: the classifier; a prepared copy runs.
        images: (N, C, H, W).
        targets: int64 (N,).
        rule: maps (the gradient for the ReLU's input, the gradient for its output) to what goes on.

    Returns:
        float32 (N, C, H, W).

    Raises:
        UnsupportedError: the model cannot be prepared.
        InvalidMapError: no rule was met on the way back.
    """
    copy = prepared(model, images)
    with _ruled(copy, rule) as met:
        gradients = copy.gradients(images, targets)
    if not met:
        raise InvalidMapError(
            "No ReLU was met on the way back, so the map would be the plain gradient."
        )
    return gradients


@contextmanager
def _ruled(copy: Classifier, rule: Rule) -> Iterator[set[int]]:
    met: set[int] = set()

    def hook(module: nn.Module, own: object, out: object) -> tuple[Tensor]:
        assert isinstance(own, tuple)
        assert isinstance(out, tuple)
        met.add(id(module))
        return (rule(own[0], out[0]),)

    handles = [
        module.register_full_backward_hook(hook)
        for module in activations(copy).values()
        if is_relu(module)
    ]
    try:
        with right_with_hooks(copy.module):
            yield met
    finally:
        for handle in handles:
            handle.remove()


METHODS.preset(
    "guided_backprop_abs",
    GuidedBackprop,
    pooling="max_abs",
    card={"summary": "Largest magnitude of guided backpropagation.", "signed": False},
)
