"""Pixel operations: pooling channels, upsampling, blurring, fills."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.errors import ParameterError
from xbench.streams import Streams

Pooling = Literal["sum", "abs_sum", "max_abs", "mean", "l2"]


def rows_of(stack: Tensor, owner: Tensor) -> Tensor:
    """The rows stack[owner], (B, ...), to be read only.

    Where all belong to one image they are views of it, which spares copies; not on a GPU, where
    asking would wait for all that runs there.

    Args:
        stack: (N, ...), one row an image.
        owner: int64 (B,), the image of each row.

    >>> rows_of(torch.tensor([[1.0], [2.0]]), torch.tensor([1, 1])).tolist()
    [[2.0], [2.0]]
    """
    if owner.device.type == "cpu" and len(owner) and bool((owner == owner[0]).all()):
        first = int(owner[0])
        return stack[first : first + 1].expand(len(owner), *stack.shape[1:])
    return stack[owner]


def pool_channels(values: Tensor, how: str) -> Tensor:
    """One value a pixel from one value a channel: (N, C, H, W) to (N, H, W).

    Args:
        values: attributions, gradients.
        how: "sum" keeps the sign; "abs_sum", "max_abs" and "l2" do not; "mean" is the sum / C.

    >>> pool_channels(torch.tensor([[[[1.0]], [[-3.0]]]]), "sum").item()
    -2.0
    """
    if how == "sum":
        return values.sum(dim=1)
    if how == "mean":
        return values.mean(dim=1)
    if how == "abs_sum":
        return values.abs().sum(dim=1)
    if how == "max_abs":
        return values.abs().amax(dim=1)
    if how == "l2":
        return values.square().sum(dim=1).sqrt()
    raise ParameterError(f"Channels are pooled by sum, abs_sum, max_abs, mean or l2, not '{how}'.")


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, align_corners=False: (N, h, w) or (N, C, h, w) to that size.

    An impulse in cell (i, j) peaks at the center of the cell, half a pixel at most away.
    """
    flat = maps.ndim == 3
    grown = F.interpolate(
        maps[:, None] if flat else maps, size=size, mode="bilinear", align_corners=False
    )
    return grown[:, 0] if flat else grown


def gaussian_kernel(sigma: float, radius: int | None = None) -> Tensor:
    """A normalized 1-D Gaussian window, float32 (2 radius + 1,); radius defaults to 3 sigma."""
    radius = max(1, math.ceil(3 * sigma)) if radius is None else radius
    x = torch.arange(-radius, radius + 1, dtype=torch.float32)
    window = torch.exp(-0.5 * (x / sigma) ** 2)
    return window / window.sum()


def gaussian_blur(images: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Separable Gaussian blur with edge replication, (N, C, H, W); the size is kept."""
    kernel = gaussian_kernel(sigma, radius)
    down, across = (_blur_matrix(kernel, length).to(images) for length in images.shape[-2:])
    return down @ images @ across.T


def _blur_matrix(kernel: Tensor, length: int) -> Tensor:
    """The blur of a line of pixels as a matrix (length, length), the ends repeated beyond it.

    Two matrix products take the same time for any kernel; convolution by a hundred taps took ten
    times as long.
    """
    half = kernel.numel() // 2
    sources = torch.arange(length)[:, None] + torch.arange(-half, half + 1)
    weights = kernel.expand(length, -1)
    return torch.zeros(length, length).scatter_add(1, sources.clamp(0, length - 1), weights)


def blur_sigma(images: Tensor) -> float:
    """The blur that hides an image: sigma 20 at 224 pixels, scaled with the shorter side."""
    return 20.0 * min(images.shape[-2:]) / 224.0


def fill(images: Tensor, how: str, *, mean: Tensor | None = None, streams: Streams) -> Tensor:
    """What takes the place of removed pixels, (N, C, H, W); depends on each image alone.

    Args:
        images: (N, C, H, W) in [0, 1].
        how: "black", "white", "gray", "mean" (the normalization mean if given, else the image's
            own), "blur" (sigma 20 of 224), "blur_rise" (11x11, sigma 5), "uniform" and "gaussian"
            noise.
        mean: per-channel mean color, (C,).
        streams: draws of the noisy fills.

    Raises:
        ParameterError: an unknown fill.
    """
    if how == "black":
        return torch.zeros_like(images)
    if how == "white":
        return torch.ones_like(images)
    if how == "gray":
        return torch.full_like(images, 0.5)
    if how == "mean":
        own = images.mean(dim=(2, 3), keepdim=True)
        color = own if mean is None else mean.to(images).view(1, -1, 1, 1)
        return color.expand_as(images).clone()
    if how == "blur":
        return gaussian_blur(images, blur_sigma(images))
    if how == "blur_rise":
        return gaussian_blur(images, 5.0, radius=5)
    shape = tuple(images.shape[1:])
    if how == "uniform":
        return streams.uniform(shape, "fill").to(images)
    if how == "gaussian":
        return (0.5 + 0.2 * streams.normal(shape, "fill")).clamp(0, 1).to(images)
    raise ParameterError(
        f"Pixels are filled with black, white, gray, mean, blur, blur_rise, uniform or gaussian, "
        f"not '{how}'."
    )
