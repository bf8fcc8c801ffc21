"""What the CAM methods share: the layer, its feature maps, the way back to pixels."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.classifier.layers import Layer
from xbench.errors import UnsupportedError
from xbench.operations.pixels import upsample

ROW_VALUES = 1 << 24  # logits held at once while channels are tried: 64 MB in float32


def refuse_without_features(model: Classifier) -> str | None:
    """A sentence if nothing in the model computes feature maps, else None."""
    for module in model.module.modules():
        if isinstance(module, nn.Conv2d | nn.MultiheadAttention):
            return None
    return "The model has no convolutional layer, so there are no feature maps to weigh."


def feature_layer(model: Classifier, images: Tensor, name: str) -> Layer:
    """The layer of a role or name whose outputs are feature maps.

    Raises:
        UnsupportedError: no such role, or a layer whose output has no places.
        ModelError: an unknown name.
    """
    layer = model.layer(name, images)
    if layer.grid in ((0, 0), (1, 1)):
        raise UnsupportedError(
            f"The layer '{layer.name}' has no spatial output on images of "
            f"{images.shape[2]}x{images.shape[3]} pixels; name an earlier one with layer=..."
        )
    if layer.calls > 1:
        raise UnsupportedError(
            f"The layer '{layer.name}' runs {layer.calls} times in one pass, so its feature maps "
            "are ambiguous; name another one with layer=..."
        )
    return layer


def refuse_parts(outputs: Sequence[Tensor], images: Tensor) -> None:
    """Refuses layers that do not see whole images, one a row, as those of a mosaic's network.

    Raises:
        UnsupportedError: the number of rows of an output is not that of the images.
    """
    if any(len(output) != len(images) for output in outputs):
        raise UnsupportedError(
            "The network passes parts of an image through its layers as rows of their own, so "
            "their maps have no place in the image."
        )


def to_pixels(cam: Tensor, images: Tensor, *, relu: bool) -> Tensor:
    """A map at layer resolution (N, h, w) as a map of the pixels (N, H, W).

    Args:
        cam: one value a cell.
        images: (N, C, H, W), for the size.
        relu: keep the positive part only, before it is upsampled.
    """
    shown = cam.relu() if relu else cam
    return upsample(shown.float(), (int(images.shape[2]), int(images.shape[3])))


def weigh(weights: Tensor, activations: Tensor) -> Tensor:
    """Sum over channels of weight times feature map: (N, K) and (N, K, h, w) to (N, h, w)."""
    return torch.einsum("nk,nkhw->nhw", weights.to(activations), activations)


def unit_range(maps: Tensor) -> Tensor:
    """Each map (..., H, W) stretched to [0, 1]; a constant map, which says nothing, becomes 0."""
    low = maps.amin(dim=(-2, -1), keepdim=True)
    spread = maps.amax(dim=(-2, -1), keepdim=True) - low
    return (maps - low) / spread.masked_fill(spread == 0, 1.0)


def image_chunks(images: Tensor, rows: int, classes: int) -> Iterator[slice]:
    """Slices of the batch, so that `rows` an image keep the logits held at once bounded."""
    step = max(1, ROW_VALUES // max(1, rows * classes))
    for start in range(0, images.shape[0], step):
        yield slice(start, start + step)


def linear_head(
    model: Classifier, activations: Tensor, logits: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Features and weights with logits = weights @ mean(features) + bias, or None.

    Not guessed from names: a candidate counts only if it reproduces the logits. The features are
    the activations or their ReLU (which some networks apply outside any module); the weights are
    those of a linear layer or 1x1 convolution, or the identity where the maps are the classes'.

    Returns:
        Features (N, K, h, w) and weights (classes, K).
    """
    heads = [
        (module.weight.flatten(1), module.bias)
        for module in model.module.modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and module.weight.shape[:2] == (logits.shape[1], activations.shape[1])
        and module.weight.numel() == logits.shape[1] * activations.shape[1]
    ]
    if logits.shape[1] == activations.shape[1]:
        heads.append((torch.eye(logits.shape[1], device=logits.device), None))
    scale = logits.abs().amax().clamp(min=1e-6)
    for features in (activations, activations.relu()):
        pooled = features.mean(dim=(2, 3))
        for weight, bias in heads:
            if bool(((F.linear(pooled, weight, bias) - logits).abs() <= 1e-3 * scale).all()):
                return features, weight
    return None
