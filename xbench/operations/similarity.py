"""How alike two maps are: SSIM in two dimensions, HOG descriptors, overlap of the top pixels."""

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.feature import hog
from torch import Tensor
from torch.nn import functional

from xbench.operations.cores import fill_rows
from xbench.operations.pixels import gaussian_kernel
from xbench.operations.ranks import spearman, top_mask
from xbench.optional import optional
from xbench.streams import Streams

kernels = optional("xbench.operations.similarity_kernels", "install it with `pip install numba`")

Pixels = NDArray[np.float64]
_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2


def quantile(values: Tensor, share: float) -> Tensor:
    """The quantile of every row with linear interpolation, (N, M) to (N,).

    >>> quantile(torch.tensor([[4.0, 1.0, 2.0, 3.0, 5.0]]), 0.5).item()
    3.0
    """
    position = share * (values.shape[1] - 1)
    low = int(position)
    if values.device.type == "cpu":  # numpy finds one place without sorting the rest
        ordered = torch.from_numpy(np.partition(values.detach().numpy(), low, axis=1))
    else:
        ordered = values.sort(dim=1).values
    following = ordered[:, low + 1 :].amin(dim=1) if low + 1 < values.shape[1] else ordered[:, low]
    return ordered[:, low].lerp(following, position - low)


def unit_scale(maps: Tensor, share: float = 0.99) -> Tensor:
    """Absolute maps clipped at a quantile and divided by it, in [0, 1]; float64 (N, H, W).

    Robust against single bright pixels, unlike scaling by minimum and maximum. A map whose
    quantile is 0 becomes zero.
    """
    absolute = maps.double().abs()
    top = quantile(absolute.flatten(1), share)[:, None, None]
    return torch.where(top > 0, (absolute / top.clamp(min=1e-300)).clamp(max=1), 0.0)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004) of images in [0, 1], float64 (N,).

    Gaussian window of sigma 1.5 and 11 pixels, population covariance, mean over the positions
    where the window fits.

    Args:
        first: (N, H, W), in [0, 1].
        second: the same shape.

    Returns:
        in [-1, 1]; NaN where an image is constant or a side is shorter than the window.
    """
    found = torch.full((len(first),), torch.nan, dtype=torch.float64, device=first.device)
    if min(first.shape[1:]) < 2 * _RADIUS + 1:
        return found
    if first.device.type != "cpu" or kernels.reason is not None:
        return ssim_by_tensors(first, second)
    weights = gaussian_kernel(_SIGMA, _RADIUS).double().numpy()

    def loops(one: Pixels, other: Pixels, filled: Pixels) -> None:
        kernels.mean_ssim(one, other, weights, _C1, _C2, filled)

    return fill_rows(loops, found, first.double(), second.double())


def ssim_by_tensors(first: Tensor, second: Tensor) -> Tensor:
    """`ssim` by operations on tensors, on any device."""
    a, b = first.double(), second.double()
    a_mean, b_mean = _window(a), _window(b)
    product, squares = a_mean * b_mean, a_mean.square() + b_mean.square()
    above = (2 * product + _C1) * (2 * (_window(a * b) - product) + _C2)
    below = (squares + _C1) * (_window(a.square() + b.square()) - squares + _C2)
    value = (above / below).mean(dim=(1, 2))
    return value.masked_fill(_constant(a) | _constant(b), torch.nan)


def map_ssim(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of two stacks of maps, each absolute and scaled by `unit_scale`, float64 (N,)."""
    return ssim(unit_scale(first), unit_scale(second))


def hog_similarity(first: Tensor, second: Tensor, cell: int = 16) -> Tensor:
    """Spearman correlation of histograms of oriented gradients (Dalal & Triggs 2005), float64 (N,).

    Args:
        first: (N, H, W), scaled by `unit_scale` before.
        second: the same shape.
        cell: side of a cell in pixels, at most a third of the shorter side.

    Returns:
        in [-1, 1]; NaN where a descriptor is constant.
    """
    return spearman(hog_descriptors(first, cell), hog_descriptors(second, cell))


def hog_descriptors(maps: Tensor, cell: int = 16) -> Tensor:
    """HOG descriptors of maps, 9 orientations and blocks of 3x3 cells, float64 (N, D)."""
    side = max(1, min(cell, min(maps.shape[1:]) // 3))
    scaled = unit_scale(maps).cpu().numpy()
    found = [
        hog(one, orientations=9, pixels_per_cell=(side, side), cells_per_block=(3, 3))
        for one in scaled
    ]
    return torch.from_numpy(np.stack(found)).to(maps.device, torch.float64)


def top_overlap(
    first: Tensor, second: Tensor, share: float, streams: Streams, *tag: str | int
) -> Tensor:
    """Intersection over union of the top shares of two stacks of maps, float64 (N,).

    Ties are broken by independent seeded orders, so ties alone never agree beyond chance.

    Returns:
        in [0, 1]; chance is share / (2 - share); NaN where a map is constant.
    """
    a = top_mask(first, share, streams, "first", *tag).flatten(1)
    b = top_mask(second, share, streams, "second", *tag).flatten(1)
    value = (a & b).sum(dim=1).double() / (a | b).sum(dim=1)
    return value.masked_fill(_constant(first) | _constant(second), torch.nan)


def _window(images: Tensor) -> Tensor:
    """Weighted means of all windows inside the image, (N, H - 10, W - 10)."""
    weights = gaussian_kernel(_SIGMA, _RADIUS).to(images)
    across = functional.conv2d(images[:, None], weights.view(1, 1, 1, -1))
    return functional.conv2d(across, weights.view(1, 1, -1, 1))[:, 0]


def _constant(maps: Tensor) -> Tensor:
    flat = maps.flatten(1)
    return flat.amax(dim=1) == flat.amin(dim=1)
