"""Second derivatives of the class's score for feature maps, by differentiating twice."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from xbench.classifier import Classifier
from xbench.classifier.layers import Layer, to_nchw
from xbench.classifier.network import target_logit


def curvature(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    layer: Layer,
    direction: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Feature maps A, gradients G = dY/dA, and the product of the Hessian of Y with a direction.

    One forward and two backwards an image; the second backward is counted here, since it does not
    pass the logits. Exactly zero where Y is piecewise linear in A.

    Args:
        model: the classifier.
        images: (N, C, H, W).
        targets: int64 (N,).
        layer: whose output A is.
        direction: maps A, in the layer's own layout, to a direction of the same shape.

    Returns:
        Three tensors (N, K, h, w).
    """
    size = model.size("backward", images)
    found: list[list[Tensor]] = []
    for start in range(0, images.shape[0], size):
        piece = slice(start, start + size)
        with (
            torch.enable_grad(),
            sdpa_kernel(SDPBackend.MATH),  # fused attention cannot be differentiated twice
            model.captured(layer, lambda x: x.detach().requires_grad_(True)) as kept,
        ):
            scores = target_logit(model.network(images[piece]), targets[piece])
            activations = kept[-1]
            (first,) = torch.autograd.grad(scores.sum(), activations, create_graph=True)
            product = _product(first, activations, direction(activations.detach()))
        model.counter.backwards += activations.shape[0]
        parts = (activations.detach(), first.detach(), product)
        found.append([to_nchw(part, layer) for part in parts])
    maps, gradients, products = zip(*found, strict=True)
    return torch.cat(maps), torch.cat(gradients), torch.cat(products)


def _product(first: Tensor, activations: Tensor, direction: Tensor) -> Tensor:
    if not first.requires_grad:
        return torch.zeros_like(direction)
    (product,) = torch.autograd.grad(
        (first * direction).sum(), activations, allow_unused=True, materialize_grads=True
    )
    return product.detach()
