"""Localization metrics in plain loops, written from the papers."""

import math


def pointing_game(a, mask, tolerance, draw):
    """Zhang et al. 2018: is an object pixel within the tolerance of the maximum?"""
    height, width = len(a), len(a[0])
    radius = round(tolerance * min(height, width) / 224)
    best = max(max(row) for row in a)
    peaks = [(y, x) for y in range(height) for x in range(width) if a[y][x] == best]
    y, x = peaks[int(draw * len(peaks))]
    for v in range(height):
        for u in range(width):
            if mask[v][u] and (v - y) ** 2 + (u - x) ** 2 <= radius**2:
                return 1.0
    return 0.0


def dilated_share(mask, radius):
    height, width = len(mask), len(mask[0])
    near = 0
    for y in range(height):
        for x in range(width):
            near += any(
                mask[v][u] and math.hypot(v - y, u - x) <= radius
                for v in range(height)
                for u in range(width)
            )
    return near / (height * width)


def _pairs(a, mask):
    return [
        (value, bool(inside))
        for row, mask_row in zip(a, mask, strict=True)
        for value, inside in zip(row, mask_row, strict=True)
    ]


def rank_accuracy(a, mask):
    """Arras et al. 2022: hits among the K largest, K the size of the ground truth."""
    pairs = sorted(_pairs(a, mask), key=lambda pair: -pair[0])
    size = sum(inside for _, inside in pairs)
    return sum(inside for _, inside in pairs[:size]) / size


def mass_accuracy(a, mask):
    """Arras et al. 2022: relevance inside over all relevance, positive part."""
    within = sum(value for value, inside in _pairs(a, mask) if inside and value > 0)
    total = sum(value for value, _ in _pairs(a, mask) if value > 0)
    return within / total
