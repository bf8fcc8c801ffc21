"""CAMs of several layers as one map: fine places from shallow layers, the class from deep ones."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.classifier.layers import Layer, stages, to_nchw
from xbench.classifier.network import target_logit
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError, UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._cam import feature_layer, refuse_parts, refuse_without_features, to_pixels
from .cam import RULES

Rule = Literal["gradcam", "hirescam", "gradcam_elementwise", "layercam", "xgradcam"]
How = Literal["mean", "max"]


@METHODS.register
@dataclass(frozen=True)
class FusedCam(Method):
    """The mean or maximum over layers l of ReLU(L_l) / max ReLU(L_l), each upsampled.

    All layers share one forward and one backward pass. A layer whose map is empty counts as 0.

    Attributes:
        layers: dotted names joined by "+", or "stages" for the last layer of each resolution.
        n_layers: how many stages, from the coarsest.
        rule: the CAM of each layer, by name.
        how: "mean" or "max" over layers.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="fusedcam",
        summary="CAMs of several layers, each scaled to 1, in one map.",
        paper="Jiang et al. 2021, LayerCAM",
        limitations="Scaling each layer to 1 lets a layer with little evidence speak as loudly as "
        "the others.",
        family="cam",
        needs=("gradients", "convolution"),
        signed=False,
        forwards="1",
        backwards="1",
    )
    layers: str = "stages"
    n_layers: int = 3
    rule: Rule = "layercam"
    how: How = "mean"

    def __post_init__(self) -> None:
        """Refuses unknown words and no layers."""
        if self.rule not in RULES:
            raise ParameterError(f"fusedcam[rule=...] is one of {', '.join(RULES)}.")
        if self.how not in get_args(How):
            raise ParameterError(f"fusedcam[how=...] is mean or max, not '{self.how}'.")
        if self.n_layers < 1 or not self.layers.replace("+", "").strip():
            raise ParameterError("fusedcam needs at least one layer.")

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); one forward and one backward an image, however many layers."""
        layers = self._layers(model, images)
        combine = RULES[self.rule]
        maps = []
        for activations, gradients in _gradients(model, images, targets, layers):
            cam = to_pixels(combine(activations, gradients), images, relu=True)
            top = cam.amax(dim=(1, 2), keepdim=True)
            maps.append(cam / top.masked_fill(top == 0, 1.0))
        stack = torch.stack(maps)
        return stack.mean(dim=0) if self.how == "mean" else stack.amax(dim=0)

    def _layers(self, model: Classifier, images: Tensor) -> list[Layer]:
        if self.layers != "stages":
            names = [name.strip() for name in self.layers.split("+") if name.strip()]
            return [feature_layer(model, images, name) for name in names]
        found = stages(model.module, model.trace(images))[-self.n_layers :]
        if not found:
            raise UnsupportedError("The model has no convolutional layer with a spatial output.")
        return found


def _gradients(
    model: Classifier, images: Tensor, targets: Tensor, layers: Sequence[Layer]
) -> list[tuple[Tensor, Tensor]]:
    """Feature maps and gradients (N, K, h, w) of each layer, from one pass."""
    size = model.size("backward", images)
    found: list[list[tuple[Tensor, Tensor]]] = [[] for _ in layers]
    for start in range(0, images.shape[0], size):
        piece = slice(start, start + size)
        with torch.enable_grad(), ExitStack() as stack:
            kept = [stack.enter_context(model.captured(layer, _in_graph)) for layer in layers]
            scores = target_logit(model.network(images[piece]), targets[piece])
            outputs = [outputs[-1] for outputs in kept]
            gradients = torch.autograd.grad(
                scores.sum(), outputs, allow_unused=True, materialize_grads=True
            )
        for place, layer, output, gradient in zip(found, layers, outputs, gradients, strict=True):
            maps = to_nchw(output.detach(), layer)
            refuse_parts([maps], images[piece])
            place.append((maps, to_nchw(gradient, layer)))
    return [(torch.cat([a for a, _ in pairs]), torch.cat([g for _, g in pairs])) for pairs in found]


def _in_graph(output: Tensor) -> Tensor:
    """The output itself behind an earlier layer, else a fresh start of the graph."""
    return output if output.requires_grad else output.detach().requires_grad_(True)
