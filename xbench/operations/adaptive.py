"""Curves from some of their steps: measured where the curve moves, straight lines in between.

Between two measured points, h steps apart, the curve is taken for a random walk that is known at
both ends. Its mean is the straight line, and the area between the two has the variance
v h (h^2 - 1) / 12, where v is the variance of one step there. Each round estimates v from what is
measured, and splits the stretches where splitting takes most off the variance of the area. What
is left of it at the end is the curve's own estimate of its error.

Everything here works on whole numbers of steps and on measured values, so the same code chooses
points of a model and of stored curves.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Measure = Callable[[Integers], Floats]

MIN_POINTS = 5
FIRST_SHARE = 0.3  # of the points is spread evenly; with less, narrow bumps are missed
ROUND_SHARE = 1 / 7  # of the points is chosen at a time
OWN, NEAR, OVERALL = 1.0, 1.0, 0.05  # weights of the estimates of the variance of a step
REACH = 0.03  # of the curve, the neighborhood of a stretch
FLOOR = 1e-6  # variance of a step where nothing moves
COVERAGE = 2.0  # standard deviations that the error of an area is said to be within
_GRAIN = 64  # gains that are equal within 1/64 of a factor of two count as equal


@dataclass(frozen=True)
class Sampled:
    """What was measured of N curves.

    Attributes:
        positions: int64 (N, n), ascending, 0 and the last step included.
        values: float64 (N, n), the curve there.
        error: float64 (N,), an estimate of how far the area of the straight lines may lie from the
            area of all steps; meant to hold on at least 95 % of curves, see `benchmarks/curves`.
    """

    positions: Integers
    values: Floats
    error: Floats


def points_of(steps: int, points: int) -> int:
    """How many points a curve of `steps` steps takes; 0 stands for all of them.

    >>> points_of(28, 0), points_of(224, 57), points_of(28, 57)
    (29, 57, 29)
    """
    return min(points, steps + 1) if points else steps + 1


def sample(measure: Measure, ends: Floats, steps: int, points: int) -> Sampled:
    """Measure `points` of the `steps` + 1 points of each curve.

    Args:
        measure: maps positions int64 (N, k), ascending in each row, to the curves there (N, k).
        ends: float64 (N, 2), the curves at 0 and at `steps`.
        steps: K.
        points: measured points of each curve, both ends included, from `MIN_POINTS` to K + 1.
    """
    positions = np.tile(np.array([0, steps], dtype=np.int64), (len(ends), 1))
    values = np.asarray(ends, dtype=np.float64)
    each = max(1, round(ROUND_SHARE * points))
    first = np.tile(start(steps, points)[1:-1], (len(ends), 1))
    while True:
        added = (
            first
            if positions.shape[1] == 2
            else following(positions, values, min(each, points - positions.shape[1]))
        )
        if added.shape[1] == 0:
            return Sampled(positions, values, error_of(positions, values))
        positions = np.concatenate([positions, added], axis=1)
        values = np.concatenate([values, measure(added)], axis=1)
        order = positions.argsort(axis=1)
        positions = np.take_along_axis(positions, order, axis=1)
        values = np.take_along_axis(values, order, axis=1)


def start(steps: int, points: int) -> Integers:
    """The points that are measured first, evenly spaced, both ends included.

    >>> start(224, 57).tolist()[:4], len(start(224, 57))
    ([0, 14, 28, 42], 17)
    """
    count = points if points > steps else max(MIN_POINTS, round(FIRST_SHARE * points))
    return np.linspace(0, steps, count).round().astype(np.int64)


def following(positions: Integers, values: Floats, count: int) -> Integers:
    """The `count` points of each curve to measure next, int64 (N, count), ascending.

    Stretches are split evenly, each into as many parts as take most off the variance of the area.
    Gains that are equal up to rounding are taken from the start of the curve on, so that one
    batch size or another chooses the same points.
    """
    lengths = np.diff(positions, axis=1)
    parts = np.ones_like(lengths)
    each = np.arange(len(lengths))
    variances = np.nan_to_num(step_variances(positions, values), nan=FLOOR)
    worth = variances * lengths.astype(np.float64) ** 3
    for _ in range(count):
        gain = worth * (1 / parts**2 - 1 / (parts + 1) ** 2)
        level = np.round(np.log2(gain) * _GRAIN)
        best = np.where(parts < lengths, level, -np.inf).argmax(axis=1)
        parts[each, best] += 1
    row, column = np.nonzero(parts > 1)
    times = parts[row, column] - 1
    row, column = np.repeat(row, times), np.repeat(column, times)
    place = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times) + 1
    inside = np.floor(lengths[row, column] * place / parts[row, column] + 0.5)
    found: Integers = positions[row, column] + inside.astype(np.int64)
    return found.reshape(len(positions), count)


def step_variances(positions: Integers, values: Floats) -> Floats:
    """Variance of one step within each stretch between measured points, float64 (N, n - 1).

    A stretch's own change, squared and divided by its length, is a rough estimate, and none where
    both ends are equal by accident; so the mean over its neighborhood, where others count less by
    a factor of e for each `REACH` of the curve between their middles, and a share of that over the
    whole curve are added to it.
    """
    lengths = np.diff(positions, axis=1)
    squares = np.diff(values, axis=1) ** 2
    own = squares / lengths
    steps = lengths.sum(axis=1, keepdims=True)
    middles = (positions[:, 1:] + positions[:, :-1]) / (2 * steps)
    weights = np.exp(-np.abs(middles[:, :, None] - middles[:, None, :]) / REACH)
    near = (own[:, None, :] * weights).sum(axis=2) / weights.sum(axis=2)
    overall = squares.sum(axis=1, keepdims=True) / steps
    found: Floats = OWN * own + NEAR * near + OVERALL * overall + FLOOR
    return found


def error_of(positions: Integers, values: Floats) -> Floats:
    """The bound on the error of each curve's area, float64 (N,), see `Sampled.error`."""
    lengths = np.diff(positions, axis=1).astype(np.float64)
    variances = step_variances(positions, values) * lengths * (lengths**2 - 1) / 12
    found: Floats = COVERAGE * np.sqrt(variances.sum(axis=1)) / lengths.sum(axis=1)
    return found


def between(positions: Integers, values: Floats) -> Floats:
    """The curves at every step, on straight lines between measured points, float64 (N, K + 1).

    >>> between(np.array([[0, 2, 3]]), np.array([[0.0, 1.0, 4.0]])).tolist()
    [[0.0, 0.5, 1.0, 4.0]]
    """
    steps = np.arange(positions[0, -1] + 1)
    return np.stack([np.interp(steps, *row) for row in zip(positions, values, strict=True)])
