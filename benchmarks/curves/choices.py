"""Ways to choose the points of a stored curve, replayed without the model."""

from collections.abc import Callable

import numpy as np

from xbench.operations.adaptive import Floats, Integers, Sampled, between, sample

Choice = Callable[[Floats, int], Sampled]


def adaptive(curves: Floats, points: int) -> Sampled:
    """As the metrics do it: the same code, measuring by looking up."""
    steps = curves.shape[1] - 1
    return sample(
        lambda positions: np.take_along_axis(curves, positions, axis=1),
        curves[:, [0, steps]],
        steps,
        points,
    )


def even(curves: Floats, points: int) -> Sampled:
    """Evenly spaced points."""
    places = np.linspace(0, curves.shape[1] - 1, points).round().astype(np.int64)
    return _looked_up(curves, np.tile(places, (len(curves), 1)))


def bisecting(curves: Floats, points: int) -> Sampled:
    """Always the middle of the stretch with the largest change times length."""
    return _looked_up(curves, np.array([_bisected(curve, points) for curve in curves]))


def _bisected(curve: Floats, points: int) -> list[int]:
    places = [0, len(curve) - 1]
    while len(places) < points:
        lengths = np.diff(places)
        worth = np.where(lengths > 1, np.abs(np.diff(curve[places])) * lengths, -1.0)
        at = int(worth.argmax())
        places.insert(at + 1, (places[at] + places[at + 1]) // 2)
    return places


def _looked_up(curves: Floats, positions: Integers) -> Sampled:
    values = np.take_along_axis(curves, positions, axis=1)
    return Sampled(positions, values, np.full(len(curves), np.nan))


def areas(curves: Floats) -> Floats:
    """Trapezoid area over [0, 1], float64 (R,)."""
    return np.asarray(np.trapezoid(curves, axis=1) / (curves.shape[1] - 1))


def errors(curves: Floats, found: Sampled) -> Floats:
    """|area of the straight lines - area of every step|, float64 (R,)."""
    return np.abs(areas(between(found.positions, found.values)) - areas(curves))


CHOICES: dict[str, Choice] = {"adaptive": adaptive, "bisecting": bisecting, "even": even}
