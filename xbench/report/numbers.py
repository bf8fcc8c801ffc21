"""The numbers behind the charts, for those who read or print instead of looking."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xbench.report.curves import Family
from xbench.report.svg import short
from xbench.report.tables import number
from xbench.statistics.pareto import Point

POINTS = 11
"""Positions of a curve that its table shows."""


@dataclass(frozen=True)
class Numbers:
    """A table: what the first column names, the other headings, and rows of a name and texts."""

    what: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def curve_numbers(family: Family, order: Sequence[str]) -> Numbers:
    """Means of the curves at some positions, the ends included."""
    count = len(family.x)
    places = np.unique(np.linspace(0, count - 1, min(POINTS, count)).round().astype(int))
    return Numbers(
        f"method, by {family.x_label}",
        tuple(short(round(family.x[place], 3)) for place in places),
        tuple(
            (method, tuple(number(float(family.bands[method].mean[place])) for place in places))
            for method in order
            if method in family.bands
        ),
    )


def cost_numbers(points: Sequence[Point], *, skilled: bool) -> Numbers:
    """Cost and quality of every ranked method, the cheapest first."""
    ordered = sorted(points, key=lambda point: point.calls)
    return Numbers(
        "method",
        ("model calls", "skill" if skilled else "mean rank", "no cheaper one equals it"),
        tuple(
            (
                point.method,
                (
                    number(point.calls, 0),
                    number(point.skill if skilled else point.mean_rank, 2),
                    "yes" if point.calls_front else "",
                ),
            )
            for point in ordered
        ),
    )


def matrix_numbers(names: Sequence[str], values: NDArray[np.float64]) -> Numbers:
    """A matrix of methods by methods."""
    rows = [tuple(number(float(value), 2) for value in line) for line in values]
    return Numbers("method", tuple(names), tuple(zip(names, rows, strict=True)))


def rank_numbers(ranks: Mapping[str, tuple[float, float, float]]) -> Numbers:
    """Mean ranks with their intervals; controls have none."""
    return Numbers(
        "method",
        ("mean rank", "from", "to"),
        tuple((method, tuple(number(end, 2) for end in ends)) for method, ends in ranks.items()),
    )
