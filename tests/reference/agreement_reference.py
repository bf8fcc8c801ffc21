"""Agreement metrics in plain loops, written from the papers."""


def _flat(a):
    return [value for row in a for value in row]


def iou(a, b, q):
    """Jaccard index of the sets of the top q pixels; values must be distinct."""
    a, b = _flat(a), _flat(b)
    count = max(1, round(q * len(a)))
    top_a = set(sorted(range(len(a)), key=lambda i: -a[i])[:count])
    top_b = set(sorted(range(len(b)), key=lambda i: -b[i])[:count])
    return len(top_a & top_b) / len(top_a | top_b)
