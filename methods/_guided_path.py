"""One step of the adaptive path of Guided IG."""

import math

import torch
from torch import Tensor


def advance(
    line: tuple[Tensor, Tensor, Tensor],
    gradient: Tensor,
    done: float,
    bounds: tuple[float, float],
    fraction: float,
) -> Tensor:
    """Move a point until its L1 distance to the end is (1 - done) of the whole line's.

    Values that lag behind the lower bound are brought there first; then, again and again, the
    share `fraction` of values with the smallest magnitude of gradient goes to the upper bound, the
    last of these moves only as far as is needed.

    Args:
        line: start, point and end, float64 of one shape.
        gradient: at the point, same shape.
        done: share of the distance that is behind the point after the step.
        bounds: least and largest share of the line for every value.
        fraction: share of values that moves at once.

    Returns:
        the new point.
    """
    start, point, end = line
    whole = float((end - start).abs().sum())
    if whole <= 1e-12:
        return point
    target = whole * (1 - done)
    low, high = (start + (end - start) * bound for bound in bounds)
    along = (point - start) / (end - start)  # NaN where start and end are the same
    point = torch.where(along < bounds[0], low, point)
    size = gradient.abs()
    rank = min(int(fraction * (size.numel() - 1)) + 1, size.numel())
    while True:
        distance = float((point - end).abs().sum())
        if math.isclose(distance, target, rel_tol=1e-9, abs_tol=1e-9):
            return point
        size = size.masked_fill(point == high, math.inf)
        threshold = size.flatten().kthvalue(rank).values
        chosen = (size <= threshold) & size.isfinite()
        room = float((point - high).abs()[chosen].sum())
        if room == 0:
            if not bool(chosen.any()):
                return point
            size = size.masked_fill(chosen, math.inf)
            continue
        share = (distance - target) / room
        moved = high if share > 1 else point + (high - point) * share
        point = torch.where(chosen, moved, point)
        if share <= 1:
            return point
