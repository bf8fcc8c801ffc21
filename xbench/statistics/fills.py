"""The warning that a removal metric fills with the very baseline that a method compares with.

Integrated gradients from the mean color lead deletion with the mean color, and fall to the level
of noise with black: the fill, not the map, decides. So the coincidence is told.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from xbench.statistics.words import enumerated

_SAME_AS: Mapping[str, str] = {"blur_rise": "blur"}


def shared_fill(method_baseline: str, metric_parameters: Mapping[str, object]) -> str | None:
    """The fill that a method and a removal metric have in common, None if they have none.

    Args:
        method_baseline: `baseline` of the method's card, "" for none.
        metric_parameters: the metric's parameters; every one whose name ends in `imputer` counts.

    >>> shared_fill("mean", {"steps": 28, "imputer": "mean"})
    'mean'
    >>> shared_fill("mean", {"steps": 28, "imputer": "blur"}) is None
    True
    """
    fills = [value for name, value in metric_parameters.items() if name.endswith("imputer")]
    for fill in fills:
        if method_baseline and _SAME_AS.get(str(fill), str(fill)) == method_baseline:
            return method_baseline
    return None


def fill_warnings(
    methods: Iterable[tuple[str, str]], metrics: Iterable[tuple[str, Mapping[str, object]]]
) -> list[str]:
    """One sentence for every removal metric whose fill is the baseline of some methods.

    Args:
        methods: (label, baseline of its card).
        metrics: (label, parameters).
    """
    methods = list(methods)
    found = []
    for metric, parameters in metrics:
        by_fill: dict[str, list[str]] = {}
        for method, baseline in methods:
            fill = shared_fill(baseline, parameters)
            if fill is not None:
                by_fill.setdefault(fill, []).append(method)
        found += [_sentence(metric, fill, labels) for fill, labels in by_fill.items()]
    return found


def manifest_warnings(manifest: Mapping[str, Any]) -> list[str]:
    """The warnings of a run, from its manifest."""
    return fill_warnings(
        [(m["label"], _baseline(m)) for m in manifest["methods"]],
        [(m["label"], m.get("parameters") or {}) for m in manifest["metrics"]],
    )


def _baseline(entry: Mapping[str, Any]) -> str:
    """The baseline of a method as run: its parameter where it has one, else its card's."""
    own = (entry.get("parameters") or {}).get("baseline")
    return str(own or entry["card"].get("baseline", ""))


def _sentence(metric: str, fill: str, methods: list[str]) -> str:
    return (
        f"{metric} fills with {fill}, the baseline that {enumerated(methods)} "
        f"{'compares' if len(methods) == 1 else 'compare'} with: that lifts "
        f"{'it' if len(methods) == 1 else 'them'}; read it beside another fill."
    )
