"""The neighbor equations of holes on the CPU: loops compiled at first use.

Conjugate gradients, preconditioned by a cycle through grids of halved size (multigrid) with one
sweep on the way down and one on the way up; in the flexible form, as what goes up is not the
transpose of what goes down. An image's channel stays in a core's cache all the way, and no row
depends on another. Grids are as in `grid_kernels`.
"""

import numpy as np

from xbench.operations.compiled import kernel
from xbench.operations.grid_kernels import (
    EMPTY,
    RIGHT,
    SOLVED,
    add_grown,
    add_rows,
    coarse_grids,
    coarsen,
    correct,
    means,
    planes,
)

# planes of the first grid: 1 in the hole, sums of weights and one over them (0 outside the hole),
# solution, what is left, before and after the sweep on the way up, direction, and what the
# equations make of it
_HOLE, _SUMS, _STEP, _X, _R, _Z, _E, _P, _Q = range(9)


@kernel
def _left(fine, x, right, y, width, weights, row):
    """Row y of what the equations leave of the right side, on the first grid.

    Outside the hole it holds what nobody reads: all that follows is zero there.
    """
    for j in range(1, width + 1):
        sides = x[y, j - 1] + x[y, j + 1] + x[y - 1, j] + x[y + 1, j]
        corners = x[y - 1, j - 1] + x[y - 1, j + 1] + x[y + 1, j - 1] + x[y + 1, j + 1]
        total = weights[0] * sides + weights[1] * corners
        row[j] = right[y, j] - fine[_SUMS, y, j] * x[y, j] + total


@kernel
def _coefficients(fine, known, height, width, weights):
    """The sum of an unknown pixel's weights, one over it, and those of its known neighbors."""
    hole, sums, step = fine[_HOLE], fine[_SUMS], fine[_STEP]
    for y in range(1, height + 1):
        rows = np.float32((y > 1) + (y < height))
        for x in range(1, width + 1):
            columns = np.float32((x > 1) + (x < width))
            total = weights[0] * (rows + columns) + weights[1] * rows * columns
            sums[y, x] = total * hole[y, x]
            step[y, x] = hole[y, x] / max(total, np.float32(1))
    for y in range(1, height + 1):
        _left(fine, hole, hole, y, width, weights, known[y])
        for x in range(1, width + 1):
            known[y, x] = hole[y, x] * (hole[y, x] - known[y, x])


