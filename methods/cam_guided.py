"""Guided Grad-CAM: the pixels of guided backpropagation where Grad-CAM sees the class."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import MethodCard
from xbench.registry import METHODS
from xbench.streams import Streams

from ._cam import refuse_without_features
from ._pixel import PixelMethod
from .cam import GradCam
from .guided import GuidedBackprop


@METHODS.register
@dataclass(frozen=True)
class GuidedGradCam(PixelMethod):
    """Guided backpropagation times Grad-CAM, pixel by pixel, Grad-CAM with its ReLU.

    Attributes:
        pooling: how the channels of guided backpropagation become one value.
        layer: a role or dotted name, whose feature maps Grad-CAM weighs.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="guided_gradcam",
        summary="Guided backpropagation times Grad-CAM.",
        paper="Selvaraju et al. 2017, Grad-CAM",
        limitations="The fine detail is guided backpropagation's, which hardly depends on the "
        "class; only for networks whose activations are ReLU.",
        family="cam",
        needs=("gradients", "convolution", "relu"),
        forwards="2",
        backwards="2",
    )
    layer: str = "last_conv"

    def supports(self, model: Classifier) -> str | None:
        """Refuses models that one of the two parts refuses."""
        return refuse_without_features(model) or GuidedBackprop().supports(model)

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """The product before channels are pooled, float32 (N, C, H, W)."""
        cam = GradCam(layer=self.layer).explain(model, images, targets, streams=streams)
        guided = GuidedBackprop().attribute(model, images, targets, streams=streams)
        return guided * cam[:, None]
