"""Subsets of regions: random draws that all methods share, sums of a map over regions, boxes."""

import torch
from torch import Tensor

from xbench.streams import Streams


def region_sums(maps: Tensor, regions: Tensor, count: int) -> Tensor:
    """Sum of a map over each region, float64 (N, count), on the CPU.

    Added up on the CPU in a fixed order: equal regions of a constant map then tie exactly.

    Args:
        maps: (N, H, W).
        regions: int64 (N, H, W), the region of each pixel, from 0.
        count: number of regions; those that an image lacks sum to 0.

    >>> maps = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    >>> region_sums(maps, torch.tensor([[[0, 0], [1, 1]]]), 2).tolist()
    [[3.0, 7.0]]
    """
    flat = maps.flatten(1).cpu().double()
    total = torch.zeros(flat.shape[0], count, dtype=torch.float64)
    return total.scatter_add_(1, regions.flatten(1).cpu(), flat)


def random_subsets(streams: Streams, items: int, size: int, draws: int, *tag: str | int) -> Tensor:
    """Random subsets of exactly `size` items, bool (N, draws, items), on the CPU.

    Args:
        streams: one stream an image.
        items: how many there are to choose from.
        size: how many each subset holds.
        draws: how many subsets.
        tag: separates draws of equal shape.
    """
    noise = streams.uniform((draws, items), "subsets", items, size, draws, *tag)
    ranks = noise.argsort(dim=2).argsort(dim=2)
    return ranks < size


def random_boxes(streams: Streams, height: int, width: int, sides: list[int], draws: int) -> Tensor:
    """Random squares as (top, left, bottom, right), int64 (N, draws, 4), on the CPU.

    Args:
        streams: one stream an image.
        height: of the image.
        width: of the image.
        sides: side lengths to choose from, none larger than the image.
        draws: how many boxes.
    """
    u = streams.uniform((draws, 3), "boxes", draws)
    side = torch.tensor(sides)[(u[..., 0] * len(sides)).long()]
    top = (u[..., 1] * (height - side + 1)).long()
    left = (u[..., 2] * (width - side + 1)).long()
    return torch.stack([top, left, top + side, left + side], dim=2)


def box_sums(maps: Tensor, boxes: Tensor) -> Tensor:
    """Sum of a map over boxes, float64 (N, D), on the CPU, by summed areas.

    Args:
        maps: (N, H, W).
        boxes: int64 (N, D, 4) as of `random_boxes`.
    """
    table = maps.cpu().double().cumsum(dim=1).cumsum(dim=2)
    table = torch.nn.functional.pad(table, (1, 0, 1, 0))
    n = torch.arange(maps.shape[0])[:, None]
    top, left, bottom, right = boxes.unbind(dim=2)
    return (
        table[n, bottom, right]
        - table[n, top, right]
        - table[n, bottom, left]
        + table[n, top, left]
    )


def inside_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Pixels inside each box (B, 4), bool (B, 1, height, width)."""
    y = torch.arange(height, device=boxes.device).view(1, 1, -1, 1)
    x = torch.arange(width, device=boxes.device).view(1, 1, 1, -1)
    top, left, bottom, right = boxes.view(-1, 4, 1, 1, 1).unbind(dim=1)
    return (y >= top) & (y < bottom) & (x >= left) & (x < right)
