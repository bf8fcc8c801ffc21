"""Skill: metrics on one scale, 0 for the random control and 1 for the oracle."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xbench.statistics.intervals import Interval, mean_interval, ratio_interval
from xbench.statistics.table import MetricScores, ScoreTable

Array = NDArray[np.float64]

SMALLEST_GAP = 0.05
"""Share of the mean gap below which an image has no skill of its own."""


@dataclass(frozen=True)
class Skill:
    """Skill of all methods in one metric.

    Attributes:
        metric: label.
        top: what skill 1 means: the oracle, or the better end of the metric's range where the run
            has no oracle, or one that the metric does not put above noise.
        per_image: (images, methods); NaN where the gap between control and top vanishes.
        mean: by method, the mean over images weighted with that gap (the sum of gains over the sum
            of gaps), so that images with a vanishing gap do not blow up; with its interval.
        raw: by method, the mean of the metric itself; never shown without it.
    """

    metric: str
    top: Literal["oracle", "range"]
    per_image: Array
    mean: Mapping[str, Interval]
    raw: Mapping[str, Interval]


def skill_of(table: ScoreTable, metric: str, *, seed: int = 0) -> Skill | None:
    """Skill of every method in a metric.

    Returns:
        None where the run has no random control, or neither an oracle nor a finite range.
    """
    score = table.scores[metric]
    noise = table.named("random")
    if noise is None or score.info.direction == "none" or score.info.pairwise:
        return None
    floor = score.info.sign * score.values[:, noise]
    found = _top(table, score, floor)
    if found is None:
        return None
    top, kind = found
    gap = top - floor
    gains = score.info.sign * score.values - floor[:, None]
    usable = gap > SMALLEST_GAP * np.nanmean(gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_image = np.where(usable[:, None], gains / gap[:, None], np.nan)
    return Skill(
        metric=metric,
        top=kind,
        per_image=per_image,
        mean={
            label: ratio_interval(gains[:, i], gap, seed=seed)
            for i, label in enumerate(table.labels)
        },
        raw={
            label: mean_interval(score.values[:, i], seed=seed)
            for i, label in enumerate(table.labels)
        },
    )


def _top(
    table: ScoreTable, score: MetricScores, floor: Array
) -> tuple[Array, Literal["oracle", "range"]] | None:
    oracle = table.named("oracle")
    if oracle is not None:
        top = score.info.sign * score.values[:, oracle]
        gap = top - floor
        if np.isfinite(gap).any() and np.nanmean(gap) > 0:
            return top, "oracle"
    if np.isfinite(score.info.ideal):
        top = np.full(len(floor), score.info.sign * score.info.ideal)
        if np.isfinite(floor).any() and np.nanmean(top - floor) > 0:
            return top, "range"
    return None