@kernel
def _restrict(fine, below, height, width, weights, rows):
    """What the sweep in _Z leaves to the first coarse grid."""
    first, second, hole = rows[0], rows[1], fine[_HOLE]
    for i in range(1, (height + 1) // 2 + 1):
        _left(fine, fine[_Z], fine[_R], 2 * i - 1, width, weights, first)
        for j in range(1, width + 1):
            first[j] *= hole[2 * i - 1, j]
        first[width + 1] = 0
        if 2 * i <= height:
            _left(fine, fine[_Z], fine[_R], 2 * i, width, weights, second)
            for j in range(1, width + 1):
                second[j] *= hole[2 * i, j]
            second[width + 1] = 0
        else:
            second[: width + 2] = 0
        add_rows(first, second, below[i], (width + 1) // 2)


@kernel
def _sweep(fine, height, width, weights, row):
    """A sweep behind _Z, into _E.

    Returns:
        The products of _E with _Q and with _R.
    """
    with_q, with_r = 0.0, 0.0
    for y in range(1, height + 1):
        _left(fine, fine[_Z], fine[_R], y, width, weights, row)
        a, b = np.float32(0), np.float32(0)
        for j in range(1, width + 1):
            value = fine[_Z, y, j] + fine[_STEP, y, j] * row[j]
            fine[_E, y, j] = value
            a += value * fine[_Q, y, j]
            b += value * fine[_R, y, j]
        with_q += a
        with_r += b
    return with_q, with_r


@kernel
def _direct(fine, height, width, weights, beta, rows):
    """The next direction, its largest values in every column, and what the equations make of it.

    Returns:
        How far to go along it.
    """
    row, largest = rows[0], rows[1]
    along, bent = 0.0, 0.0
    largest[:] = 0
    for y in range(1, height + 1):
        a = np.float32(0)
        for j in range(1, width + 1):
            value = fine[_E, y, j] + beta * fine[_P, y, j]
            fine[_P, y, j] = value
            a += value * fine[_R, y, j]
        for j in range(1, width + 1):
            largest[j] = max(largest[j], abs(fine[_P, y, j]))
        along += a
    for y in range(1, height + 1):
        _left(fine, fine[_P], fine[_R], y, width, weights, row)
        b = np.float32(0)
        for j in range(1, width + 1):
            value = fine[_R, y, j] - row[j]
            fine[_Q, y, j] = value
            b += value * fine[_P, y, j]
        bent += b
    return np.float32(along / bent) if bent > 0 else np.float32(0)


@kernel
def _advance(fine, height, width, alpha):
    """Go along the direction, and sweep what is left."""
    for y in range(1, height + 1):
        for j in range(1, width + 1):
            fine[_X, y, j] += alpha * fine[_P, y, j]
            left = fine[_R, y, j] - alpha * fine[_Q, y, j]
            fine[_R, y, j] = left
            fine[_Z, y, j] = fine[_STEP, y, j] * left


@kernel
def _solve(fine, coarse, height, width, weights, ends, rows):
    """Conjugate gradients for one channel, from the guess in _X, to a tolerance or a limit."""
    first = coarse[1][0]
    for y in range(1, height + 1):
        _left(fine, fine[_X], fine[_HOLE], y, width, weights, rows[0])
        for j in range(1, width + 1):
            left = rows[0, j] - fine[_HOLE, y, j]
            fine[_R, y, j] = left
            fine[_Z, y, j] = fine[_STEP, y, j] * left
    alpha, before = np.float32(0), 0.0
    for cycle in range(ends[1]):
        _restrict(fine, first[RIGHT], height, width, weights, rows)
        correct(coarse, rows)
        add_grown(fine[_Z], fine[_HOLE], first[SOLVED], height, width, rows[0])
        with_q, with_r = _sweep(fine, height, width, weights, rows[0])
        beta = np.float32(-alpha * with_q / before) if cycle and before > 0 else np.float32(0)
        before = with_r
        alpha = _direct(fine, height, width, weights, beta, rows)
        _advance(fine, height, width, alpha)
        if alpha * rows[1].max() <= ends[0]:
            break


@kernel
def _guess(fine, coarse, height, width, row):
    """Dropped pixels take the mean of the smallest 2^k block with content, linear in between."""
    x, first = fine[_X], coarse[1][0]
    for i in range(1, (height + 1) // 2 + 1):
        add_rows(x[2 * i - 1], x[2 * i], first[RIGHT, i], (width + 1) // 2)
    means(coarse, row)
    add_grown(x, fine[_HOLE], first[SOLVED], height, width, row)


@kernel
def _know(drop, fine, known, coarse, weights):
    """What all grids need to know of the unknown pixels, bool (H, W)."""
    height, width = drop.shape
    for y in range(height):
        for x in range(width):
            fine[_HOLE, y + 1, x + 1] = np.float32(drop[y, x])
    _coefficients(fine, known, height, width, weights)
    coarsen(coarse, fine[_HOLE], known, height, width, weights)


@kernel
def _fill(image, found, fine, coarse, weights, ends, rows):
    """One channel, (H, W)."""
    height, width = image.shape
    for y in range(height):
        for x in range(width):
            keep = np.float32(1) - fine[_HOLE, y + 1, x + 1]
            fine[_X, y + 1, x + 1] = keep * image[y, x]
    _guess(fine, coarse, height, width, rows[0])
    _solve(fine, coarse, height, width, weights, ends, rows)
    for y in range(height):
        for x in range(width):
            found[y, x] = fine[_X, y + 1, x + 1]


@kernel
def fill_holes(owner, drop, found, images, noise, weights, ends):
    """Solve the neighbor equations of a batch, row by row, on one core.

    Args:
        owner: int64 (B,), the image of each row.
        drop: bool (B, H, W), the unknown pixels; where all are, the image's mean is taken.
        found: float32 (B, C, H, W), filled.
        images: float32 (N, C, H, W).
        noise: float32 (N, C, H, W), added to the dropped pixels; or (0, C, H, W).
        weights: float32, of direct and of diagonal neighbors, (2, 1) or (1, 0).
        ends: a channel is solved when a cycle changes no pixel by more than the first, or after as
            many cycles as the second.
    """
    _, channels, height, width = images.shape
    fine, known = planes(9, height, width), planes(1, height, width)[0]
    rows = planes(1, 1, width)[0]
    coarse = coarse_grids(height, width)
    fine[_P:] = 0
    levels = coarse[0]
    for b in range(len(owner)):
        _know(drop[b], fine, known, coarse, weights)
        for c in range(channels):
            image = images[owner[b], c]
            if levels[len(levels) - 1][EMPTY, 1, 1] > 0:
                found[b, c] = image.mean()
            else:
                _fill(image, found[b, c], fine, coarse, weights, ends, rows)
            if len(noise) > 0:
                more = noise[owner[b], c]
                for y in range(height):
                    for x in range(width):
                        found[b, c, y, x] += fine[_HOLE, y + 1, x + 1] * more[y, x]
