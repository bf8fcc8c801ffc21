"""How alike two maps are: SSIM in two dimensions, HOG descriptors, overlap of the top pixels."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from skimage.feature import hog
from torch import Tensor

from xbench.operations.pixels import gaussian_kernel
from xbench.operations.ranks import sorted_rows, spearman, top_mask
from xbench.streams import Streams

_SIGMA, _RADIUS = 1.5, 5
_BLOCK = 32
_C1, _C2 = 0.01**2, 0.03**2


def quantile(values: Tensor, share: float) -> Tensor:
    """The quantile of every row with linear interpolation, (N, M) to (N,).

    >>> quantile(torch.tensor([[4.0, 1.0, 2.0, 3.0, 5.0]]), 0.5).item()
    3.0
    """
    ordered = sorted_rows(values)
    position = share * (values.shape[1] - 1)
    low = int(position)
    high = min(low + 1, values.shape[1] - 1)
    return ordered[:, low].lerp(ordered[:, high], position - low)


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
    return Windows.of(first).ssim(Windows.of(second))


@dataclass(frozen=True)
class Windows:
    """A stack of images with its local moments, to be compared with many others by SSIM.

    Attributes:
        images: float64 (N, H, W).
        mean, variance: at the positions where the window fits, (N, H', W'); empty where none does.
    """

    images: Tensor
    mean: Tensor
    variance: Tensor

    @staticmethod
    def of(images: Tensor) -> "Windows":
        """Of images in [0, 1], (N, H, W)."""
        images = images.double()
        if min(images.shape[1:]) < 2 * _RADIUS + 1:
            empty = images.new_empty(images.shape[0], 0, 0)
            return Windows(images, empty, empty)
        mean = _window(images)
        return Windows(images, mean, _window(images * images).addcmul_(mean, mean, value=-1))

    def ssim(self, other: "Windows") -> Tensor:
        """See `ssim`."""
        if self.mean.numel() == 0:
            return self.images.new_full((len(self.images),), torch.nan)
        pairs = zip(
            self.images, other.images, self.mean, other.mean, self.variance, other.variance,
            strict=True,
        )  # fmt: skip
        value = torch.stack([_ssim(*pair) for pair in pairs])  # one by one, as the cache is small
        constant = _constant(self.images) | _constant(other.images)
        return value.masked_fill(constant, torch.nan)


def map_ssim(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of two stacks of maps, each absolute and scaled by `unit_scale`, float64 (N,)."""
    return map_windows(first).ssim(map_windows(second))


def map_windows(maps: Tensor) -> Windows:
    """Maps (N, H, W), absolute and scaled by `unit_scale`, ready to be compared by SSIM."""
    return Windows.of(unit_scale(maps))


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


def _ssim(
    a: Tensor, b: Tensor, a_mean: Tensor, b_mean: Tensor, a_var: Tensor, b_var: Tensor
) -> Tensor:
    """SSIM of two images (H, W) with their local moments; in place, as memory is what it costs."""
    means = a_mean * b_mean
    product = _window(a * b).sub_(means)
    above = means.mul_(2).add_(_C1).mul_(product.mul_(2).add_(_C2))
    squares = (a_mean * a_mean).addcmul_(b_mean, b_mean).add_(_C1)
    return above.div_(squares.mul_((a_var + b_var).add_(_C2))).mean()


def _window(images: Tensor) -> Tensor:
    """Weighted means of all windows inside the image, (N, H - 10, W - 10).

    By products with a matrix of bands, some windows at a time: a convolution of one channel is
    slow on a CPU.
    """
    bands = _bands().to(images)
    across = _weighted(images.mT, bands).mT
    return _weighted(across, bands)


def _weighted(images: Tensor, bands: Tensor) -> Tensor:
    """Means along the rows, (N, H, W) to (N, H - 10, W)."""
    windows = images.shape[-2] - 2 * _RADIUS
    found = images.new_empty(*images.shape[:-2], windows, images.shape[-1])
    for start in range(0, windows, _BLOCK):
        count = min(_BLOCK, windows - start)
        reach = count + 2 * _RADIUS
        found[..., start : start + count, :] = (
            bands[:count, :reach] @ images[..., start : start + reach, :]
        )
    return found


@lru_cache(maxsize=1)
def _bands() -> Tensor:
    """Weights of every pixel (columns) in every window of a block (rows)."""
    kernel = gaussian_kernel(_SIGMA, _RADIUS)
    bands = kernel.new_zeros(_BLOCK, _BLOCK + 2 * _RADIUS)
    for shift, weight in enumerate(kernel.tolist()):
        bands.diagonal(shift)[:_BLOCK] = weight
    return bands


def _constant(maps: Tensor) -> Tensor:
    flat = maps.flatten(1)
    return flat.amax(dim=1) == flat.amin(dim=1)
