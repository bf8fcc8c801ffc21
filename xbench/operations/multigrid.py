"""Neighbor equations in holes of many shapes, by cycles through grids of halved size (multigrid).

The unknown pixels of a hole obey x_i = sum_j w_ij x_j / sum_j w_ij over their neighbors inside the
image. A sweep (Jacobi, with the two weights of a Chebyshev polynomial) takes out what is rough;
what is left is smooth and is solved for on a grid of half the size, and so on down to a grid small
enough to be inverted. The coarse grids know the hole: cells are tied where pixels on both sides of
their border are unknown, and are held to zero as strongly as their pixels are tied to known ones.
All images of a batch go through together; one that is solved leaves the batch.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = tuple[float, float]
_DIRECT = 8  # a grid of at most so many cells a side is inverted


@dataclass(frozen=True)
class Stencil:
    """One kind of neighbor equations.

    Attributes:
        weights: of the four direct and the four diagonal neighbors; the diagonal ones are half of
            the direct ones, or 0.
        sweeps: the weights of a pair of sweeps, which leave least of the errors that the coarse
            grid does not see; their sizes are between 2/3 and 4/3 with diagonals, else 1/2 and 2.
    """

    weights: Weights
    sweeps: tuple[float, float]

    @staticmethod
    def of(weights: Weights) -> "Stencil":
        """The stencil of two weights."""
        direct, diagonal = weights
        if diagonal and abs(direct - 2 * diagonal) > 1e-9:
            raise ValueError("Diagonal neighbors weigh half as much as direct ones, or nothing.")
        low, high = (2 / 3, 4 / 3) if diagonal else (1 / 2, 2.0)
        middle, reach = (low + high) / 2, (high - low) / 2 * 0.5**0.5
        return Stencil(weights, (1 / (middle + reach), 1 / (middle - reach)))

    def total(self, padded: Tensor) -> Tensor:
        """Sum over the neighbors in units of the least weight, plus `center` times the pixel.

        Four additions of shifts, as [1 2 1] x [1 2 1] is two averages in each direction.

        Args:
            padded: (B, C, H + 2, W + 2), zero around the image.

        Returns:
            (B, C, H, W).
        """
        if not self.weights[1]:
            sides = padded[..., 1:-1, 2:] + padded[..., 1:-1, :-2]
            return sides.add_(padded[..., 2:, 1:-1]).add_(padded[..., :-2, 1:-1])
        pairs = padded[..., 1:] + padded[..., :-1]
        rows = pairs[..., 1:] + pairs[..., :-1]
        pairs = rows[..., 1:, :] + rows[..., :-1, :]
        return pairs[..., 1:, :] + pairs[..., :-1, :]

    @property
    def unit(self) -> float:
        """The least weight."""
        return self.weights[1] or self.weights[0]

    @property
    def center(self) -> float:
        """How often `total` counts the pixel itself."""
        return 4.0 if self.weights[1] else 0.0


@dataclass(frozen=True)
class _Ties:
    """The equations on one coarse grid: how strongly cells are tied to their neighbors and to zero.

    Attributes:
        right, down, diagonal, opposite: (B, 1, h, w), ties of each cell to the next one to the
            right, below, below right and below left.
        zero: (B, 1, h, w), to zero.
    """

    right: Tensor
    down: Tensor
    diagonal: Tensor
    opposite: Tensor
    zero: Tensor

    def coarser(self) -> "_Ties":
        """On the grid of half the size: a cell is two by two cells of this one."""
        right, down, diagonal, opposite, zero = map(
            _even, (self.right, self.down, self.diagonal, self.opposite, self.zero)
        )
        return _Ties(
            # twice as far apart, so half as strong; across a corner there is one path, not two
            (right[..., ::2, 1::2] + right[..., 1::2, 1::2]) / 2,
            (down[..., 1::2, ::2] + down[..., 1::2, 1::2]) / 2,
            diagonal[..., 1::2, 1::2].contiguous(),
            opposite[..., 1::2, ::2].contiguous(),
            summed(zero),
        )

    def sums(self) -> Tensor:
        """The sum of all ties of each cell, (B, 1, h, w)."""
        total = self.zero + self.right + self.down + self.diagonal + self.opposite
        total[..., 1:] += self.right[..., :-1]
        total[..., 1:, :] += self.down[..., :-1, :]
        total[..., 1:, 1:] += self.diagonal[..., :-1, :-1]
        total[..., 1:, :-1] += self.opposite[..., :-1, 1:]
        return total


def _even(grid: Tensor) -> Tensor:
    height, width = grid.shape[-2:]
    return F.pad(grid, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else grid


def summed(grid: Tensor) -> Tensor:
    """Sums over two by two cells, (..., H, W) to half of it; what is missing at odd ends is zero.

    Additions of strided views, like the next function: an eighth of the time of a pooling.
    """
    grid = _even(grid)
    rows = grid[..., ::2, :] + grid[..., 1::2, :]
    return rows[..., ::2] + rows[..., 1::2]


def grown(cells: Tensor, height: int, width: int) -> Tensor:
    """Twice the size, linear between the centers of cells, cut to a height and width."""
    padded = F.pad(cells, (1, 1, 1, 1), mode="replicate")
    *batch, rows, columns = cells.shape
    tall = cells.new_empty(*batch, 2 * rows, columns + 2)
    _between(padded, tall, -2)
    wide = cells.new_empty(*batch, 2 * rows, 2 * columns)
    _between(tall, wide, -1)
    return wide[..., :height, :width]


def _between(padded: Tensor, found: Tensor, dim: int) -> None:
    """Fill twice as many places along a dimension: a quarter of the way to either neighbor."""
    count = padded.shape[dim] - 2
    middle = padded.narrow(dim, 1, count)
    for start in (0, 1):
        places = found[..., start::2, :] if dim == -2 else found[..., start::2]
        torch.lerp(middle, padded.narrow(dim, 2 * start, count), 0.25, out=places)


class _Coarse:
    """A coarse grid of a batch and the ones below it."""

    def __init__(self, ties: _Ties, stencil: Stencil) -> None:
        self.ties, self.stencil = ties, stencil
        self.sums = ties.sums()
        self.inverse = torch.where(self.sums > 0, 1 / self.sums.clamp(min=1e-12), 0.0)
        self.open = (self.sums > 0).to(self.sums.dtype)
        small = max(self.sums.shape[-2:]) <= _DIRECT
        self.below = None if small else _Coarse(ties.coarser(), stencil)
        self.solution = self._solution() if small else None

    def residual(self, x: Tensor, right: Tensor) -> Tensor:
        """What the equations leave of the right side, (B, C, h, w)."""
        ties = self.ties
        left = torch.addcmul(right, self.sums, x, value=-1)
        left[..., :-1].addcmul_(ties.right[..., :-1], x[..., 1:])
        left[..., 1:].addcmul_(ties.right[..., :-1], x[..., :-1])
        left[..., :-1, :].addcmul_(ties.down[..., :-1, :], x[..., 1:, :])
        left[..., 1:, :].addcmul_(ties.down[..., :-1, :], x[..., :-1, :])
        if self.stencil.weights[1]:
            left[..., :-1, :-1].addcmul_(ties.diagonal[..., :-1, :-1], x[..., 1:, 1:])
            left[..., 1:, 1:].addcmul_(ties.diagonal[..., :-1, :-1], x[..., :-1, :-1])
            left[..., :-1, 1:].addcmul_(ties.opposite[..., :-1, 1:], x[..., 1:, :-1])
            left[..., 1:, :-1].addcmul_(ties.opposite[..., :-1, 1:], x[..., :-1, 1:])
        return left

    def solve(self, right: Tensor) -> Tensor:
        """An approximate solution for a right side (B, C, h, w), by one cycle; exact if small."""
        if self.below is None:
            assert self.solution is not None
            return (right.flatten(2) @ self.solution).view_as(right)
        first, second = self.stencil.sweeps
        x = first * self.inverse * right
        x.addcmul_(self.inverse, self.residual(x, right), value=second)
        x.addcmul_(
            self.open, grown(self.below.solve(summed(self.residual(x, right))), *x.shape[-2:])
        )
        x.addcmul_(self.inverse, self.residual(x, right), value=second)
        return x.addcmul_(self.inverse, self.residual(x, right), value=first)

    def _solution(self) -> Tensor:
        """The inverse of the equations of a small grid, (B, h * w, h * w); zero where closed."""
        batch, _, height, width = self.sums.shape
        cells = height * width
        eye = torch.eye(cells, dtype=self.sums.dtype, device=self.sums.device)
        x = eye.view(1, cells, height, width).expand(batch, -1, -1, -1)
        matrix = -self.residual(x, torch.zeros_like(x)).flatten(2)
        closed = 1 - self.open.flatten(1)
        free = self.ties.zero.flatten(1).sum(dim=1) <= 0  # nothing is known: no solution is asked
        matrix = matrix + torch.diag_embed(closed + free[:, None].to(closed))
        found: Tensor = torch.linalg.inv_ex(matrix).inverse
        return found * (1 - closed)[:, None, :]

    def take(self, rows: Tensor) -> "_Coarse":
        """The grids of some images of the batch."""
        other = object.__new__(_Coarse)
        other.stencil = self.stencil
        other.ties = _Ties(*(getattr(self.ties, name)[rows] for name in _Ties.__annotations__))
        other.sums, other.inverse = self.sums[rows], self.inverse[rows]
        other.open = self.open[rows]
        other.below = None if self.below is None else self.below.take(rows)
        other.solution = None if self.solution is None else self.solution[rows]
        return other


@torch.no_grad()
def solve_holes(
    start: Tensor, drop: Tensor, weights: Weights, *, tolerance: float, limit: int
) -> Tensor:
    """Solve the neighbor equations from a first guess.

    Args:
        start: (B, C, H, W), known pixels and guesses of the dropped ones.
        drop: bool (B, 1, H, W), the unknown pixels.
        weights: see `Stencil`.
        tolerance: an image is solved when a cycle changes no pixel by more.
        limit: most cycles.

    Returns:
        (B, C, H, W), known pixels unchanged.
    """
    stencil = Stencil.of(weights)
    first, second = stencil.sweeps
    padded = F.pad(start, (1, 1, 1, 1))
    hole = drop.to(start.dtype)
    ones = F.pad(torch.ones_like(hole[:1]), (1, 1, 1, 1))
    total = stencil.total(ones)  # weight of the neighbors inside, and of the center
    step = hole / (total - stencil.center)
    coarse = _Coarse(_fine_ties(stencil, hole, total).coarser(), stencil)
    result, rows = torch.empty_like(start), torch.arange(len(start), device=start.device)

    def left() -> Tensor:  # residual in units of the least weight
        return stencil.total(padded).addcmul_(total, padded[..., 1:-1, 1:-1], value=-1)

    for cycle in range(1, limit + 1):
        x = padded[..., 1:-1, 1:-1]
        before = x.clone()
        x.addcmul_(step, left(), value=first)
        x.addcmul_(step, left(), value=second)
        smooth = coarse.solve(summed(left().mul_(hole)).mul_(stencil.unit))
        x.addcmul_(hole, grown(smooth, *x.shape[-2:]))
        x.addcmul_(step, left(), value=second)
        x.addcmul_(step, left(), value=first)
        going = before.sub_(x).flatten(1).abs().amax(dim=1) > tolerance
        if cycle == limit or not bool(going.all()):
            result[rows] = x
            kept = going.nonzero()[:, 0]
            if not len(kept):
                break
            rows, padded, hole, step = rows[kept], padded[kept], hole[kept], step[kept]
            coarse = coarse.take(kept)
    return result


def _fine_ties(stencil: Stencil, hole: Tensor, total: Tensor) -> _Ties:
    """The ties between unknown pixels, and of unknown pixels to known ones."""
    direct, diagonal = stencil.weights
    padded = F.pad(hole, (1, 1, 1, 1))
    known = (total - stencil.center) - (stencil.total(padded) - stencil.center * hole)
    return _Ties(
        direct * hole * padded[..., 1:-1, 2:],
        direct * hole * padded[..., 2:, 1:-1],
        diagonal * hole * padded[..., 2:, 2:],
        diagonal * hole * padded[..., 2:, :-2],
        stencil.unit * (hole * known).round(),
    )
