"""Slow twins of the statistics, written from their papers: enumerations and loops."""

import itertools
import math
from collections.abc import Sequence


def average_ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, ties sharing their mean."""
    ranks = []
    for value in values:
        below = sum(other < value for other in values)
        same = sum(other == value for other in values)
        ranks.append(below + (same + 1) / 2)
    return ranks


def wilcoxon_exact(differences: Sequence[float]) -> float:
    """Two-sided p by all 2^n sign patterns of the ranks that were seen (Wilcoxon 1945)."""
    known = [d for d in differences if d != 0]
    ranks = average_ranks([abs(d) for d in known])
    won = sum(rank for rank, d in zip(ranks, known, strict=True) if d > 0)
    far = max(won, sum(ranks) - won)
    hits = 0
    for signs in itertools.product((0, 1), repeat=len(ranks)):
        total = sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        hits += total >= far - 1e-9
    return min(1.0, 2 * hits / 2 ** len(ranks))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p: the largest of (m - k) p over all that are as small or smaller (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    for place, i in enumerate(order):
        so_far = [(len(p_values) - k) * p_values[order[k]] for k in range(place + 1)]
        adjusted[i] = min(1.0, max(so_far))
    return adjusted


def kendall_w(ranks: Sequence[Sequence[float]]) -> float:
    """W = 12 S / (m^2 (n^3 - n) - m sum T), T = sum (t^3 - t) over ties (Kendall 1948)."""
    m, n = len(ranks), len(ranks[0])
    rows = [average_ranks(row) for row in ranks]
    totals = [sum(row[j] for row in rows) for j in range(n)]
    mean = sum(totals) / n
    s = sum((total - mean) ** 2 for total in totals)
    t = sum(sum(row.count(v) ** 3 - row.count(v) for v in set(row)) for row in rows)
    return 12 * s / (m**2 * (n**3 - n) - m * t)


def krippendorff_interval(ratings: Sequence[Sequence[float | None]]) -> float:
    """1 - Do / De from all pairs of values of a unit, and all pairs at all (Krippendorff 2011)."""
    units = []
    for j in range(len(ratings[0])):
        values = [row[j] for row in ratings if row[j] is not None]
        if len(values) > 1:
            units.append([float(v) for v in values if v is not None])
    n = sum(len(values) for values in units)
    observed = sum(
        (a - b) ** 2 / (len(values) - 1)
        for values in units
        for a, b in itertools.permutations(values, 2)
    )
    pooled = [v for values in units for v in values]
    expected = sum((a - b) ** 2 for a, b in itertools.permutations(pooled, 2)) / (n - 1)
    return 1 - observed / expected


def friedman_mean_ranks(values: Sequence[Sequence[float]]) -> list[float]:
    """Mean rank of every column over rows, low values first."""
    rows = [average_ranks(row) for row in values]
    return [math.fsum(row[j] for row in rows) / len(rows) for j in range(len(rows[0]))]
