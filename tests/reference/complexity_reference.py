"""Complexity metrics in plain loops, written from the papers."""


def gini(a):
    """Hurley & Rickard 2009: 1 - 2 sum_k c_(k) / |c|_1 * (N - k + 1/2) / N, ascending order."""
    c = sorted(abs(value) for row in a for value in row)
    n, norm = len(c), sum(c)
    return 1 - 2 * sum(c[k - 1] / norm * (n - k + 0.5) / n for k in range(1, n + 1))
