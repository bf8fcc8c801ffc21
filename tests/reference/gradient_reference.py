"""Slow twins of the gradient and path methods, in plain loops, written from the papers."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Score = Callable[[Tensor], Tensor]


def gradient(score: Score, image: Tensor) -> Tensor:
    """dS/dx of one image (C, H, W)."""
    x = image.clone().requires_grad_(True)
    score(x[None])[0].backward()
    assert x.grad is not None
    return x.grad


def integrated_gradients(score: Score, image: Tensor, baseline: Tensor, steps: int) -> Tensor:
    """Sundararajan 2017, equation 3, points in the middle of each step."""
    total = torch.zeros_like(image)
    for k in range(steps):
        point = baseline + (k + 0.5) / steps * (image - baseline)
        total += gradient(score, point)
    return (image - baseline) * total / steps


def guided_sequential(layers: list[nn.Module], image: Tensor, target: int, rule: str) -> Tensor:
    """Backward by hand through a list of layers; ReLUs follow the `rule`."""
    inputs = []
    x = image[None]
    for layer in layers:
        inputs.append(x)
        x = layer(x)
    signal = torch.zeros_like(x)
    signal[0, target] = 1
    for layer, given in zip(reversed(layers), reversed(inputs), strict=True):
        if isinstance(layer, nn.ReLU):
            mask = (signal > 0).float()
            if rule == "guided":
                mask = mask * (given > 0)
            signal = signal * mask
        else:
            z = given.clone().requires_grad_(True)
            (signal,) = torch.autograd.grad((layer(z) * signal).sum(), z)
    return signal[0]
