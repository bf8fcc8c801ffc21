"""Lists in sentences: a handful by name, the rest counted; reasons told once."""

from collections.abc import Mapping, Sequence


def enumerated(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence; of many, the first and how many more.

    >>> enumerated(["a", "b", "c"], most=2)
    'a, b and 1 more'
    >>> enumerated(["a", "b"])
    'a and b'
    """
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Methods by the reason that they share, in order."""
    found: dict[str, list[str]] = {}
    for method, reason in reasons.items():
        found.setdefault(reason, []).append(method)
    return found
