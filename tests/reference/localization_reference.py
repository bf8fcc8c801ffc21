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


def _box(mask):
    rows = [y for y, row in enumerate(mask) if any(row)]
    columns = [x for x in range(len(mask[0])) if any(row[x] for row in mask)]
    return rows[0], rows[-1], columns[0], columns[-1]


def _inside_box(mask):
    top, bottom, left, right = _box(mask)
    return [
        [top <= y <= bottom and left <= x <= right for x in range(len(mask[0]))]
        for y in range(len(mask))
    ]


def energy_pointing_game(a, mask):
    """Wang et al. 2020: sum L(i, j) in the box / (sum in the box + sum outside), L >= 0."""
    inside = outside = 0.0
    for value, within in _pairs(a, _inside_box(mask)):
        if within:
            inside += max(0.0, value)
        else:
            outside += max(0.0, value)
    return inside / (inside + outside)


def attribution_localization(a, mask):
    """Kohlbrenner et al. 2020: mu_w = R_in / R_tot * S_tot / S_in over the bounding box."""
    pairs = _pairs(a, _inside_box(mask))
    return energy_pointing_game(a, mask) * len(pairs) / sum(within for _, within in pairs)


def mask_iou(a, mask):
    pairs = _pairs(a, mask)
    order = sorted(range(len(pairs)), key=lambda i: -pairs[i][0])
    truth = {i for i, (_, inside) in enumerate(pairs) if inside}
    top = set(order[: len(truth)])
    return len(top & truth) / len(top | truth)


def best_mask_iou(a, mask):
    pairs = _pairs(a, mask)
    truth = {i for i, (_, inside) in enumerate(pairs) if inside}
    best = 0.0
    for threshold in {value for value, _ in pairs}:
        above = {i for i, (value, _) in enumerate(pairs) if value >= threshold}
        best = max(best, len(above & truth) / len(above | truth))
    return best


def mask_auc(a, mask):
    """Share of (inside, outside) pairs in the right order, ties half."""
    pairs = _pairs(a, mask)
    won = total = 0
    for value, inside in pairs:
        for other, other_inside in pairs:
            if inside and not other_inside:
                total += 1
                won += 1 if value > other else 0.5 if value == other else 0
    return won / total


def top_k_intersection(a, mask, share):
    """Theiner et al. 2022: hits among the k largest over k."""
    pairs = sorted(_pairs(a, mask), key=lambda pair: -pair[0])
    k = max(1, round(share * len(pairs)))
    return sum(inside for _, inside in pairs[:k]) / k
