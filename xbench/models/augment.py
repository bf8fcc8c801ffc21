"""Changes of training images: (images, generator, share of the training done) -> images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from xbench.operations.pixels import blur_sigma, gaussian_blur

Augment = Callable[[Tensor, Generator, float], Tensor]


def chain(*changes: Augment) -> Augment:
    """One change after the other."""

    def chained(images: Tensor, generator: Generator, done: float) -> Tensor:
        for change in changes:
            images = change(images, generator, done)
        return images

    return chained


def later(change: Augment, begin: float = 0.1, full: float = 0.4) -> Augment:
    """The change on no image at first, on all from `full` of the training on.

    What is hard to see is learned sooner after what is easy to see.
    """

    def delayed(images: Tensor, generator: Generator, done: float) -> Tensor:
        share = (done - begin) / (full - begin)
        chosen = _uniform((len(images), 1, 1, 1), generator) < share
        return torch.where(chosen.to(images.device), change(images, generator, done), images)

    return delayed


def turned(images: Tensor, generator: Generator, _: float) -> Tensor:
    """The batch turned by a multiple of 90 degrees, and mirrored half of the time."""
    quarter, mirror = _integers(4, 1, generator), _integers(2, 1, generator)
    images = torch.rot90(images, int(quarter), (2, 3))
    return images.flip(3) if int(mirror) else images


def recolored(images: Tensor, generator: Generator, _: float) -> Tensor:
    """The batch with its color channels in another order, and as a negative half of the time."""
    images = images[:, torch.randperm(images.shape[1], generator=generator)]
    return 1 - images if int(_integers(2, 1, generator)) else images


def noisy(strongest: float) -> Augment:
    """Gaussian noise, each image with its own standard deviation in [0, strongest)."""

    def change(images: Tensor, generator: Generator, _: float) -> Tensor:
        scale = strongest * _uniform((len(images), 1, 1, 1), generator)
        noise = torch.randn(images.shape, generator=generator)
        return images + (scale * noise).to(images)

    return change


def erased(share: float) -> Augment:
    """A share of the images with one rectangle (4 px to 3/8 of the side) in the mean color."""

    def change(images: Tensor, generator: Generator, _: float) -> Tensor:
        side = torch.arange(images.shape[-1])
        longest = max(5, 3 * images.shape[-1] // 8 + 1)
        length = 4 + _integers(longest - 4, (len(images), 2, 1), generator)
        start = _integers(images.shape[-1], (len(images), 2, 1), generator) - length // 2
        inside = (side >= start) & (side < start + length)
        chosen = _uniform((len(images), 1, 1), generator) < share
        drop = inside[:, 0, :, None] & inside[:, 1, None, :] & chosen
        mean = images.mean(dim=(2, 3), keepdim=True)
        return torch.where(drop[:, None].to(images.device), mean, images)

    return change


def masked(share: float) -> Augment:
    """A share of the images with a random part removed, from nothing to everything.

    The part is a random set of the cells of a grid (of 4, 8, 16 or as many cells as pixels a
    side), or a smooth random region; what takes its place is the image's mean color, its blurred
    copy, or noise. These are the edits that removal metrics make.
    """

    def change(images: Tensor, generator: Generator, _: float) -> Tensor:
        count, _, height, width = images.shape
        cells = (4, 8, 16, max(height, width))[int(_integers(4, 1, generator))]
        smooth = bool(_integers(2, 1, generator)) and cells <= 16
        grid = _uniform((count, 1, cells, cells), generator)
        if smooth:
            level = F.interpolate(grid, (height, width), mode="bilinear", align_corners=False)
        else:
            level = F.interpolate(grid, (height, width), mode="nearest")
        # Ranks, so that the removed share is uniform whatever the distribution of `level`.
        ranks = level.flatten(1).argsort(dim=1).argsort(dim=1).view_as(level)
        limit = _uniform((count, 1, 1, 1), generator) * height * width
        if not smooth:
            ranks, limit = level, limit / (height * width)
        chosen = _uniform((count, 1, 1, 1), generator) < share
        drop = ((ranks < limit) & chosen).to(images.device)
        return torch.where(drop, _filling(images, generator), images)

    return change


def _filling(images: Tensor, generator: Generator) -> Tensor:
    kind = int(_integers(4, 1, generator))
    mean = images.mean(dim=(2, 3), keepdim=True)
    if kind <= 1:
        return mean.expand_as(images)
    if kind == 2:
        return gaussian_blur(images, blur_sigma(images))
    return mean + 0.2 * torch.randn(images.shape, generator=generator).to(images)


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator)


def _integers(high: int, shape: int | tuple[int, ...], generator: Generator) -> Tensor:
    size = (shape,) if isinstance(shape, int) else shape
    return torch.randint(high, size, generator=generator)
