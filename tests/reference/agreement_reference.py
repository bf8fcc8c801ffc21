"""Agreement metrics in plain loops, written from the papers."""

import numpy as np
from skimage.metrics import structural_similarity


def _flat(a):
    return [value for row in a for value in row]


def iou(a, b, q):
    """Jaccard index of the sets of the top q pixels; values must be distinct."""
    a, b = _flat(a), _flat(b)
    count = max(1, round(q * len(a)))
    top_a = set(sorted(range(len(a)), key=lambda i: -a[i])[:count])
    top_b = set(sorted(range(len(b)), key=lambda i: -b[i])[:count])
    return len(top_a & top_b) / len(top_a | top_b)


def _average_ranks(values):
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def spearman(a, b):
    """Pearson correlation of average ranks."""
    a, b = _average_ranks(_flat(a)), _average_ranks(_flat(b))
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    product = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    spread = sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)
    return product / spread**0.5


def cells(a, grid):
    height, width = len(a), len(a[0])
    rows, columns = min(grid, height), min(grid, width)
    sums = [0.0] * (rows * columns)
    for y in range(height):
        for x in range(width):
            sums[(y * rows // height) * columns + x * columns // width] += a[y][x]
    return sums


def top_features(a, b, k, condition):
    """Krishna et al. 2022: agreement of the top-k features by magnitude."""

    def ranked(values):
        return sorted(range(len(values)), key=lambda i: -abs(values[i]))[:k]

    first, second = ranked(a), ranked(b)
    agreed = 0
    for feature in set(first) & set(second):
        same_rank = first.index(feature) == second.index(feature)
        same_sign = (a[feature] > 0) == (b[feature] > 0)
        agreed += {
            "feature": True,
            "rank": same_rank,
            "sign": same_sign,
            "signed_rank": same_rank and same_sign,
        }[condition]
    return agreed / k


def ssim(a, b):
    """Adebayo et al. 2018 with absolute maps over their 99th percentile, by scikit-image."""
    scaled = []
    for one in (a, b):
        absolute = np.abs(np.asarray(one, dtype=np.float64))
        scaled.append(np.clip(absolute / np.percentile(absolute, 99), 0, 1))
    return structural_similarity(
        *scaled, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
