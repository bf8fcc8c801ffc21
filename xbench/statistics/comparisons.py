"""Tests between methods over the same images: paired, corrected, with effect sizes and power."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[np.float64]
Alternative = Literal["two-sided", "less", "greater"]

EXACT_UP_TO = 50
"""Differences up to which the distribution of the Wilcoxon test is counted out."""
WILCOXON_EFFICIENCY = 3 / math.pi
"""Pitman efficiency of the Wilcoxon test relative to the t test under normality."""
BEYOND = 10_000
"""Further images that nobody will collect: methods that so many would not separate score alike."""


@dataclass(frozen=True)
class Comparison:
    """Two methods over the same images.

    Attributes:
        first, second: labels.
        difference: mean of first - second.
        p: two-sided Wilcoxon signed-rank.
        corrected: p after Holm's correction over the family.
        dz: mean of the differences over their standard deviation (paired Cohen's d).
        biserial: matched-pairs rank-biserial correlation, -1 to 1 (Kerby 2014).
        images: images where both have a value.
        needed: images that would show this difference with 80 % power; inf where there is none.
    """

    first: str
    second: str
    difference: float
    p: float
    corrected: float
    dz: float
    biserial: float
    images: int
    needed: float

    @property
    def more(self) -> float:
        """Images needed beyond those that are there; inf where no number would do."""
        return max(0.0, self.needed - self.images)


@dataclass(frozen=True)
class Friedman:
    """Whether methods differ at all, and what difference of mean ranks would show.

    Attributes:
        statistic, p: Friedman's chi-square over images.
        mean_ranks: by method, 1 the best.
        critical_difference: Nemenyi's, of mean ranks at the given level.
        pairs: p of Nemenyi's test, (methods, methods).
        groups: methods not shown to differ, as runs in the order of mean ranks (Demšar 2006).
    """

    statistic: float
    p: float
    methods: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    critical_difference: float
    pairs: Array
    groups: tuple[tuple[str, ...], ...]


def holm(p_values: Sequence[float] | Array) -> Array:
    """Holm's (1979) step-down correction; NaN stays NaN and is not counted.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def wilcoxon(differences: Array, alternative: Alternative = "two-sided") -> float:
    """Chance of differences like these if there were none; 1 where all are 0.

    The p of the Wilcoxon signed-rank test (1945), differences of 0 left out. Up to 50 differences
    its distribution is exact given the ties; beyond, it is normal with the variance for ties.

    Args:
        differences: one an image, NaN where undefined (left out).
        alternative: "two-sided", "less" or "greater" than 0.

    >>> wilcoxon(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    0.0625
    """
    ranks, signs = _signed_ranks(differences)
    won, lost = float(ranks[signs > 0].sum()), float(ranks[signs < 0].sum())
    if alternative == "greater":
        return _tail(ranks, won)
    if alternative == "less":
        return _tail(ranks, lost)
    return min(1.0, 2 * _tail(ranks, max(won, lost)))


def _signed_ranks(differences: Array) -> tuple[Array, Array]:
    """Ranks of the sizes of the differences that are not 0, and their signs."""
    known = _known(differences)
    known = known[known != 0]
    ranks = stats.rankdata(np.round(np.abs(known), 12)) if len(known) else known
    return np.asarray(ranks), np.sign(known)


def _tail(ranks: Array, won: float) -> float:
    """Chance that the ranks with a positive sign sum to at least `won`, signs being coin flips."""
    if len(ranks) == 0:
        return 1.0
    if len(ranks) > EXACT_UP_TO:
        return _normal_tail(ranks, won)
    doubled = tuple(sorted(int(rank) for rank in np.rint(2 * ranks)))  # shared ranks are halves
    return float(min(1.0, _chances(doubled)[round(2 * won)]))


@functools.lru_cache(maxsize=4096)
def _chances(doubled: tuple[int, ...]) -> Array:
    """Chance of every doubled rank sum or a larger one."""
    chances = np.zeros(sum(doubled) + 1)
    chances[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[:-rank]
        chances = (chances + shifted) / 2
    tails: Array = np.cumsum(chances[::-1])[::-1]
    tails.flags.writeable = False
    return tails


def _normal_tail(ranks: Array, won: float) -> float:
    spread = math.sqrt(float((ranks**2).sum()) / 4)  # ties shrink the sum of squares by themselves
    return float(stats.norm.sf((won - float(ranks.sum()) / 2) / spread))


def rank_biserial(differences: Array) -> float:
    """Favorable minus unfavorable share of the rank sum, -1 to 1; 0 where all are 0.

    >>> rank_biserial(np.array([1.0, 2.0, -3.0]))
    0.0
    """
    return _biserial(*_signed_ranks(differences))


def _biserial(ranks: Array, signs: Array) -> float:
    return float((ranks * signs).sum() / ranks.sum()) if len(ranks) else 0.0


def cohen_dz(differences: Array) -> float:
    """Mean over standard deviation of paired differences; inf where all are equal and not 0."""
    known = _known(differences)
    if len(known) < 2:
        return float("nan")
    mean, deviation = known.mean(), known.std(ddof=1)
    if deviation == 0:
        return 0.0 if mean == 0 else math.copysign(math.inf, mean)
    return float(mean / deviation)


def images_needed(dz: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Images at which a two-sided Wilcoxon test shows an effect of this size.

    Guenther's (1981) formula for the t test, divided by the test's efficiency.

    Args:
        dz: mean over standard deviation of the paired differences.
        alpha: level, already divided by the number of comparisons if there are several.
        power: chance to find it.

    >>> images_needed(0.5)
    36.0
    """
    if math.isnan(dz) or dz == 0:
        return math.inf
    fewest = math.floor(math.log2(2 / alpha)) + 1  # below, not even equal signs are significant
    z_alpha, z_power = -special.ndtri(alpha / 2), special.ndtri(power)
    wanted = ((z_alpha + z_power) / dz) ** 2 + z_alpha**2 / 2
    return float(max(fewest, math.ceil(wanted / WILCOXON_EFFICIENCY)))


def compare_all(values: Array, methods: Sequence[str], *, alpha: float = 0.05) -> list[Comparison]:
    """All pairs of methods, corrected by Holm over the pairs.

    Args:
        values: (images, methods), NaN where undefined.
        methods: labels of the columns.
        alpha: level of the corrected tests, for the number of images needed.
    """
    count = len(methods)
    places = [(i, j) for i in range(count) for j in range(i + 1, count)]
    ranked = [_signed_ranks(values[:, i] - values[:, j]) for i, j in places]
    p_values = [
        min(1.0, 2 * _tail(ranks, max(ranks[signs > 0].sum(), ranks[signs < 0].sum())))
        for ranks, signs in ranked
    ]
    found = []
    corrections = holm(p_values)
    for (i, j), signed, p, corrected in zip(places, ranked, p_values, corrections, strict=True):
        differences = values[:, i] - values[:, j]
        known = _known(differences)
        dz = cohen_dz(differences)
        found.append(
            Comparison(
                first=methods[i],
                second=methods[j],
                difference=float(known.mean()) if len(known) else float("nan"),
                p=p,
                corrected=float(corrected),
                dz=dz,
                biserial=_biserial(*signed),
                images=len(known),
                needed=images_needed(dz, alpha=alpha / len(places)),
            )
        )
    return found


def friedman(values: Array, methods: Sequence[str], *, alpha: float = 0.05) -> Friedman | None:
    """Friedman's test and Nemenyi's comparisons, lower values better (Demšar 2006).

    Args:
        values: (images, methods); images with a NaN are left out.
        methods: labels of the columns.
        alpha: level of the critical difference.

    Returns:
        None with fewer than 3 methods or 2 images.
    """
    complete = values[np.isfinite(values).all(axis=1)]
    images, count = complete.shape
    if images < 2 or count < 3:
        return None
    ranks = stats.rankdata(complete, axis=1)
    means = np.asarray(ranks.mean(axis=0))
    if np.ptp(ranks, axis=1).max() == 0:
        statistic, p = 0.0, 1.0
    else:
        found = stats.friedmanchisquare(*complete.T)
        statistic, p = float(found.statistic), float(found.pvalue)
    scale = math.sqrt(count * (count + 1) / (6 * images))
    critical = float(stats.studentized_range.isf(alpha, count, math.inf)) / math.sqrt(2) * scale
    rows, columns = np.triu_indices(count, 1)
    gaps = np.abs(means[rows] - means[columns]) / scale * math.sqrt(2)
    pairs = np.ones((count, count))
    pairs[rows, columns] = np.clip(stats.studentized_range.sf(gaps, count, math.inf), 0.0, 1.0)
    pairs[columns, rows] = pairs[rows, columns]
    return Friedman(
        statistic=statistic,
        p=p,
        methods=tuple(methods),
        mean_ranks=tuple(float(mean) for mean in means),
        critical_difference=critical,
        pairs=pairs,
        groups=tuple(tie_runs(methods, means, pairs >= alpha)),
    )


def tie_runs(
    methods: Sequence[str], scores: Array, tied: NDArray[np.bool_]
) -> list[tuple[str, ...]]:
    """Longest runs of two or more methods, in the order of scores, of which all pairs are tied."""
    order = np.argsort(scores, kind="stable")
    runs: list[tuple[int, int]] = []
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and tied[order[stop], order[start:stop]].all():
            stop += 1
        if stop - start > 1 and (not runs or stop > runs[-1][1]):
            runs.append((start, stop))
    return [tuple(methods[i] for i in order[start:stop]) for start, stop in runs]


def _known(values: Array) -> Array:
    return np.asarray(values[np.isfinite(values)])
