"""Slow, obvious faithfulness metrics: numpy loops over one image, transcribed from the papers.

`f` maps one image (C, H, W) float64 in [0, 1] to its logits (classes,). Orders and random sets
come from outside, so that nothing here draws.
"""

import itertools
import math


def softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def trapezoid(values):
    total = 0.0
    for left, right in itertools.pairwise(values):
        total += (left + right) / 2
    return total / (len(values) - 1)


def replaced(x, other, pixels):
    """x with those pixels (row, column), all channels at once, taken from other."""
    new = x.copy()
    for row, column in pixels:
        for channel in range(x.shape[0]):
            new[channel, row, column] = other[channel, row, column]
    return new


def deletion(f, x, target, order, fill, steps):
    """Petsiuk et al. 2018: p of the target after removing the first k/steps of `order`."""
    return [
        softmax(f(replaced(x, fill, order[: round(k * len(order) / steps)])))[target]
        for k in range(steps + 1)
    ]


def insertion(f, x, target, order, start, steps):
    """Petsiuk et al. 2018: from the start picture, the first k/steps of `order` come back."""
    return [
        softmax(f(replaced(start, x, order[: round(k * len(order) / steps)])))[target]
        for k in range(steps + 1)
    ]
