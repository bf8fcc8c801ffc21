"""Bootstrap intervals over images that keep what they promise with few and skewed values.

The interval of a mean is bias-corrected and accelerated (Efron 1987) with expanded percentiles
(Hesterberg 2015), which undo that resamples of n images vary too little, by the factor n / (n - 1),
and that their spread is estimated (Student's t). Of skewed values it still misses the long tail; so
where values are not mostly repeated, each end is moved out to that of the bootstrap-t interval
(Efron 1982) if that lies farther, and never beyond the values themselves.

Coverage of 95 % intervals with 16 to 200 images, by simulation: 93 to 97 % for normal, beta and
exponential values and for lognormal ones up to a standard deviation of 1; 91 to 94 % for lognormal
ones with a standard deviation of 2, 93 % for heavy tails (t with 3 degrees of freedom), 96 to 98 %
for hits and misses. With 6 images it is 84 to 97 %. Nothing makes up for a kind of image that the
sample lacks: where all values are equal, the interval has no width.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
STUDENTIZED_FROM = 12
"""Images from which the bootstrap-t interval is used; with fewer, it is erratic."""
LARGE = 2**20
"""Counts of resamples above which only the last ones are kept."""
REPEATED = 0.5
"""Share of distinct values below which values count as repeated: hits and misses, ranks."""


class Interval(NamedTuple):
    """An estimate and the ends of its interval; the ends are NaN with fewer than 3 units."""

    value: float
    low: float
    high: float


NOTHING = Interval(float("nan"), float("nan"), float("nan"))


def resample_counts(units: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """How often every unit is drawn in every bootstrap resample, float64 (resamples, units)."""
    kept = _few_counts if units * resamples <= LARGE else _many_counts
    return kept(units, resamples, seed)


def _counts(units: int, resamples: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, units))
    for start in range(0, resamples, 100):  # the integers of all at once would be as large again
        block = counts[start : start + 100]
        block[:] = rng.multinomial(units, np.full(units, 1 / units), size=len(block))
    counts.flags.writeable = False  # the same draws serve all columns and metrics
    return counts


_few_counts = functools.lru_cache(maxsize=16)(_counts)
_many_counts = functools.lru_cache(maxsize=1)(_counts)


def bca_columns(
    values: Array, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Means of columns over images, and their intervals, from the same resamples for all columns.

    Args:
        values: (images, columns), NaN where undefined (left out of that column).
        level: coverage.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        means, lower and upper ends, each (columns,).
    """
    known = np.isfinite(values)
    sums = np.where(known, values, 0.0)
    return _ratio_intervals(sums, known.astype(np.float64), level, resamples, seed)


