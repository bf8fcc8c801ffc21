"""Rank operations: orders with seeded random ties, average ranks, correlations."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from xbench.streams import Streams

_THREADED = 2**18
"""Values from which sorting on all cores is worth the threads."""


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
    shuffled = flat.gather(1, shuffle)
    order = shuffle.gather(1, shuffled.argsort(dim=1, descending=True, stable=True))
    ranks = torch.empty_like(order)
    positions = torch.arange(flat.shape[1], device=flat.device).expand_as(order)
    return ranks.scatter_(1, order, positions)


def sorted_rows(values: Tensor) -> Tensor:
    """Every row from the smallest value up, (N, M)."""
    if values.device.type != "cpu":
        return values.sort(dim=1).values
    return torch.from_numpy(np.sort(values.detach().numpy(), axis=1))  # vectorized, unlike torch's


def _order(values: Tensor) -> Tensor:
    """The places of every row's values from the smallest up, ties in any order, int64 (N, M)."""
    if values.device.type != "cpu":
        return values.argsort(dim=1)
    rows = values.detach().numpy()
    workers = min(torch.get_num_threads(), len(rows))
    if workers < 2 or rows.size < _THREADED:
        return torch.from_numpy(np.argsort(rows, axis=1))
    with ThreadPoolExecutor(workers) as pool:  # numpy sorts on one core, and lets others go on
        parts = pool.map(lambda some: np.argsort(some, axis=1), np.array_split(rows, workers))
        return torch.from_numpy(np.concatenate(list(parts)))


def average_ranks(values: Tensor) -> Tensor:
    """Ranks from 1, ties sharing their average, float64 (N, M).

    >>> average_ranks(torch.tensor([[3.0, 1.0, 3.0]])).tolist()
    [[2.5, 1.0, 2.5]]
    """
    order = _order(values)
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
