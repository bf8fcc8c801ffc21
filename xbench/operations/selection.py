"""Top pixels without luck: what a map selects when it breaks its ties at random, in expectation.

A tie broken by position favors one corner, and a draw shared by two maps makes them agree where
neither says anything. Here a pixel belongs to a selection with the probability that a uniformly
random order of equal values would put it there, so constant maps score exactly chance and equal
inputs always give equal scores.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def top_membership(maps: Tensor, counts: Tensor | int) -> Tensor:
    """Probability of every pixel to be among the top `counts`, ties in random order.

    Args:
        maps: (N, ...), finite.
        counts: pixels selected, one number or int64 (N,), each between 1 and the pixels of a map.

    Returns:
        float64 (N, M): 1 above the cut, 0 below, the same fraction for all pixels equal to the
        cut; each row sums to its count.

    >>> top_membership(torch.tensor([[3.0, 1.0, 1.0, 0.0]]), 2).tolist()
    [[1.0, 0.5, 0.5, 0.0]]
    """
    flat = maps.flatten(1)
    wanted = torch.as_tensor(counts, device=flat.device).expand(flat.shape[0]).reshape(-1, 1)
    cut = flat.sort(dim=1, descending=True).values.gather(1, wanted - 1)
    above, tied = flat > cut, flat == cut
    missing = (wanted - above.sum(dim=1, keepdim=True)).double()
    share = missing / tied.sum(dim=1, keepdim=True).clamp(min=1)
    return above.double() + tied * share


def rank_probabilities(values: Tensor, ranks: int) -> Tensor:
    """Probability of every feature to take each of the first ranks, ties in random order.

    Args:
        values: (N, M), a few features an image.
        ranks: how many ranks, from the largest value on.

    Returns:
        float64 (N, M, ranks).

    >>> rank_probabilities(torch.tensor([[5.0, 2.0, 5.0]]), 2).tolist()
    [[[0.5, 0.5], [0.0, 0.0], [0.5, 0.5]]]
    """
    greater = (values[:, None, :] > values[:, :, None]).sum(dim=2)
    tied = (values[:, None, :] == values[:, :, None]).sum(dim=2)
    position = torch.arange(ranks, device=values.device).view(1, 1, -1)
    first = greater[..., None]
    inside = (position >= first) & (position < first + tied[..., None])
    return inside.double() / tied[..., None].clamp(min=1)


def random_argmax(maps: Tensor, draws: Tensor) -> Tensor:
    """Flat index of the maximum, one of several equal ones chosen by a draw.

    Args:
        maps: (N, ...).
        draws: uniform in [0, 1), (N,).

    Returns:
        int64 (N,).

    >>> random_argmax(torch.tensor([[1.0, 4.0, 4.0]]), torch.tensor([0.7])).tolist()
    [2]
    """
    flat = maps.flatten(1)
    best = flat == flat.amax(dim=1, keepdim=True)
    count = best.sum(dim=1)
    chosen = torch.minimum((draws.to(flat.device).double() * count).long(), count - 1)
    position = best.cumsum(dim=1) - 1
    return (best & (position == chosen[:, None])).int().argmax(dim=1)


def dilate(masks: Tensor, radius: int) -> Tensor:
    """Every pixel within a Euclidean distance of a mask, bool (N, H, W).

    Args:
        masks: bool (N, H, W).
        radius: in pixels; 0 gives the mask itself.
    """
    height = masks.shape[1]
    grown = masks.clone()
    for shift in range(min(radius, height - 1) + 1):
        half = math.isqrt(radius**2 - shift**2)
        wide = F.max_pool1d(masks.float(), 2 * half + 1, 1, half) > 0
        grown[:, shift:] |= wide[:, : height - shift]
        grown[:, : height - shift] |= wide[:, shift:]
    return grown
