"""Ablation-CAM: a channel's weight is the drop of the class's score without it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.classifier.layers import Layer, to_nchw
from xbench.classifier.network import target_logit
from xbench.contracts import Method, MethodCard
from xbench.registry import METHODS
from xbench.streams import Streams

from ._cam import feature_layer, image_chunks, refuse_without_features, to_pixels, weigh


@METHODS.register
@dataclass(frozen=True)
class AblationCam(Method):
    """L = ReLU(sum_k w_k A_k) with w_k = (Y - Y_k) / |Y|, Y_k the score with A_k set to zero.

    The paper divides by Y; where Y is negative that turns the map upside down (channels that
    carry the class would count against it), hence the absolute value. Where Y is positive the two
    are the same. The division changes the scale of the map only.

    Attributes:
        layer: a role or dotted name, whose channels are ablated.
        relu: keep positive evidence only, as in the paper.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="ablationcam",
        summary="Feature maps weighed by the drop of the score without them.",
        paper="Desai and Ramaswamy 2020, Ablation-CAM",
        limitations="One pass of the network's tail a channel; the whole network where it cannot "
        "be cut behind the layer. As coarse as the layer's grid.",
        family="cam",
        needs=("convolution",),
        signed=False,
        forwards="1 if tail else channels + 1",
        tails="channels + 1 if tail else 0",
    )
    layer: str = "last_conv"
    relu: bool = True

    def supports(self, model: Classifier) -> str | None:
        """Refuses models without feature maps."""
        return refuse_without_features(model)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps (N, H, W); one pass of the tail a channel and one for the whole."""
        layer = feature_layer(model, images, self.layer)
        rows = layer.channels + 1
        maps = [
            _ablate(model, images[part], targets[part], layer)
            for part in image_chunks(images, rows, model.classes(images))
        ]
        return to_pixels(torch.cat(maps), images, relu=self.relu)


def _ablate(model: Classifier, images: Tensor, targets: Tensor, layer: Layer) -> Tensor:
    """Ablation-CAM at layer resolution, (N, h, w)."""
    n, rows = images.shape[0], layer.channels + 1
    channels = torch.arange(layer.channels, device=images.device)
    whole: list[Tensor] = []

    def build(index: Tensor, outputs: Tensor) -> Tensor:
        ablated = index % rows  # row 0 of each image is left whole
        whole.append(to_nchw(outputs[ablated == 0], layer))
        drop = channels == (ablated - 1)[:, None]  # (B, K)
        spatial = (1,) * (outputs.ndim - 2)
        shape = (*drop.shape, *spatial) if layer.layout == "nchw" else (len(drop), *spatial, -1)
        return outputs.masked_fill(drop.view(shape), 0.0)

    owner = torch.arange(n, device=images.device).repeat_interleave(rows)
    logits = model.tail_rows(layer, images, owner, build)
    scores = target_logit(logits, targets[owner]).view(n, rows)
    full = scores[:, :1]
    weights = (full - scores[:, 1:]) / full.abs().masked_fill(full == 0, 1.0)
    return weigh(weights, torch.cat(whole))
