"""Robustness metrics, transcribed from their papers with plain loops over images and draws."""

import math


def norm(values):
    return math.sqrt(sum(v * v for v in values.flatten().tolist()))


def sensitivity(explain, image, noises):
    """Yeh et al. 2019, equation of max-sensitivity: the changes of all draws, relative."""
    own = explain(image)
    return [norm(explain(image + noise) - own) / norm(own) for noise in noises]


def top_iou(first, second, share):
    """Overlap of the top share of two maps without ties."""
    count = round(share * first.numel())
    a = set(first.flatten().argsort(descending=True).tolist()[:count])
    b = set(second.flatten().argsort(descending=True).tolist()[:count])
    return len(a & b) / len(a | b)
