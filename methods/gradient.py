"""Gradients of the target logit for the pixels, plain and times the input."""

from dataclasses import dataclass
from typing import ClassVar, get_args

from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import MethodCard
from xbench.registry import METHODS
from xbench.streams import Streams

from ._baselines import Baseline, baselines
from ._pixel import PixelMethod, require


@METHODS.register
@dataclass(frozen=True)
class Gradient(PixelMethod):
    """The gradient of the target's raw logit: dS_c / dx.

    The default pooling is the signed sum, so that signed comparisons (cascading randomization)
    can be made; `gradient_abs` is the reading of the paper, the largest magnitude over channels.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="gradient",
        family="gradient",
        summary="Gradient of the class logit for the pixels, signed.",
        paper="Simonyan, Vedaldi and Zisserman 2014, Deep Inside Convolutional Networks",
        limitations="Noisy; says what would change the score, not what made it.",
        needs=("gradients",),
        forwards="1",
        backwards="1",
    )

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Gradients, float32 (N, C, H, W)."""
        return model.gradients(images, targets)


@METHODS.register
@dataclass(frozen=True)
class InputXGradient(PixelMethod):
    """Gradient times input: (x - x') * dS_c / dx.

    With the default baseline x' = the normalization mean, this is exactly the gradient for the
    network's normalized input times that input, as libraries that see normalized images compute.

    Attributes:
        baseline: what the input is measured from; "black" multiplies by the pixel value itself.
    """

    baseline: Baseline = "mean"

    card: ClassVar[MethodCard] = MethodCard(
        name="input_x_gradient",
        family="gradient",
        summary="Gradient times the (normalized) input.",
        paper="Shrikumar et al. 2016, Not Just a Black Box",
        limitations="Blind to pixels of the baseline's color; carries the input's own structure "
        "whatever the weights are.",
        needs=("gradients",),
        forwards="1",
        backwards="1",
        baseline="mean",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(Baseline)
        require(self.baseline in known, f"baseline is one of {', '.join(known)}.")

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """(x - x') times the gradient, float32 (N, C, H, W)."""
        start = baselines(model, images, self.baseline, streams)
        return (images - start) * model.gradients(images, targets)


METHODS.preset(
    "gradient_abs",
    Gradient,
    pooling="max_abs",
    card={"summary": "Largest magnitude of the gradient over channels.", "signed": False},
)
METHODS.preset(
    "input_x_gradient_abs",
    InputXGradient,
    pooling="abs_sum",
    card={"summary": "Magnitude of gradient times input, summed.", "signed": False},
)
