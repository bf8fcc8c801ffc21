"""Filling holes from what surrounds them: sparse linear systems solved in batch on the device.

A hole's pixels obey x_i = sum_j w_ij x_j / sum_j w_ij over the neighbors j that lie inside the
image; pixels outside the hole are given. The matrix is symmetric and positive definite as long as
one pixel is given, so conjugate gradients solve it, started from a pyramid of local means and
preconditioned by one cycle through grids of halved size (multigrid): large holes then take about
as many iterations as small ones.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.optional import optional

restoration = optional("skimage.restoration", "install it with `pip install scikit-image`")

Weights = tuple[float, float]
ROAD_NEIGHBORS: Weights = (1 / 6, 1 / 12)
FOUR_NEIGHBORS: Weights = (1 / 4, 0.0)
_CHECK_EVERY = 3
_DAMPING = 0.7
_COARSEST = 4
_SWEEPS = 8


@dataclass
class _System:
    """The equations of a batch of holes on one grid: (degree - weights) x = b where dropped."""

    drop: Tensor  # (B, 1, H, W) float, 1 where dropped
    weights: Weights
    degree: Tensor  # (1, 1, H, W), total weight of the neighbors inside the image

    @staticmethod
    def over(drop: Tensor, weights: Weights) -> "_System":
        return _System(drop, weights, _neighbors(torch.ones_like(drop[:1]), weights))

    def apply(self, x: Tensor) -> Tensor:
        return self.drop * (self.degree * x - _neighbors(x, self.weights))

    def relax(self, residual: Tensor) -> Tensor:
        return _DAMPING * self.drop * residual / self.degree


def _neighbors(x: Tensor, weights: Weights) -> Tensor:
    """Weighted sum of the eight neighbors; sums of shifts are ten times faster than conv2d."""
    direct, diagonal = weights
    padded = F.pad(x, (1, 1, 1, 1))
    sides = padded[..., :-2] + padded[..., 2:]
    column = diagonal * sides + direct * padded[..., 1:-1]
    return column[..., :-2, :] + column[..., 2:, :] + direct * sides[..., 1:-1, :]


def solve_neighbors(
    images: Tensor,
    drop: Tensor,
    weights: Weights = ROAD_NEIGHBORS,
    *,
    tolerance: float = 1e-6,
    limit: int = 500,
) -> Tensor:
    """Replace dropped pixels by the solution of the neighbor equations (Rong et al. 2022).

    Args:
        images: (B, C, H, W).
        drop: bool (B, 1, H, W), the unknown pixels; where all are, the image's mean is returned.
        weights: of the four direct and the four diagonal neighbors; border pixels share theirs
            among the neighbors that exist.
        tolerance: largest residual of any equation at which a channel stops.
        limit: most iterations.

    Returns:
        float32 (B, C, H, W), kept pixels unchanged.
    """
    grids = _hierarchy(drop.to(images.dtype), weights)
    start = torch.where(drop, pyramid_means(images, drop), images)
    known = torch.where(drop, torch.zeros_like(images), images)
    right = grids[0].drop * _neighbors(known, weights)
    solved = known + _conjugate_gradients(grids, right, grids[0].drop * start, tolerance, limit)
    blank = drop.flatten(1).all(dim=1).view(-1, 1, 1, 1)
    return torch.where(blank, images.mean(dim=(2, 3), keepdim=True), solved)


def _hierarchy(drop: Tensor, weights: Weights) -> list[_System]:
    """The same equations on grids of halved size, where a cell is unknown if all of it is.

    The number of grids depends on the size alone, so that neighbors in a batch change nothing.
    """
    grids = [_System.over(drop, weights)]
    while max(drop.shape[-2:]) > _COARSEST:
        height, width = drop.shape[-2:]
        padded = F.pad(drop, (0, width % 2, 0, height % 2), value=1.0)
        drop = -F.max_pool2d(-padded, 2)
        grids.append(_System.over(drop, weights))
    return grids


def _cycle(grids: list[_System], residual: Tensor) -> Tensor:
    """An approximate solution of the equations for a residual: one symmetric V-cycle."""
    system = grids[0]
    x = system.relax(residual)
    if len(grids) == 1:
        for _ in range(_SWEEPS):
            x = x + system.relax(residual - system.apply(x))
        return x
    height, width = residual.shape[-2:]
    left = residual - system.apply(x)
    # in two dimensions the same weights hold on the coarse grid if residuals are added up
    coarse = 4 * F.avg_pool2d(left, 2, ceil_mode=True, divisor_override=4)
    correction = _cycle(grids[1:], grids[1].drop * coarse)
    grown = correction.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    x = x + system.drop * grown[..., :height, :width]
    return x + system.relax(residual - system.apply(x))


def _conjugate_gradients(
    grids: list[_System], right: Tensor, x: Tensor, tolerance: float, limit: int
) -> Tensor:
    """Conjugate gradients, every channel of every image on its own."""

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).sum(dim=(2, 3), keepdim=True)

    residual = right - grids[0].apply(x)
    z = _cycle(grids, residual)
    direction, rho = z, inner(residual, z)
    for step in range(limit):
        active = residual.abs().amax(dim=(2, 3), keepdim=True) > tolerance
        if step % _CHECK_EVERY == 0 and not bool(active.any()):
            break
        applied = grids[0].apply(direction)
        alpha = torch.where(active, rho / inner(direction, applied).clamp(min=1e-30), 0.0)
        x = x + alpha * direction
        residual = residual - alpha * applied
        z = _cycle(grids, residual)
        new = inner(residual, z)
        direction = z + torch.where(active, new / rho.clamp(min=1e-30), 0.0) * direction
        rho = new
    return x


def pyramid_means(images: Tensor, drop: Tensor) -> Tensor:
    """A smooth filling: each dropped pixel takes the mean of the smallest 2^k block with content.

    Args:
        images: (B, C, H, W).
        drop: bool (B, 1, H, W).

    Returns:
        (B, C, H, W); kept pixels unchanged.
    """
    height, width = images.shape[-2:]
    weight = (~drop).to(images.dtype)
    total, count = images * weight, weight
    levels = [(total, count)]
    while max(total.shape[-2:]) > 1:
        total = 4 * F.avg_pool2d(total, 2, ceil_mode=True, divisor_override=4)
        count = 4 * F.avg_pool2d(count, 2, ceil_mode=True, divisor_override=4)
        levels.append((total, count))
    filled = levels[-1][0] / levels[-1][1].clamp(min=1)
    for total, count in reversed(levels[:-1]):
        size = tuple(total.shape[-2:])
        coarse = F.interpolate(filled, scale_factor=2, mode="bilinear", align_corners=False)
        filled = torch.where(
            count > 0, total / count.clamp(min=1), coarse[..., : size[0], : size[1]]
        )
    return filled[..., :height, :width]


def neighborhood_mean(images: Tensor, drop: Tensor) -> Tensor:
    """Each dropped pixel takes the mean of the kept pixels in the smallest window that has any.

    Windows are squares of side 3, 5, 9, 17 ...; where nothing is kept the image's mean is taken.

    Args:
        images: (B, C, H, W).
        drop: bool (B, 1, H, W).

    Returns:
        (B, C, H, W); kept pixels unchanged.
    """
    keep = (~drop).to(images.dtype)
    result, open_ = images, drop
    radius = 1
    while radius < 2 * max(images.shape[-2:]):
        count = _box_sum(keep, radius)
        mean = _box_sum(images * keep, radius) / count.clamp(min=1)
        result = torch.where(open_ & (count > 0), mean.to(images.dtype), result)
        open_ = open_ & (count <= 0)
        if not bool(open_.any()):
            return result
        radius *= 2
    return torch.where(open_, images.mean(dim=(2, 3), keepdim=True), result)


def _box_sum(values: Tensor, radius: int) -> Tensor:
    """Sums over squares of side 2 radius + 1, cut at the border, float64, by summed areas."""
    height, width = values.shape[-2:]
    table = F.pad(values.double().cumsum(dim=2).cumsum(dim=3), (1, 0, 1, 0))
    y = torch.arange(height, device=values.device)
    x = torch.arange(width, device=values.device)
    top, bottom = (y - radius).clamp(min=0), (y + radius + 1).clamp(max=height)
    left, right = (x - radius).clamp(min=0), (x + radius + 1).clamp(max=width)
    band = table[:, :, bottom] - table[:, :, top]
    # sums of zeros must stay zero: differences of large sums leave rounding behind
    return (band[..., right] - band[..., left]).round(decimals=9)


def inpaint_biharmonic(images: Tensor, drop: Tensor) -> Tensor:
    """Biharmonic inpainting by scikit-image, one image at a time on the CPU; slow and smooth.

    Args:
        images: (B, C, H, W).
        drop: bool (B, 1, H, W); where all is dropped, the image's mean is returned.

    Returns:
        (B, C, H, W) in [0, 1].
    """
    rows: list[Tensor] = []
    for image, hole in zip(images.cpu(), drop[:, 0].cpu(), strict=True):
        if bool(hole.all()):
            rows.append(image.mean(dim=(1, 2), keepdim=True).expand_as(image))
            continue
        painted = restoration.inpaint_biharmonic(
            image.permute(1, 2, 0).numpy(), hole.numpy(), channel_axis=-1
        )
        rows.append(torch.from_numpy(np.ascontiguousarray(painted)).permute(2, 0, 1))
    return torch.stack(rows).to(images).clamp(0, 1)
