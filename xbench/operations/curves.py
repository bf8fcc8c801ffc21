"""Perturbation curves: rows of (image, step) built on the device by comparing ranks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xbench.operations.imputers import Imputer, imputed_logits

if TYPE_CHECKING:
    from xbench.classifier import Classifier

_FLAT = 0.01


def step_counts(pixels: int, steps: int) -> Tensor:
    """Pixels touched at each of `steps` + 1 points, both ends included, int64 (steps + 1,).

    >>> step_counts(10, 4).tolist()
    [0, 2, 5, 8, 10]
    """
    return torch.linspace(0, pixels, steps + 1, dtype=torch.float64).round().long()


def removal_logits(
    model: "Classifier", imputer: Imputer, ranks: Tensor, counts: Sequence[int] | Tensor
) -> Tensor:
    """Logits while the pixels of lowest rank number are replaced.

    Args:
        model: the classifier.
        imputer: bound to the N images; says what takes the place of removed pixels.
        ranks: int64 (N, H*W), 0 is removed first; pixels of one region share a rank.
        counts: ranks below this are removed at each of the K points, (K,) or (N, K).

    Returns:
        float32 (N, K, classes).
    """
    images = imputer.images
    n = images.shape[0]
    limits = torch.as_tensor(counts, device=images.device)
    limits = limits.expand(n, -1) if limits.ndim == 1 else limits
    k = limits.shape[1]
    grid = ranks.view(n, 1, *images.shape[-2:])

    def select(index: Tensor) -> tuple[Tensor, Tensor]:
        owner = index // k
        return owner, grid[owner] < limits[owner, index % k].view(-1, 1, 1, 1)

    return imputed_logits(model, imputer, n * k, select).view(n, k, -1)


def area(curves: Tensor, x: Tensor | None = None) -> Tensor:
    """Area under curves (N, K) by the trapezoid rule, over x in [0, 1]; float64 (N,).

    >>> area(torch.tensor([[1.0, 0.5, 0.0]])).item()
    0.5
    """
    curves = curves.double()
    if x is None:
        x = torch.linspace(0, 1, curves.shape[1], dtype=torch.float64)
    return torch.trapezoid(curves, x.to(curves), dim=1)


def rescaled(curves: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """Curves (N, K) with `low` (N,) at 0 and `high` (N,) at 1, float64.

    NaN where the two ends lie less than 0.01 apart or in reversed order: removing everything then
    says nothing about the image.

    >>> one, none = torch.tensor([0.8]), torch.tensor([0.2])
    >>> [round(v, 6) for v in rescaled(torch.tensor([[0.8, 0.5, 0.2]]), one, none)[0].tolist()]
    [1.0, 0.5, 0.0]
    """
    span = (high - low).double()
    span = span.masked_fill(span < _FLAT, float("nan"))
    return (curves.double() - low.double()[:, None]) / span[:, None]


def tie_share(values: Tensor) -> Tensor:
    """Share of entries that another entry of the same row equals, float64 (N,).

    Equal means up to 2e-7 of the row's largest absolute value, so that the rounding of one
    batch size or another does not make a tie or undo it.

    >>> tie_share(torch.tensor([[1.0, 1.0, 2.0, 3.0]])).tolist()
    [0.5]
    """
    ordered = values.flatten(1).sort(dim=1).values
    same = torch.zeros_like(ordered, dtype=torch.bool)
    slack = 2e-7 * ordered.abs().amax(dim=1, keepdim=True)
    equal = ordered[:, 1:] - ordered[:, :-1] <= slack
    same[:, 1:] |= equal
    same[:, :-1] |= equal
    return same.double().mean(dim=1)
