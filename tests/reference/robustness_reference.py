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


def lipschitz(explain, image, noises):
    """Alvarez-Melis & Jaakkola 2018, equation 6, of maps scaled by the largest entry."""
    own = explain(image)
    size = max(abs(v) for v in own.flatten().tolist())
    return max(norm((explain(image + noise) - own) / size) / norm(noise) for noise in noises)


def percent(values, changed, floor=1e-3):
    """Change by element, no divisor smaller than a share of the largest element."""
    largest = max(abs(v) for v in values.flatten().tolist())
    pairs = zip(values.flatten().tolist(), changed.flatten().tolist(), strict=True)
    return math.sqrt(sum(((a - b) / max(abs(a), floor * largest)) ** 2 for a, b in pairs))


def relative(explain, image, noises, distance, keeps):
    """Agarwal et al. 2022, equations 2, 3 and 5: the largest ratio over copies of the class."""
    own = explain(image)
    ratios = [
        percent(own, explain(image + noise)) / max(distance(image, image + noise), 1e-6)
        for noise in noises
        if keeps(image + noise)
    ]
    return max(ratios) if ratios else math.nan


def moved(image, down, right):
    """Content moved by whole pixels, the border repeated, pixel by pixel."""
    height, width = image.shape[-2:]
    other = image.clone()
    for i in range(height):
        for j in range(width):
            row = min(max(i - down, 0), height - 1)
            column = min(max(j - right, 0), width - 1)
            other[..., i, j] = image[..., row, column]
    return other


def pairs_after_move(first, second, down, right):
    """Values of the same content in both maps, wherever it is in both frames."""
    height, width = first.shape
    found = [
        (first[i, j].item(), second[i + down, j + right].item())
        for i in range(height)
        for j in range(width)
        if 0 <= i + down < height and 0 <= j + right < width
    ]
    return [a for a, _ in found], [b for _, b in found]
