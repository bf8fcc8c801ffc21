"""Bootstrap intervals over images."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def mean_interval(
    values: Array, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The mean over images and its bias-corrected and accelerated bootstrap interval.

    Args:
        values: one value an image, NaN where undefined (left out).
        level: coverage.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        (mean, low, high); the interval is NaN with fewer than 3 images, and the mean itself where
        all values are equal.
    """
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(values.mean())
    if len(values) < 3:
        return mean, float("nan"), float("nan")
    if np.ptp(values) == 0:
        return mean, mean, mean
    result = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return mean, float(result.low), float(result.high)


def paired_difference(
    first: Array, second: Array, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean and interval of first - second over the images where both are defined."""
    return mean_interval(first - second, level=level, resamples=resamples, seed=seed)
