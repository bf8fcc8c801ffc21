"""The coarse grids of holes: equations between cells of 2^k by 2^k pixels, compiled at first use.

The ties are those of `multigrid`. A grid has a border of one cell, zero, and rows that begin on
multiples of 64 bytes, where vector loads are fastest. Loops run over its cells, from 1 to the
height and to the width. What is called coarse is a tuple of lists, from the finest of them to a
single cell: ties, what is solved, and sizes.
"""

import numpy as np
from numba.typed import List

from xbench.operations.compiled import kernel

# planes of a coarse grid: ties to the cell right, below, below right and below left, and to zero,
# their sum, one over it (0 where closed), 1 where open, one over the known pixels, 1 without any
_TO_RIGHT, _DOWN, _DOWN_RIGHT, _DOWN_LEFT, _ZERO, _SUM, _INVERSE, _OPEN, _SHARE, EMPTY = range(10)
# planes of what is solved on a coarse grid: right side, before and after the sweep on the way up
RIGHT, _ROUGH, SOLVED = range(3)
_QUARTER, _REST = np.float32(0.25), np.float32(0.75)


@kernel
def planes(count, height, width):
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
def coarse_grids(height, width):
    """Planes and sizes of all coarse grids, down to a single cell."""
    levels, grids, sizes = List(), List(), List()
    while height > 1 or width > 1 or len(sizes) == 0:
        height, width = (height + 1) // 2, (width + 1) // 2
        levels.append(planes(10, height, width))
        grids.append(planes(3, height, width))
        sizes.append((height, width))
    return levels, grids, sizes


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
            ties[EMPTY, i, j] = one if none else np.float32(0)


@kernel
def coarsen(coarse, hole, known, height, width, weights):
    """The equations of all coarse grids, from the hole and what ties its pixels to known ones."""
    levels, _, sizes = coarse
    _first_ties(hole, known, levels[0], height, width, weights)
    for level in range(len(levels) - 1):
        _coarser_ties(levels[level], levels[level + 1], sizes[level][0], sizes[level][1])
    for level in range(len(levels)):
        _finish_ties(levels[level], sizes[level][0], sizes[level][1])


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
def add_rows(upper, lower, sums, width):
    """Two rows, two by two; the cell behind the end of an odd row holds zero."""
    for j in range(1, width + 1):
        sums[j] = upper[2 * j - 1] + upper[2 * j] + lower[2 * j - 1] + lower[2 * j]


@kernel
def add_grown(x, mask, cells, height, width, row):
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
    rough, right = grids[_ROUGH], grids[RIGHT]
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
        add_rows(upper, lower, below[i], columns)


@kernel
def _up(ties, grids, cells, height, width, row):
    """Add what the next grid found, and a sweep behind it."""
    rough, right, solved = grids[_ROUGH], grids[RIGHT], grids[SOLVED]
    add_grown(rough, ties[_OPEN], cells, height, width, row)
    for i in range(1, height + 1):
        _left_coarse(ties, rough, right, i, width, row)
        for j in range(1, width + 1):
            solved[i, j] = rough[i, j] + ties[_INVERSE, i, j] * row[j]


@kernel
def correct(coarse, rows):
    """One cycle from the first coarse grid's right side to its solution."""
    levels, grids, sizes = coarse
    first, second = rows[0], rows[1]
    last = len(levels) - 1
    for level in range(last):
        height, width = sizes[level]
        _down(levels[level], grids[level], grids[level + 1][RIGHT], height, width, first, second)
    grids[last][SOLVED, 1, 1] = grids[last][RIGHT, 1, 1] * levels[last][_INVERSE, 1, 1]
    for level in range(last - 1, -1, -1):
        height, width = sizes[level]
        cells = grids[level + 1][SOLVED]
        _up(levels[level], grids[level], cells, height, width, first)


@kernel
def means(coarse, row):
    """From sums of known pixels on the first grid to means: of the smallest cell that has any."""
    levels, grids, sizes = coarse
    last = len(levels) - 1
    for level in range(last):
        above, below = grids[level][RIGHT], grids[level + 1][RIGHT]
        tall, columns = sizes[level + 1]
        for i in range(1, tall + 1):
            add_rows(above[2 * i - 1], above[2 * i], below[i], columns)
    for level in range(last, -1, -1):
        ties, tall, columns = levels[level], sizes[level][0], sizes[level][1]
        found, total = grids[level][SOLVED], grids[level][RIGHT]
        for i in range(1, tall + 1):
            for j in range(1, columns + 1):
                found[i, j] = total[i, j] * ties[_SHARE, i, j]
        if level < last:
            cells = grids[level + 1][SOLVED]
            add_grown(found, ties[EMPTY], cells, tall, columns, row)
