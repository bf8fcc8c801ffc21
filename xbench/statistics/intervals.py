"""Bootstrap intervals over images, bias-corrected and accelerated (Efron 1987)."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate and the ends of its interval; the ends are NaN with fewer than 3 units."""

    value: float
    low: float
    high: float


NOTHING = Interval(float("nan"), float("nan"), float("nan"))


@functools.lru_cache(maxsize=16)
def resample_counts(units: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """How often every unit is drawn in every bootstrap resample, float64 (resamples, units)."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)
    counts.flags.writeable = False  # the same draws serve all columns and metrics
    return counts


def bca_columns(
    values: Array, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Means of columns over images, and BCa intervals from the same resamples for all columns.

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
    """The mean and its bias-corrected and accelerated bootstrap interval.

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
    draws = rng.integers(len(values), size=(resamples, len(values)))
    found = np.sort(np.median(values[draws], axis=1))[:, None]
    low, high = _bca_ends(found, np.array([median]), np.zeros(1), level)
    return Interval(median, float(low[0]), float(high[0]))


def paired_difference(
    first: Array, second: Array, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean and interval of first - second over the images where both are defined."""
    return mean_interval(first - second, level=level, resamples=resamples, seed=seed)


def _ratio_intervals(
    sums: Array, counts: Array, level: float, resamples: int, seed: int
) -> tuple[Array, Array, Array]:
    """BCa intervals of sum(sums) / sum(counts), columns apart, units (rows) resampled."""
    units = len(sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = sums.sum(axis=0) / counts.sum(axis=0)
        draws = resample_counts(units, resamples=resamples, seed=seed)
        found = np.sort((draws @ sums) / (draws @ counts), axis=0)
        left_out = (sums.sum(axis=0) - sums) / (counts.sum(axis=0) - counts)
        some = np.isfinite(left_out) & (counts != 0)
        center = np.where(some, left_out, 0.0).sum(axis=0) / some.sum(axis=0)
        pull = np.where(some, center - left_out, 0.0)
        acceleration = np.sum(pull**3, axis=0) / (6 * np.sum(pull**2, axis=0) ** 1.5)
    low, high = _bca_ends(found, value, np.nan_to_num(acceleration), level)
    few = (counts != 0).sum(axis=0) < 3
    low[few], high[few] = np.nan, np.nan
    same = _all_equal(sums, counts) & ~few
    low[same], high[same] = value[same], value[same]
    return value, low, high


def _all_equal(sums: Array, counts: Array) -> NDArray[np.bool_]:
    """Columns where every unit has the same ratio."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(counts != 0, sums / counts, np.nan)
    high = np.max(np.where(np.isnan(ratio), -np.inf, ratio), axis=0)
    low = np.min(np.where(np.isnan(ratio), np.inf, ratio), axis=0)
    return np.asarray(high == low)


def _bca_ends(found: Array, value: Array, acceleration: Array, level: float) -> tuple[Array, Array]:
    """Ends of BCa intervals from sorted resampled values (resamples, columns)."""
    count = np.isfinite(found).sum(axis=0)  # NaN (no defined unit drawn) sorts last
    with np.errstate(invalid="ignore", divide="ignore"):
        below = (found < value).sum(axis=0) + 0.5 * (found == value).sum(axis=0)
        share = np.clip(below / count, 0.5 / len(found), 1 - 0.5 / len(found))
    bias = special.ndtri(share)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + special.ndtri(tail)
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
