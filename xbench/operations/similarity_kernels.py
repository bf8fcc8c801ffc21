"""SSIM of stacks of images on the CPU: loops compiled at first use, a row of windows at a time."""

import numpy as np

from xbench.operations.compiled import kernel


@kernel
def _is_constant(image):
    first = image[0, 0]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if image[y, x] != first:
                return False
    return True


@kernel
def mean_ssim(first, second, weights, c1, c2, found):
    """Mean SSIM over the windows that fit.

    Args:
        first, second: float64 (N, H, W), at least as large as a window.
        weights: float64 (side of a window,), of its rows and of its columns.
        c1, c2: what steadies the two quotients.
        found: float64 (N,), filled; NaN where an image is constant.
    """
    count, height, width = first.shape
    side = len(weights)
    fits = width - side + 1
    columns, windows = np.empty((4, width)), np.empty((4, fits))
    for n in range(count):
        if _is_constant(first[n]) or _is_constant(second[n]):
            found[n] = np.nan
            continue
        total = 0.0
        for y in range(height - side + 1):
            columns[:] = 0
            for t in range(side):
                weight = weights[t]
                for x in range(width):
                    a, b = first[n, y + t, x], second[n, y + t, x]
                    columns[0, x] += weight * a
                    columns[1, x] += weight * b
                    columns[2, x] += weight * (a * a + b * b)
                    columns[3, x] += weight * (a * b)
            windows[:] = 0
            for moment in range(4):
                for t in range(side):
                    for x in range(fits):
                        windows[moment, x] += weights[t] * columns[moment, x + t]
            for x in range(fits):
                product = windows[0, x] * windows[1, x]
                squares = windows[0, x] * windows[0, x] + windows[1, x] * windows[1, x]
                above = (2 * product + c1) * (2 * (windows[3, x] - product) + c2)
                total += above / ((squares + c1) * (windows[2, x] - squares + c2))
        found[n] = total / ((height - side + 1) * fits)
