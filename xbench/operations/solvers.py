"""Filling holes from what surrounds them: sparse linear systems solved in batch on the device.

A hole's pixels obey x_i = sum_j w_ij x_j / sum_j w_ij over the neighbors j that lie inside the
image; pixels outside the hole are given. One solution exists as long as one pixel is given; it is
found by multigrid from a pyramid of local means, so large holes take about as many cycles as small:
on the CPU by compiled loops, elsewhere (and where numba is missing) by operations on tensors.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from xbench.operations.cores import fill_rows
from xbench.operations.multigrid import Weights, grown, solve_holes, summed
from xbench.operations.pixels import rows_of
from xbench.optional import optional

restoration = optional("skimage.restoration", "install it with `pip install scikit-image`")

kernels = optional("xbench.operations.hole_kernels", "install it with `pip install numba`")

Array = NDArray[np.generic]
ROAD_NEIGHBORS: Weights = (1 / 6, 1 / 12)
FOUR_NEIGHBORS: Weights = (1 / 4, 0.0)
GRAY_LEVEL = 1 / 255
_CYCLES = 50


def solve_neighbors(
    images: Tensor,
    drop: Tensor,
    weights: Weights = ROAD_NEIGHBORS,
    *,
    owner: Tensor | None = None,
    noise: Tensor | None = None,
    tolerance: float = GRAY_LEVEL,
) -> Tensor:
    """Replace dropped pixels by the solution of the neighbor equations (Rong et al. 2022).

    Args:
        images: (N, C, H, W).
        drop: bool (B, 1, H, W), the unknown pixels; where all are, the image's mean is returned.
        weights: of the four direct and the four diagonal neighbors; border pixels share theirs
            among the neighbors that exist.
        owner: int64 (B,), the image of each row; default each row its own.
        noise: (N, C, H, W), added to dropped pixels.
        tolerance: an image is solved when a cycle changes no pixel by more; what is left then is
            a few times less: no pixel is off by half a gray level, a fifth of ROAD's noise.

    Returns:
        float32 (B, C, H, W), kept pixels unchanged.
    """
    if owner is None:
        owner = torch.arange(len(drop), device=images.device)
    if images.device.type == "cpu" and kernels.reason is None:
        return _compiled(images.float(), drop, weights, owner, noise, tolerance)
    filled = solve_by_tensors(rows_of(images, owner), drop, weights, tolerance=tolerance)
    if noise is None:
        return filled
    return filled.addcmul_(rows_of(noise, owner), drop.to(filled))


def _compiled(
    images: Tensor,
    drop: Tensor,
    weights: Weights,
    owner: Tensor,
    noise: Tensor | None,
    tolerance: float,
) -> Tensor:
    unit = weights[1] or weights[0]
    whole = tuple(np.float32(round(weight / unit)) for weight in weights)
    ends = (np.float32(tolerance), _CYCLES)
    pixels = images.detach().contiguous().numpy()
    more = pixels[:0] if noise is None else noise.detach().float().contiguous().numpy()

    def loops(rows: Array, holes: Array, filled: Array) -> None:
        kernels.fill_holes(rows, holes, filled, pixels, more, whole, ends)

    return fill_rows(loops, torch.empty(len(drop), *images.shape[1:]), owner, drop[:, 0])


def solve_by_tensors(
    images: Tensor, drop: Tensor, weights: Weights, *, tolerance: float = GRAY_LEVEL
) -> Tensor:
    """The same by operations on tensors, on any device; one image a row, without noise."""
    start = torch.where(drop, pyramid_means(images, drop), images)
    # these cycles take out less each, so that more is left behind the last
    solved = solve_holes(start, drop, weights, tolerance=tolerance / 4, limit=_CYCLES)
    blank = drop.flatten(1).all(dim=1).view(-1, 1, 1, 1)
    return torch.where(blank, images.mean(dim=(2, 3), keepdim=True), solved)


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
        total, count = summed(total), summed(count)
        levels.append((total, count))
    filled = levels[-1][0] / levels[-1][1].clamp(min=1)
    for total, count in reversed(levels[:-1]):
        coarse = grown(filled, *total.shape[-2:])
        filled = torch.where(count > 0, total / count.clamp(min=1), coarse)
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
