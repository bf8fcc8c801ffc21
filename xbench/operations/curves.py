"""Perturbation curves: rows of (image, step) built on the device by comparing ranks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from xbench.classifier import Classifier


def step_counts(pixels: int, steps: int) -> Tensor:
    """Pixels touched at each of `steps` + 1 points, both ends included, int64 (steps + 1,).

    >>> step_counts(10, 4).tolist()
    [0, 2, 5, 8, 10]
    """
    return torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round().long()


def removal_logits(
    model: "Classifier",
    images: Tensor,
    fills: Tensor,
    ranks: Tensor,
    counts: Sequence[int] | Tensor,
) -> Tensor:
    """Logits while the pixels of lowest rank number are replaced by the fill.

    Args:
        model: the classifier.
        images: (N, C, H, W), what stands where nothing was touched.
        fills: (N, C, H, W), what takes its place.
        ranks: int64 (N, H*W), 0 is touched first.
        counts: how many pixels are touched at each of the K points.

    Returns:
        float32 (N, K, classes).
    """
    counts = torch.as_tensor(counts, device=images.device)
    n, k = images.shape[0], counts.shape[0]
    grid = ranks.view(n, 1, *images.shape[-2:])

    def build(index: Tensor) -> Tensor:
        image = index // k
        drop = grid[image] < counts[index % k].view(-1, 1, 1, 1)
        return torch.where(drop, fills[image], images[image])

    return model.rows(n * k, build, like=images).view(n, k, -1)


def area(curves: Tensor, x: Tensor | None = None) -> Tensor:
    """Area under curves (N, K) by the trapezoid rule, over x in [0, 1]; float64 (N,).

    >>> area(torch.tensor([[1.0, 0.5, 0.0]])).item()
    0.5
    """
    curves = curves.double()
    if x is None:
        x = torch.linspace(0, 1, curves.shape[1], dtype=torch.float64)
    return torch.trapezoid(curves, x.to(curves), dim=1)
