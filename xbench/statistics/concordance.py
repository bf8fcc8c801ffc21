"""Agreement of rankings: between metrics, and of the images that make up one metric."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def kendall_w(ranks: Array) -> float:
    """Kendall's coefficient of concordance with its correction for ties, 0 to 1.

    Args:
        ranks: (judges, objects), complete; values are ranked anew within a judge.

    Returns:
        1 where all judges agree; NaN with fewer than 2 judges or objects, or all tied.

    >>> kendall_w(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
    1.0
    """
    judges, objects = ranks.shape
    if judges < 2 or objects < 2:
        return float("nan")
    ranks = stats.rankdata(ranks, axis=1)
    totals = ranks.sum(axis=0)
    spread = np.sum((totals - totals.mean()) ** 2)
    ties = 0.0
    for row in ranks:
        _, sizes = np.unique(row, return_counts=True)
        ties += float(np.sum(sizes.astype(np.float64) ** 3 - sizes))
    scale = judges**2 * (objects**3 - objects) - judges * ties
    return float(12 * spread / scale) if scale > 0 else float("nan")


def krippendorff_alpha(ratings: Array) -> float:
    """Krippendorff's alpha with interval distance; with ranks as ratings, as Tomsett et al. 2020.

    Args:
        ratings: (raters, units), NaN where a rater gave none. For the reliability of a metric:
            images as raters, methods as units, ranks as ratings.

    Returns:
        1 for perfect agreement, 0 for chance; NaN without two ratings of a unit or any variation.
    """
    known = np.isfinite(ratings)
    counts = known.sum(axis=0)
    usable = counts >= 2
    values, known, counts = ratings[:, usable], known[:, usable], counts[usable]
    total = int(counts.sum())
    if total == 0:
        return float("nan")
    filled = np.where(known, values, 0.0)
    sums, squares = filled.sum(axis=0), (filled**2).sum(axis=0)
    # the sum of (a - b)^2 over ordered pairs is 2 (m sum a^2 - (sum a)^2)
    within = np.sum(2 * (counts * squares - sums**2) / (counts - 1)) / total
    between = 2 * (total * squares.sum() - sums.sum() ** 2) / (total * (total - 1))
    return float(1 - within / between) if between > 0 else float("nan")
