"""From records to grades: does a metric rank what is known, and does it repeat itself?"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xbench.audit.ladders import RUNGS, Ladder
from xbench.audit.measuring import UNGRADED, Measured
from xbench.registry import Chosen
from xbench.statistics.intervals import mean_interval
from xbench.statistics.verdicts import Verdict

Array = NDArray[np.float64]
SPLITS: Final = 50
_DESCRIBES: Final = "It has no direction: it describes, it does not rank."
FEWEST: Final = 5
"""Rank correlations over fewer methods say nothing and are left blank."""


@dataclass(frozen=True)
class Step:
    """How often a metric puts the maps of one rung above those of a lower one.

    Attributes:
        upper, lower: the rungs.
        accuracy: over images, pairs of maps counted 1 right, 1/2 tied, 0 wrong; chance is 1/2.
        low, high: 95 % bootstrap interval over images.
        images: images with at least one pair where both values are defined.
        weakest: the lower end of the interval of the pair of maps that does worst.
    """

    upper: str
    lower: str
    accuracy: float
    low: float
    high: float
    images: int
    weakest: float

    @property
    def holds(self) -> bool:
        """Whether more right than wrong is shown."""
        return self.low > 0.5

    @property
    def each(self) -> bool:
        """Whether it is shown of every pair of maps."""
        return self.weakest > 0.5

    @property
    def reversed(self) -> bool:
        """Whether more wrong than right is shown."""
        return self.high < 0.5


@dataclass(frozen=True)
class Grade:
    """Everything that the audit says of one metric.

    Attributes:
        metric, property, direction: from its card.
        verdict: whether it may be used, and why not.
        ladder: which known order it was held against, "" for none.
        steps: best over near, near over poor, poor over worst; best over poor and over worst.
        retest: Pearson's r of all values under two seeds, method means taken out of neither.
        halves: Spearman of the methods' means on two halves of the images, mean over splits.
        fills: Spearman of the methods' means under two fills, mean over pairs of fills.
        calls: model calls a map, with the gradient where it explains again.
        means: mean over images by method of the panel, higher is better.
    """

    metric: str
    property: str
    direction: str
    verdict: Verdict
    ladder: str = ""
    steps: tuple[Step, ...] = ()
    retest: float = float("nan")
    halves: float = float("nan")
    fills: float = float("nan")
    calls: float = float("nan")
    means: pd.Series | None = None


def grade(measured: Measured) -> list[Grade]:
    """One grade a metric, in the order of the catalogue."""
    return [_grade(measured, metric) for metric in measured.metrics]


def _grade(measured: Measured, metric: Chosen[Any]) -> Grade:
    label, card = metric.label, metric.card
    if label not in measured.calls:
        return Grade(label, card.property, card.direction, _left_out(metric))
    panel = table(measured.panel, label)
    sign = -1.0 if card.direction == "lower" else 1.0
    means = sign * panel.mean(axis=1)
    fills = [table(frame, None).mean(axis=1) for frame in measured.fills.get(label, {}).values()]
    steps: tuple[Step, ...] = ()
    ladder = measured.ladders.get(label)
    if ladder is not None:
        values = sign * table(measured.rungs, label)
        pairs = [("best", "near"), ("near", "poor"), ("poor", "worst"), ("best", "poor")]
        pairs.append(("best", "worst"))
        steps = tuple(step(values, ladder, *pair) for pair in pairs)
    reason = _refusal(measured.rungs, label) if ladder is not None else ""
    return Grade(
        metric=label,
        property=card.property,
        direction=card.direction,
        verdict=judge(label, card.direction, steps, ladder, reason, card.invariances),
        ladder="" if ladder is None else ladder.name,
        steps=steps,
        retest=retest(panel, table(measured.again, label)),
        halves=halves(panel),
        fills=_mean([rank_correlation(means, sign * other) for other in fills]),
        calls=measured.calls[label],
        means=means,
    )


def table(frame: pd.DataFrame, metric: str | None) -> pd.DataFrame:
    """Values by method (rows) and image (columns), NaN where undefined or refused."""
    if metric is not None:
        frame = frame[frame["metric"] == metric]
    values = frame.assign(value=pd.to_numeric(frame["value"], errors="coerce"))
    return values.pivot(index="method", columns="image_id", values="value").astype(float)


def step(values: pd.DataFrame, ladder: Ladder, upper: str, lower: str) -> Step:
    """How often maps on the upper rung get more than those on the lower; higher is better.

    Args:
        values: by method and image.
        ladder: which maps stand where.
        upper, lower: two of `RUNGS`.
    """
    above, below = (ladder.rungs[RUNGS.index(rung)] for rung in (upper, lower))
    wins = []
    for one, other in product(above, below):
        if one.label in values.index and other.label in values.index:
            gap = (values.loc[one.label] - values.loc[other.label]).to_numpy(dtype=np.float64)
            wins.append(np.where(np.isfinite(gap), (np.sign(gap) + 1) / 2, np.nan))
    if not wins:
        return Step(upper, lower, *(float("nan"),) * 3, images=0, weakest=float("nan"))
    stacked = np.stack(wins)
    known = np.isfinite(stacked).any(axis=0)
    shares = np.nanmean(stacked[:, known], axis=0)
    pairs = [row[np.isfinite(row)] for row in stacked]
    lows = [mean_interval(row).low for row in pairs if len(row)]
    weakest = min(lows, default=float("nan"))
    found = mean_interval(shares)
    return Step(upper, lower, *found, images=int(known.sum()), weakest=weakest)


def retest(first: pd.DataFrame, second: pd.DataFrame) -> float:
    """Pearson's r between two measurements of the same methods and images, NaN where flat."""
    a, b = first.align(second, join="inner")
    x, y = a.to_numpy().ravel(), b.to_numpy().ravel()
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def halves(values: pd.DataFrame, *, splits: int = SPLITS, seed: int = 0) -> float:
    """Spearman of the methods' means on one half of the images and on the other, mean of splits."""
    generator = np.random.default_rng(seed)
    columns = np.arange(values.shape[1])
    found = []
    for _ in range(splits):
        order = generator.permutation(columns)
        first, second = order[: len(order) // 2], order[len(order) // 2 :]
        found.append(
            rank_correlation(
                values.iloc[:, first].mean(axis=1), values.iloc[:, second].mean(axis=1)
            )
        )
    return _mean(found)


def rank_correlation(first: pd.Series, second: pd.Series) -> float:
    """Spearman of two series over the methods that both have; NaN with fewer than five, or flat."""
    a, b = first.dropna().align(second.dropna(), join="inner")
    if len(a) < FEWEST or a.nunique() < 2 or b.nunique() < 2:
        return float("nan")
    return float(np.corrcoef(a.rank(), b.rank())[0, 1])


def correlations(grades: Sequence[Grade]) -> pd.DataFrame:
    """Spearman of the methods' means for every pair of metrics with a direction."""
    ranked = {g.metric: g.means for g in grades if g.direction != "none" and g.means is not None}
    rows = {a: {b: rank_correlation(ranked[a], ranked[b]) for b in ranked} for a in ranked}
    return pd.DataFrame(rows)


def judge(
    label: str,
    direction: str,
    steps: Sequence[Step],
    ladder: Ladder | None,
    refused: str,
    invariances: Sequence[str],
) -> Verdict:
    """The verdict: passes, coarse, fails, descriptive or ungraded, with the reason.

    A metric passes where every step is shown (interval above one half). It fails where the best
    map is not shown to beat each poor and each worst one, or where the worst are shown to beat the
    poor ones. Else it is coarse: a neighboring step is not shown, as when noise and the opposite of
    the truth both stand at the floor of the metric.
    """
    if direction == "none" or ladder is None:
        return Verdict(label, "descriptive", _DESCRIBES)
    by_name = {(s.upper, s.lower): s for s in steps}
    if all(s.images == 0 for s in steps):
        return Verdict(label, "ungraded", refused or "It is undefined on every map of the ladder.")
    needed = [by_name["best", "poor"], by_name["best", "worst"]]
    last = by_name["poor", "worst"]
    wrong = [s for s in needed if not s.each] + [s for s in (last,) if s.reversed]
    if wrong:
        said = "; ".join(_in_words(s, ladder) for s in wrong)
        if ladder.name == "truth" and "scale" not in invariances:
            said += "; it reads the scale of the map, and a mask has none"
        return Verdict(label, "fails", f"{said}.")
    fine = [s for s in (by_name["best", "near"], by_name["near", "poor"], last) if not s.holds]
    if fine:
        return Verdict(label, "coarse", "; ".join(_in_words(s, ladder) for s in fine) + ".")
    return Verdict(label, "passes")


_WORDS: Final = {
    "truth": ("the truth", "the damaged truth", "noise", "the opposite of the truth"),
    "reading": ("the gradient", "gradient with some edges", "mostly edges", "edges alone"),
    "steady": ("a fixed map", "a fixed map with some noise", "half noise", "noise alone"),
}


_KINDS: Final = {
    "noise": "noise",
    "the opposite of the truth": "opposite",
    "mostly edges": "mixture with edges",
    "edges alone": "edges",
    "half noise": "noisy map",
    "noise alone": "noise",
}


def _in_words(found: Step, ladder: Ladder) -> str:
    names = _WORDS[ladder.name]
    upper, lower = names[RUNGS.index(found.upper)], names[RUNGS.index(found.lower)]
    figures = f"{found.accuracy:.2f} [{found.low:.2f}, {found.high:.2f}]"
    if found.images == 0:
        return f"it is undefined on {upper} or {lower}"
    if found.reversed:
        return f"it prefers {lower} to {upper} (right in {figures})"
    if found.holds:
        return f"it does not tell {upper} from every kind of {_KINDS[lower]} (right in {figures})"
    return f"it does not tell {upper} from {lower} (right in {figures})"


def _refusal(frame: pd.DataFrame, label: str) -> str:
    mine = frame[(frame["metric"] == label) & (frame["status"] != "ok")]
    return str(mine["reason"].mode().iloc[0]) if len(mine) else ""


def _left_out(metric: Chosen[Any]) -> Verdict:
    if metric.card.direction == "none":
        return Verdict(metric.label, "descriptive", _DESCRIBES)
    for need, reason in UNGRADED.items():
        if need in metric.card.needs:
            return Verdict(metric.label, "ungraded", reason)
    reason = "It runs another library's metric as it is; grade the own one of the same name."
    return Verdict(metric.label, "ungraded", reason)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
