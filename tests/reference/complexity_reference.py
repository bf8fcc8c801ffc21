"""Complexity metrics in plain loops, written from the papers."""

import math


def gini(a):
    """Hurley & Rickard 2009: 1 - 2 sum_k c_(k) / |c|_1 * (N - k + 1/2) / N, ascending order."""
    c = sorted(abs(value) for row in a for value in row)
    n, norm = len(c), sum(c)
    return 1 - 2 * sum(c[k - 1] / norm * (n - k + 0.5) / n for k in range(1, n + 1))


def complexity(a):
    """Bhatt et al. 2020: entropy of the fractional contributions |g_i| / sum_j |g_j|."""
    values = [abs(value) for row in a for value in row]
    return -sum(v / sum(values) * math.log(v / sum(values)) for v in values if v > 0)


def entropy(a):
    return complexity(a) / math.log(len(a) * len(a[0]))


def effective_complexity(a, eps):
    values = [abs(value) for row in a for value in row]
    return sum(v > eps * max(values) for v in values) / len(values)


def area50(a, mass=0.5):
    values = sorted((abs(value) for row in a for value in row), reverse=True)
    held, count = 0.0, 0
    while held < mass * sum(values) - 1e-9:
        held += values[count]
        count += 1
    return count / len(values)