def mean_interval(
    values: Array,
    *,
    clusters: Sequence[object] | None = None,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean and its bootstrap interval.

    Args:
        values: one value a map, NaN where undefined (left out).
        clusters: the image of every value, where several maps share one; whole images are drawn
            (values of one image are no independent evidence). None: every value is an image.
        level: coverage.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        The mean over values; the interval is NaN with fewer than 3 images, and the mean itself
        where all values are equal.
    """
    values = np.asarray(values, dtype=np.float64)
    known = np.isfinite(values)
    groups = np.arange(len(values)) if clusters is None else _codes(clusters)
    groups = groups[known]
    if len(groups) == 0:
        return NOTHING
    _, groups = np.unique(groups, return_inverse=True)
    sums: Array = np.bincount(groups, weights=values[known]).astype(np.float64)
    counts: Array = np.bincount(groups).astype(np.float64)
    mean, low, high = _ratio_intervals(sums[:, None], counts[:, None], level, resamples, seed)
    return Interval(float(mean[0]), float(low[0]), float(high[0]))


def ratio_interval(
    numerator: Array,
    denominator: Array,
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Sum of numerators over sum of denominators, images resampled in pairs."""
    known = np.isfinite(numerator) & np.isfinite(denominator)
    if not known.any():
        return NOTHING
    value, low, high = _ratio_intervals(
        numerator[known][:, None], denominator[known][:, None], level, resamples, seed
    )
    return Interval(float(value[0]), float(low[0]), float(high[0]))


def median_interval(
    values: Array, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """The median over images and its bias-corrected bootstrap interval.

    There is no acceleration: the jackknife that it needs is inconsistent for the median (Efron and
    Tibshirani 1993, section 10.6).
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return NOTHING
    median = float(np.median(values))
    if len(values) < 3:
        return Interval(median, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    drawn = [
        np.median(values[rng.integers(len(values), size=(100, len(values)))], axis=1)
        for _ in range(0, resamples, 100)
    ]
    found = np.sort(np.concatenate(drawn)[:resamples])[:, None]
    score = np.array([special.ndtri((1 + level) / 2)])
    low, high = _bca_ends(found, np.array([median]), np.zeros(1), score)
    return Interval(median, float(low[0]), float(high[0]))


def paired_difference(
    first: Array, second: Array, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean and interval of first - second over the images where both are defined."""
    return mean_interval(first - second, level=level, resamples=resamples, seed=seed)


def _ratio_intervals(
    sums: Array, counts: Array, level: float, resamples: int, seed: int
) -> tuple[Array, Array, Array]:
    """Intervals of sum(sums) / sum(counts), columns apart, units (rows) resampled."""
    units = len(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sums.sum(axis=0) / counts.sum(axis=0)
        draws = resample_counts(units, resamples=resamples, seed=seed)
        drawn = draws @ counts
        found = (draws @ sums) / drawn
        left_out = (sums.sum(axis=0) - sums) / (counts.sum(axis=0) - counts)
        some = np.isfinite(left_out) & (counts != 0)
        center = np.where(some, left_out, 0.0).sum(axis=0) / some.sum(axis=0)
        pull = np.where(some, center - left_out, 0.0)
        acceleration = np.sum(pull**3, axis=0) / (6 * np.sum(pull**2, axis=0) ** 1.5)
    present = (counts != 0).sum(axis=0)
    score = expanded_score(present, level)
    low, high = _bca_ends(np.sort(found, axis=0), value, np.nan_to_num(acceleration), score)
    lowest, highest, distinct = _extremes(sums, counts)
    wide = (present >= STUDENTIZED_FROM) & (distinct >= REPEATED * present)
    if wide.any():
        ends = _studentized_ends(
            found[:, wide] - value[wide],
            sums[:, wide],
            counts[:, wide],
            drawn[:, wide],
            level,
            draws,
        )
        low[wide] = np.fmin(low[wide], np.maximum(value[wide] - ends[0], lowest[wide]))
        high[wide] = np.fmax(high[wide], np.minimum(value[wide] + ends[1], highest[wide]))
    few, same = present < 3, lowest == highest
    low[same], high[same] = value[same], value[same]
    low[few], high[few] = np.nan, np.nan
    return value, low, high


def expanded_score(units: NDArray[np.int_] | int, level: float = LEVEL) -> Array:
    """The normal score whose bootstrap percentile makes up for few units (Hesterberg 2015).

    >>> round(float(expanded_score(16)), 2)
    2.2
    """
    count = np.maximum(np.asarray(units, dtype=np.float64), 2.0)
    return np.asarray(special.stdtrit(count - 1, (1 + level) / 2) * np.sqrt(count / (count - 1)))


def _extremes(sums: Array, counts: Array) -> tuple[Array, Array, NDArray[np.int_]]:
    """Smallest and largest ratio of a unit by column, and how many distinct ones there are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sort(np.where(counts != 0, sums / counts, np.nan), axis=0)  # NaN comes last
    distinct = 1 + (np.diff(ratio, axis=0) > 0).sum(axis=0)
    present = np.maximum((counts != 0).sum(axis=0) - 1, 0)
    return ratio[0], ratio[present, np.arange(ratio.shape[1])], distinct


def _studentized_ends(
    off: Array, sums: Array, counts: Array, drawn: Array, level: float, draws: Array
) -> tuple[Array, Array]:
    """How far the ends of the bootstrap-t interval are below and above the value.

    Args:
        off: resampled values less the value, (resamples, columns).
        sums, counts: of the units, (units, columns).
        drawn: counts of the resamples, (resamples, columns).
        level: coverage.
        draws: how often every unit is in every resample.

    Returns:
        by column; NaN where more than a few resamples have no spread.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = sums - counts * (sums.sum(axis=0) / counts.sum(axis=0))
        own = np.sqrt((rest**2).sum(axis=0)) / counts.sum(axis=0)
        if np.isin(counts, (0.0, 1.0)).all():
            crossed, squared = off * drawn, drawn
        else:
            crossed, squared = draws @ (rest * counts), draws @ counts**2
        spread = draws @ rest**2 - 2 * off * crossed + off**2 * squared
        ratio = np.where(
            spread > 1e-12 * (rest**2).sum(axis=0), off * drawn / np.sqrt(spread), np.nan
        )
    ratio = np.sort(ratio, axis=0)
    count = np.isfinite(ratio).sum(axis=0)
    sound = count > 0.99 * len(ratio)
    tails = [
        _quantile(ratio, np.full(len(own), q), count) for q in ((1 - level) / 2, (1 + level) / 2)
    ]
    return np.where(sound, tails[1] * own, np.nan), np.where(sound, -tails[0] * own, np.nan)


def _bca_ends(found: Array, value: Array, acceleration: Array, score: Array) -> tuple[Array, Array]:
    """Ends of BCa intervals from sorted resampled values (resamples, columns).

    Args:
        found: sorted by column.
        value: of the sample.
        acceleration: by column.
        score: normal score of the upper end of an interval without bias and skew.
    """
    count = np.isfinite(found).sum(axis=0)  # NaN (no defined unit drawn) sorts last
    with np.errstate(invalid="ignore", divide="ignore"):
        below = (found < value).sum(axis=0) + 0.5 * (found == value).sum(axis=0)
        share = np.clip(below / count, 0.5 / len(found), 1 - 0.5 / len(found))
    bias = special.ndtri(share)
    ends = []
    for sign in (-1.0, 1.0):
        z = bias + sign * score
        place = special.ndtr(bias + z / (1 - acceleration * z))
        ends.append(_quantile(found, place, count))
    return ends[0], ends[1]


def _quantile(found: Array, place: Array, count: NDArray[np.int_]) -> Array:
    """Linear quantiles of sorted columns, each at its own place."""
    place = np.where(np.isfinite(place), place, 0.0)
    at = place * np.maximum(count - 1, 0)
    lower = np.floor(at).astype(int)
    upper = np.minimum(lower + 1, np.maximum(count - 1, 0))
    columns = np.arange(found.shape[1])
    a, b = found[lower, columns], found[upper, columns]
    return np.asarray(a + (b - a) * (at - lower))


def _codes(clusters: Sequence[object]) -> NDArray[np.int_]:
    places: dict[object, int] = {}
    return np.array([places.setdefault(one, len(places)) for one in clusters], dtype=int)
