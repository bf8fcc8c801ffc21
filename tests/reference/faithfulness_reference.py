"""Slow, obvious faithfulness metrics: plain loops over one image, transcribed from the papers.

`f` maps one image (C, H, W) float64 in [0, 1] to its list of logits; `fill` is the picture that
stands where pixels were removed. Random sets, boxes and noise come from outside, so nothing here
draws; maps must have distinct values.
"""

import itertools
import math

import numpy as np
import scipy.stats

# ---- small parts


def softmax(z):
    e = [math.exp(v - max(z)) for v in z]
    return [v / sum(e) for v in e]


def probability(f, x, target):
    return softmax(f(x))[target]


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


def pixel_order(a):
    """Pixels from most to least relevant."""
    places = [(row, column) for row in range(a.shape[0]) for column in range(a.shape[1])]
    return sorted(places, key=lambda place: -a[place])


def cells(height, width, grid):
    """Pixels of each cell of a grid, row by row; as equal as integers allow."""
    rows, columns = min(grid, height), min(grid, width)
    found = [[] for _ in range(rows * columns)]
    for y in range(height):
        for x in range(width):
            found[(y * rows // height) * columns + x * columns // width].append((y, x))
    return found


def union(regions, chosen):
    return [place for index in chosen for place in regions[index]]


def total(a, pixels):
    return sum(float(a[place]) for place in pixels)


def pearson(a, b):
    return float(scipy.stats.pearsonr(a, b)[0])


def spearman(a, b):
    return float(scipy.stats.spearmanr(a, b)[0])


# ---- curves over pixels


def deletion(f, x, target, a, fill, steps):
    """Petsiuk et al. 2018: p of the target after removing the first k/steps of the pixels."""
    order = pixel_order(a)
    cut = [round(k * len(order) / steps) for k in range(steps + 1)]
    return [probability(f, replaced(x, fill, order[:k]), target) for k in cut]


def insertion(f, x, target, a, start, steps):
    """Petsiuk et al. 2018: from the start picture, the first k/steps of the pixels come back."""
    order = pixel_order(a)
    cut = [round(k * len(order) / steps) for k in range(steps + 1)]
    return [probability(f, replaced(start, x, order[:k]), target) for k in cut]


def abpc(f, x, target, a, fill, steps):
    """Area between the curves of least and of most relevant first."""
    most = deletion(f, x, target, a, fill, steps)
    least = deletion(f, x, target, -a, fill, steps)
    return trapezoid(least) - trapezoid(most)


def neighbor_equations(x, hole):
    """Rong et al. 2022: unknown pixels equal the weighted mean of their neighbors; dense solve."""
    height, width = hole.shape
    unknown = [(y, x_) for y in range(height) for x_ in range(width) if hole[y, x_]]
    number = {place: i for i, place in enumerate(unknown)}
    matrix = np.zeros((len(unknown), len(unknown)))
    right = np.zeros((len(unknown), x.shape[0]))
    for i, (y, x_) in enumerate(unknown):
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            place = (y + dy, x_ + dx)
            inside = 0 <= place[0] < height and 0 <= place[1] < width
            if (dy, dx) == (0, 0) or not inside:
                continue
            weight = 1 / 12 if dy and dx else 1 / 6
            matrix[i, i] += weight
            if place in number:
                matrix[i, number[place]] -= weight
            else:
                right[i] += weight * x[:, place[0], place[1]]
    return unknown, np.linalg.solve(matrix, right)


def road(f, x, target, a, noise, shares):
    """Rong et al. 2022: mean over the shares of p, most and least relevant pixels imputed."""
    means = []
    for signed in (a, -a):
        order = pixel_order(signed)
        values = []
        for share in shares:
            hole = np.zeros(a.shape, dtype=bool)
            for place in order[: round(share * len(order))]:
                hole[place] = True
            new = x.copy()
            unknown, solved = neighbor_equations(x, hole)
            for (row, column), color in zip(unknown, solved, strict=True):
                new[:, row, column] = color + noise[:, row, column]
            values.append(probability(f, new, target))
        means.append(sum(values) / len(values))
    return means[1] - means[0]


def eraser(f, x, target, a, fill, shares, keep):
    """DeYoung et al. 2020: sufficiency (keep the top) or comprehensiveness (remove it)."""
    order = pixel_order(a)
    losses = []
    for share in shares:
        count = max(1, round(share * len(order)))
        gone = order[count:] if keep else order[:count]
        losses.append(probability(f, x, target) - probability(f, replaced(x, fill, gone), target))
    return sum(losses) / len(losses)


# ---- sets of cells


def correlation_over_sets(f, x, target, a, fill, regions, sets):
    """Ancona et al. 2018, Bhatt et al. 2020: Pearson of summed relevance and logit drop."""
    sums = [total(a, union(regions, chosen)) for chosen in sets]
    drops = [f(x)[target] - f(replaced(x, fill, union(regions, chosen)))[target] for chosen in sets]
    return pearson(sums, drops)


def single_cells(f, x, target, a, fill, grid, correlation):
    """Alvarez-Melis and Jaakkola 2018 (Pearson); Hesse et al. 2024 (Spearman)."""
    regions = cells(*a.shape, grid)
    sums = [total(a, region) for region in regions]
    drops = [f(x)[target] - f(replaced(x, fill, region))[target] for region in regions]
    return correlation(sums, drops)


def monotonicity_correlation(f, x, target, a, noises, grid):
    """Nguyen and Martinez 2020: |relevance| and the mean squared change of the output."""
    regions = cells(*a.shape, grid)
    sums = [abs(total(a, region)) for region in regions]
    changes = []
    for region in regions:
        squares = [
            (f(x)[target] - f(replaced(x, noise, region))[target]) ** 2 / f(x)[target] ** 2
            for noise in noises
        ]
        changes.append(sum(squares) / len(squares))
    return spearman(sums, changes)


def infidelity(f, x, target, a, fill, boxes):
    """Yeh et al. 2019 with optimal scaling, divided by the mean squared drop."""
    sums, drops = [], []
    for top, left, bottom, right in boxes:
        pixels = [(y, c) for y in range(top, bottom) for c in range(left, right)]
        sums.append(total(a, pixels))
        drops.append(f(x)[target] - f(replaced(x, fill, pixels))[target])
    beta = sum(s * d for s, d in zip(sums, drops, strict=True)) / sum(s * s for s in sums)
    error = sum((beta * s - d) ** 2 for s, d in zip(sums, drops, strict=True))
    return error / sum(d * d for d in drops)


# ---- regions in order


def region_order(a, regions, mean=False):
    def value(region):
        return total(a, region) / (len(region) if mean else 1)

    return sorted(range(len(regions)), key=lambda index: -value(regions[index]))


def aopc(f, x, target, a, noises, grid, most, least_first=False):
    """Samek et al. 2017: mean over k = 0..L of f(x_0) - f(x_k), mean over draws of the noise."""
    regions = cells(*a.shape, grid)
    order = region_order(a, regions)
    order = order[::-1] if least_first else order
    values = []
    for noise in noises:
        drops = [
            f(x)[target] - f(replaced(x, noise, union(regions, order[:k])))[target]
            for k in range(min(most, len(order)) + 1)
        ]
        values.append(sum(drops) / len(drops))
    return sum(values) / len(values)


def selectivity(f, x, target, a, fill, grid, steps):
    """Montavon et al. 2018: area of the output while the best cells go."""
    regions = cells(*a.shape, grid)
    order = region_order(a, regions)
    cut = [round(k * len(order) / steps) for k in range(steps + 1)]
    return trapezoid(
        [probability(f, replaced(x, fill, union(regions, order[:k])), target) for k in cut]
    )


def irof(f, x, target, a, fill, labels, steps):
    """Rieger and Hansen 2020: one minus the area of p_k / p_0 over the share of superpixels."""
    regions = [
        [(int(y), int(c)) for y, c in zip(*np.nonzero(labels == index), strict=True)]
        for index in range(labels.max() + 1)
    ]
    order = region_order(a, regions, mean=True)
    cut = [round(k * len(order) / steps) for k in range(steps + 1)]
    clean = probability(f, x, target)
    ratio = [
        probability(f, replaced(x, fill, union(regions, order[:k])), target) / clean for k in cut
    ]
    below = 0.0
    for i in range(steps):
        below += (ratio[i] + ratio[i + 1]) / 2 * (cut[i + 1] - cut[i]) / len(order)
    return 1 - below


def monotonicity(f, x, target, a, fill, grid):
    """Arya et al. 2019: cells come back, least relevant first; share of steps without a fall."""
    regions = cells(*a.shape, grid)
    order = region_order(a, regions)[::-1]
    curve = [
        probability(f, replaced(fill, x, union(regions, order[:k])), target)
        for k in range(len(order) + 1)
    ]
    steps = [after >= before - 1e-9 for before, after in itertools.pairwise(curve)]
    return sum(steps) / len(steps)


# ---- whole image


def masked_confidence(f, x, target, a, fill, kind):
    """Chattopadhyay et al. 2018: the image seen through the positive part of the map."""
    positive = np.maximum(a, 0)
    part = positive / positive.max()
    before = probability(f, x, target)
    after = probability(f, part * x + (1 - part) * fill, target)
    if kind == "drop":
        return max(0.0, before - after) / before
    if kind == "increase":
        return 1.0 if after > before else 0.0
    return max(0.0, after - before) / (1 - before)


def completeness_error(f, x, target, a, fill):
    """Sundararajan et al. 2017, relative."""
    change = f(x)[target] - f(fill)[target]
    return abs(float(a.sum()) - change) / abs(change)
