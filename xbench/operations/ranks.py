"""Rank operations: orders with seeded random ties, average ranks, correlations."""

import torch
from torch import Tensor

from xbench.operations.cores import fill_rows
from xbench.optional import optional
from xbench.streams import Streams

kernels = optional("xbench.operations.rank_kernels", "install it with `pip install numba`")


def order_ranks(maps: Tensor, streams: Streams, *tag: str | int) -> Tensor:
    """Rank of every pixel from most to least relevant, ties in a seeded random order.

    Args:
        maps: (N, H, W).
        streams: one stream an image; the tag separates draws.

    Returns:
        int64 (N, H*W): 0 for the most relevant pixel; a permutation, whatever the ties.
    """
    flat = maps.flatten(1)
    shuffle = streams.permutation(flat.shape[1], "ties", *tag).to(flat.device)
    if _compiled(flat):
        return fill_rows(kernels.descending_ranks, torch.empty_like(shuffle), flat, shuffle)
    shuffled = flat.gather(1, shuffle)
    order = shuffle.gather(1, shuffled.argsort(dim=1, descending=True, stable=True))
    ranks = torch.empty_like(order)
    positions = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return ranks.scatter_(1, order, positions)


def _compiled(rows: Tensor) -> bool:
    """Whether compiled loops can rank rows: float32 on the CPU, with numba there."""
    return rows.device.type == "cpu" and rows.dtype == torch.float32 and kernels.reason is None


def average_ranks(values: Tensor) -> Tensor:
    """Ranks from 1, ties sharing their average, float64 (N, M).

    >>> average_ranks(torch.tensor([[3.0, 1.0, 3.0]])).tolist()
    [[2.5, 1.0, 2.5]]
    """
    if _compiled(values):
        found = torch.empty(values.shape, dtype=torch.float64)
        return fill_rows(kernels.mean_ranks, found, values)
    order = values.argsort(dim=1)
    ordered = values.gather(1, order)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    mean = torch.arange(1, values.shape[1] + 1, device=values.device, dtype=torch.float64)
    mean = mean.expand(values.shape)
    if values.device.type != "cpu" or not bool(new.all()):  # asking a GPU would wait for it
        group = new.cumsum(dim=1) - 1
        zeros = torch.zeros(values.shape, device=values.device, dtype=torch.float64)
        total = zeros.scatter_add(1, group, mean)
        count = zeros.scatter_add(1, group, torch.ones_like(mean))
        mean = (total / count.clamp(min=1)).gather(1, group)
    ranks = torch.empty(values.shape, device=values.device, dtype=torch.float64)
    return ranks.scatter_(1, order, mean)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation of rows, float64 (N,); NaN where a row is constant.

    >>> pearson(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[2.0, 4.0, 6.0]])).item()
    1.0
    """
    a, b = first.double(), second.double()
    if a.device.type == "cpu" and kernels.reason is None:
        return fill_rows(kernels.correlate, torch.empty(len(a), dtype=torch.float64), a, b)
    scale_a = a.abs().amax(dim=1, keepdim=True).clamp(min=1e-300)
    scale_b = b.abs().amax(dim=1, keepdim=True).clamp(min=1e-300)
    a, b = a / scale_a, b / scale_b
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    spread = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    constant = _constant(first) | _constant(second)
    value = ((a * b).sum(dim=1) / spread).clamp(-1, 1)
    return value.masked_fill(constant, float("nan"))


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman correlation of maps or rows with average ranks, float64 (N,).

    Args:
        first: (N, ...), flattened an image.
        second: the same shape.

    Returns:
        in [-1, 1]; NaN where one of the two is constant.
    """
    a, b = first.flatten(1), second.flatten(1)
    return pearson(average_ranks(a), average_ranks(b))


def top_mask(maps: Tensor, share: float, streams: Streams, *tag: str | int) -> Tensor:
    """The top share of pixels, bool (N, H, W); exactly round(share * H * W) of them."""
    count = max(1, round(share * maps.shape[1] * maps.shape[2]))
    return (order_ranks(maps, streams, *tag) < count).view(maps.shape)


def _constant(values: Tensor) -> Tensor:
    return values.amax(dim=1) == values.amin(dim=1)
