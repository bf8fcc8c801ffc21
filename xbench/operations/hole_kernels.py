"""The neighbor equations of holes on the CPU: loops compiled at first use.

Conjugate gradients, preconditioned by a cycle through grids of halved size (multigrid) with one
sweep on the way down and one on the way up; the flexible form, as what goes up is not the transpose
of what goes down. The coarse grids are those of `multigrid`. An image's channel stays in a core's
cache all the way, and no row depends on another.

A grid has a border of one cell, zero, and rows that begin on multiples of 64 bytes, where vector
loads are fastest. Loops run over its cells, from 1 to the height and to the width.
"""

import numpy as np
from numba.typed import List

from xbench.operations.compiled import kernel

# planes of the first grid
_HOLE, _SUMS, _STEP, _X, _R, _Z, _E, _P, _Q = range(9)
# planes of a coarse grid: ties to the cell right, below, below right and below left, and to zero,
# their sum, one over it (0 where closed), 1 where open, one over the known pixels, 1 without any
_TO_RIGHT, _DOWN, _DOWN_RIGHT, _DOWN_LEFT, _ZERO, _SUM, _INVERSE, _OPEN, _SHARE, _EMPTY = range(10)
# planes of what is solved on a coarse grid: right side, before and after the sweep on the way up
_RIGHT, _ROUGH, _SOLVED = range(3)
_QUARTER, _REST = np.float32(0.25), np.float32(0.75)


