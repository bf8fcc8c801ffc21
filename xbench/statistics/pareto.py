"""What quality costs: methods that no other beats at once in quality and in cost."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from xbench.statistics.ranking import Ranking
from xbench.statistics.skill import skill_of
from xbench.statistics.table import ScoreTable


@dataclass(frozen=True)
class Point:
    """One ranked method.

    Attributes:
        skill: mean over the board's metrics, weighted as the board weights; 0 is the random
            control, 1 the oracle (or the end of the range). NaN where a metric has no skill.
        mean_rank: over images; what decides where there is no skill.
        calls, seconds: of a map.
        calls_front, seconds_front: whether no method is at least as good and cheaper, or better
            and as cheap, among those allowed.
    """

    method: str
    skill: float
    mean_rank: float
    calls: float
    seconds: float
    calls_front: bool
    seconds_front: bool


def pareto(
    table: ScoreTable, ranking: Ranking, allowed: Collection[str] | None = None
) -> list[Point]:
    """Skill against model calls and seconds of every ranked method, best mean rank first.

    Args:
        table: per-image values.
        ranking: the board.
        allowed: methods that may stand on a front, for example those that fail no gate; None: all.
    """
    skills = board_skill(table, ranking)
    usable = bool(skills) and all(np.isfinite(skill) for skill in skills.values())
    quality = [
        skills[standing.method] if usable else -standing.mean_rank.value
        for standing in ranking.standings
    ]
    with np.errstate(invalid="ignore"):
        columns = [table.column(method) for method in ranking.methods]
        calls = [float(np.nanmean(table.scores["calls"].values[:, i])) for i in columns]
        seconds = [float(np.nanmean(table.scores["seconds"].values[:, i])) for i in columns]
    may = [allowed is None or method in allowed for method in ranking.methods]
    quality = [own if fine else -math.inf for own, fine in zip(quality, may, strict=True)]
    by_calls, by_seconds = front(quality, calls), front(quality, seconds)
    return [
        Point(
            method=standing.method,
            skill=skills.get(standing.method, float("nan")),
            mean_rank=standing.mean_rank.value,
            calls=calls[i],
            seconds=seconds[i],
            calls_front=may[i] and by_calls[i],
            seconds_front=may[i] and by_seconds[i],
        )
        for i, standing in enumerate(ranking.standings)
    ]


def board_skill(table: ScoreTable, ranking: Ranking) -> dict[str, float]:
    """Skill of every ranked method over the metrics of a board; empty where one has no skill."""
    found = [skill_of(table, metric.label) for metric in ranking.metrics]
    if not found or any(skill is None for skill in found):
        return {}
    return {
        method: sum(
            weight * skill.mean[method].value
            for weight, skill in zip(ranking.weights, found, strict=True)
            if skill is not None
        )
        for method in ranking.methods
    }


def front(quality: Sequence[float], cost: Sequence[float]) -> list[bool]:
    """Which points no other dominates, quality high and cost low.

    >>> front([3, 2, 2, 1], [9, 4, 5, 1])
    [True, True, False, True]
    """
    points = list(zip(quality, cost, strict=True))
    return [
        not any(q >= own and c <= price and (q > own or c < price) for q, c in points)
        for own, price in points
    ]