@kernel
def _planes(count, height, width):
    """Planes with zeros around them, (count, height + 2, width + 2 or somewhat more)."""
    wide = (width + 17) // 16 * 16
    size = count * (height + 2) * wide
    memory = np.empty(size + 16, np.float32)
    start = (-(memory.ctypes.data // 4)) % 16
    found = memory[start : start + size].reshape((count, height + 2, wide))
    found[:, 0] = 0
    found[:, height + 1] = 0
    found[:, :, 0] = 0
    found[:, :, width + 1 :] = 0
    return found


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
def _first_ties(hole, known, ties, height, width, weights):
    """The first coarse grid: a cell is two by two pixels; its count of known ones in _SHARE."""
    side, corner = np.float32(0.5) * weights[0], weights[1]
    for i in range(1, (height + 1) // 2 + 1):
        y = 2 * i - 1
        for j in range(1, (width + 1) // 2 + 1):
            x = 2 * j - 1
            right = hole[y, x + 1] * hole[y, x + 2] + hole[y + 1, x + 1] * hole[y + 1, x + 2]
            ties[_TO_RIGHT, i, j] = side * right
            ties[_ZERO, i, j] = (
                known[y, x] + known[y, x + 1] + known[y + 1, x] + known[y + 1, x + 1]
            )
            inside = (1 + (y < height)) * (1 + (x < width))
            held = hole[y, x] + hole[y, x + 1] + hole[y + 1, x] + hole[y + 1, x + 1]
            ties[_SHARE, i, j] = np.float32(inside) - held
        if y + 1 >= height:  # nothing is below
            ties[_DOWN : _DOWN_LEFT + 1, i] = 0
            continue
        for j in range(1, (width + 1) // 2 + 1):
            x = 2 * j - 1
            left, right = hole[y + 1, x], hole[y + 1, x + 1]
            ties[_DOWN, i, j] = side * (left * hole[y + 2, x] + right * hole[y + 2, x + 1])
            ties[_DOWN_RIGHT, i, j] = corner * right * hole[y + 2, x + 2]
            ties[_DOWN_LEFT, i, j] = corner * left * hole[y + 2, x - 1]


@kernel
def _coarser_ties(ties, found, height, width):
    """From a coarse grid of this size to the next: twice as far apart, so half as strong."""
    half = np.float32(0.5)
    for i in range(1, (height + 1) // 2 + 1):
        y = 2 * i - 1
        for j in range(1, (width + 1) // 2 + 1):
            x = 2 * j - 1
            right = ties[_TO_RIGHT, y, x + 1] + ties[_TO_RIGHT, y + 1, x + 1]
            found[_TO_RIGHT, i, j] = half * right
            found[_DOWN, i, j] = half * (ties[_DOWN, y + 1, x] + ties[_DOWN, y + 1, x + 1])
            found[_DOWN_RIGHT, i, j] = ties[_DOWN_RIGHT, y + 1, x + 1]
            found[_DOWN_LEFT, i, j] = ties[_DOWN_LEFT, y + 1, x]
            for plane in (_ZERO, _SHARE):
                upper = ties[plane, y, x] + ties[plane, y, x + 1]
                found[plane, i, j] = upper + ties[plane, y + 1, x] + ties[plane, y + 1, x + 1]


@kernel
def _finish_ties(ties, height, width):
    """What sweeps and the first guess need of a coarse grid."""
    one = np.float32(1)
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            total = ties[_ZERO, i, j] + ties[_TO_RIGHT, i, j] + ties[_DOWN, i, j]
            total += ties[_DOWN_RIGHT, i, j] + ties[_DOWN_LEFT, i, j] + ties[_TO_RIGHT, i, j - 1]
            total += ties[_DOWN, i - 1, j] + ties[_DOWN_RIGHT, i - 1, j - 1]
            total += ties[_DOWN_LEFT, i - 1, j + 1]
            open_, none = total > 0, ties[_SHARE, i, j] <= 0
            ties[_SUM, i, j] = total
            ties[_INVERSE, i, j] = one / total if open_ else np.float32(0)
            ties[_OPEN, i, j] = one if open_ else np.float32(0)
            ties[_SHARE, i, j] = np.float32(0) if none else one / ties[_SHARE, i, j]
            ties[_EMPTY, i, j] = one if none else np.float32(0)


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
def _left_coarse(ties, x, right, y, width, row):
    """Row y of what the equations leave of the right side, on a coarse grid."""
    for j in range(1, width + 1):
        value = right[y, j] - ties[_SUM, y, j] * x[y, j]
        value += ties[_TO_RIGHT, y, j] * x[y, j + 1] + ties[_TO_RIGHT, y, j - 1] * x[y, j - 1]
        value += ties[_DOWN, y, j] * x[y + 1, j] + ties[_DOWN, y - 1, j] * x[y - 1, j]
        value += ties[_DOWN_RIGHT, y, j] * x[y + 1, j + 1]
        value += ties[_DOWN_RIGHT, y - 1, j - 1] * x[y - 1, j - 1]
        value += ties[_DOWN_LEFT, y, j] * x[y + 1, j - 1]
        value += ties[_DOWN_LEFT, y - 1, j + 1] * x[y - 1, j + 1]
        row[j] = value


@kernel
def _add_rows(upper, lower, sums, width):
    """Two rows, two by two; the cell behind the end of an odd row holds zero."""
    for j in range(1, width + 1):
        sums[j] = upper[2 * j - 1] + upper[2 * j] + lower[2 * j - 1] + lower[2 * j]


@kernel
def _add_grown(x, mask, cells, height, width, row):
    """Add cells, linear between their centers, where the mask is; an odd end lies in the border."""
    rows, columns = (height + 1) // 2, (width + 1) // 2
    for y in range(1, height + 1):
        i = (y + 1) // 2
        other = min(max(i - 1 + 2 * (1 - y % 2), 1), rows)
        for j in range(1, columns + 1):
            row[j] = _REST * cells[i, j] + _QUARTER * cells[other, j]
        row[0], row[columns + 1] = row[1], row[columns]
        for j in range(1, columns + 1):
            middle = _REST * row[j]
            left, right = middle + _QUARTER * row[j - 1], middle + _QUARTER * row[j + 1]
            x[y, 2 * j - 1] += mask[y, 2 * j - 1] * left
            x[y, 2 * j] += mask[y, 2 * j] * right


@kernel
def _down(ties, grids, below, height, width, upper, lower):
    """A sweep from zero on a coarse grid, and what it leaves to the next."""
    rough, right = grids[_ROUGH], grids[_RIGHT]
    for i in range(1, height + 1):
        for j in range(1, width + 1):
            rough[i, j] = ties[_INVERSE, i, j] * right[i, j]
    columns = (width + 1) // 2
    for i in range(1, (height + 1) // 2 + 1):
        _left_coarse(ties, rough, right, 2 * i - 1, width, upper)
        upper[width + 1] = 0
        if 2 * i <= height:
            _left_coarse(ties, rough, right, 2 * i, width, lower)
            lower[width + 1] = 0
        else:
            lower[: width + 2] = 0
        _add_rows(upper, lower, below[i], columns)


@kernel
def _up(ties, grids, cells, height, width, row):
    """Add what the next grid found, and a sweep behind it."""
    rough, right, solved = grids[_ROUGH], grids[_RIGHT], grids[_SOLVED]
    _add_grown(rough, ties[_OPEN], cells, height, width, row)
    for i in range(1, height + 1):
        _left_coarse(ties, rough, right, i, width, row)
        for j in range(1, width + 1):
            solved[i, j] = rough[i, j] + ties[_INVERSE, i, j] * row[j]


@kernel
def _correct_coarse(levels, grids, sizes, first, second):
    """One cycle from the first coarse grid's right side to its solution."""
    last = len(levels) - 1
    for level in range(last):
        height, width = sizes[level]
        _down(levels[level], grids[level], grids[level + 1][_RIGHT], height, width, first, second)
    grids[last][_SOLVED, 1, 1] = grids[last][_RIGHT, 1, 1] * levels[last][_INVERSE, 1, 1]
    for level in range(last - 1, -1, -1):
        height, width = sizes[level]
        cells = grids[level + 1][_SOLVED]
        _up(levels[level], grids[level], cells, height, width, first)


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
        _add_rows(first, second, below[i], (width + 1) // 2)


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
    levels, grids, sizes = coarse
    for y in range(1, height + 1):
        _left(fine, fine[_X], fine[_HOLE], y, width, weights, rows[0])
        for j in range(1, width + 1):
            left = rows[0, j] - fine[_HOLE, y, j]
            fine[_R, y, j] = left
            fine[_Z, y, j] = fine[_STEP, y, j] * left
    alpha, before = np.float32(0), 0.0
    for cycle in range(ends[1]):
        _restrict(fine, grids[0][_RIGHT], height, width, weights, rows)
        _correct_coarse(levels, grids, sizes, rows[0], rows[1])
        _add_grown(fine[_Z], fine[_HOLE], grids[0][_SOLVED], height, width, rows[0])
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
    levels, grids, sizes = coarse
    x, hole, first = fine[_X], fine[_HOLE], grids[0][_RIGHT]
    for i in range(1, (height + 1) // 2 + 1):
        _add_rows(x[2 * i - 1], x[2 * i], first[i], (width + 1) // 2)
    last = len(levels) - 1
    for level in range(last):
        above, below = grids[level][_RIGHT], grids[level + 1][_RIGHT]
        tall, columns = sizes[level + 1]
        for i in range(1, tall + 1):
            _add_rows(above[2 * i - 1], above[2 * i], below[i], columns)
    for level in range(last, -1, -1):
        ties, tall, columns = levels[level], sizes[level][0], sizes[level][1]
        found, total = grids[level][_SOLVED], grids[level][_RIGHT]
        for i in range(1, tall + 1):
            for j in range(1, columns + 1):
                found[i, j] = total[i, j] * ties[_SHARE, i, j]
        if level < last:
            cells = grids[level + 1][_SOLVED]
            _add_grown(found, ties[_EMPTY], cells, tall, columns, row)
    _add_grown(x, hole, grids[0][_SOLVED], height, width, row)


@kernel
def _coarse_grids(height, width):
    """Planes and sizes of all coarse grids, down to a single cell."""
    levels, grids, sizes = List(), List(), List()
    while height > 1 or width > 1 or len(sizes) == 0:
        height, width = (height + 1) // 2, (width + 1) // 2
        levels.append(_planes(10, height, width))
        grids.append(_planes(3, height, width))
        sizes.append((height, width))
    return levels, grids, sizes


@kernel
def _know(drop, fine, known, coarse, weights):
    """What all grids need to know of the unknown pixels, bool (H, W)."""
    levels, _, sizes = coarse
    height, width = drop.shape
    for y in range(height):
        for x in range(width):
            fine[_HOLE, y + 1, x + 1] = np.float32(drop[y, x])
    _coefficients(fine, known, height, width, weights)
    _first_ties(fine[_HOLE], known, levels[0], height, width, weights)
    for level in range(len(levels) - 1):
        _coarser_ties(levels[level], levels[level + 1], sizes[level][0], sizes[level][1])
    for level in range(len(levels)):
        _finish_ties(levels[level], sizes[level][0], sizes[level][1])


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
    fine, known = _planes(9, height, width), _planes(1, height, width)[0]
    rows = _planes(1, 1, width)[0]
    coarse = _coarse_grids(height, width)
    fine[_P:] = 0
    levels = coarse[0]
    for b in range(len(owner)):
        _know(drop[b], fine, known, coarse, weights)
        for c in range(channels):
            image = images[owner[b], c]
            if levels[len(levels) - 1][_EMPTY, 1, 1] > 0:
                found[b, c] = image.mean()
            else:
                _fill(image, found[b, c], fine, coarse, weights, ends, rows)
            if len(noise) > 0:
                more = noise[owner[b], c]
                for y in range(height):
                    for x in range(width):
                        found[b, c, y, x] += fine[_HOLE, y + 1, x + 1] * more[y, x]
