"""Runs that never ran: records and manifests with planted winners, for tests of the judges."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom

Array = NDArray[np.float64]

METRICS = {  # name: property, direction, gate, parameters
    "insertion": ("faithfulness", "higher", "", {"imputer": "blur"}),
    "deletion": ("faithfulness", "lower", "", {"imputer": "mean"}),
    "deletion_blur": ("faithfulness", "lower", "", {"imputer": "blur"}),
    "rank_accuracy": ("localization", "higher", "", {}),
    "noise_stability": ("robustness", "higher", "", {}),
    "cascading_randomization": (
        "randomization", "lower", "cascading_randomization", {"similarity": "spearman"},
    ),
    "class_sensitivity": ("randomization", "lower", "class_sensitivity", {}),
    "sparseness": ("complexity", "none", "", {}),
}  # fmt: skip
RANKED = ("insertion", "deletion", "deletion_blur", "rank_accuracy", "noise_stability")


def most_alarms(runs: int, level: float = 0.05) -> int:
    """False alarms in so many runs that a sound test exceeds once in a thousand times."""
    return int(binom.ppf(0.999, runs, level))


@dataclass
class Planted:
    """One method of a simulated run.

    Attributes:
        skill: mean of its values above noise (0) in standard deviations of the images.
        cascade, other_class: its correlations in the gates' metrics.
        missing: metrics without rows.
        broken: metrics whose first image is `unsupported`.
        invalid: metrics whose first image is `invalid`.
        by_metric: skill where it is another one.
    """

    skill: float = 1.0
    calls: float = 2.0
    family: str = "gradient"
    cascade: float = 0.05
    other_class: float = 0.1
    missing: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    undefined: Mapping[str, int] = field(default_factory=dict)
    stochastic: bool = False
    baseline: str = ""
    by_metric: Mapping[str, float] = field(default_factory=dict)


def control(skill: float = 0.0) -> Planted:
    return Planted(skill=skill, calls=0.0, family="control")


def simulate(
    methods: Mapping[str, Planted],
    *,
    images: int = 200,
    seed: int = 0,
    metrics: tuple[str, ...] = tuple(METRICS),
    controls: bool = True,
    noise: float = 1.0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Records and manifest.

    A value is the image's own level plus the method's skill plus noise of standard deviation
    `noise / sqrt(2)`, so the difference of two methods has standard deviation `noise`.
    """
    rng = np.random.default_rng(seed)
    everyone = dict(methods)
    if controls:
        everyone |= {"random": control(), "random_smooth": control(), "oracle": control(4.0)}
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        level = rng.normal(size=images)
        for name, method in everyone.items():
            values = _values(metric, method, level, rng, noise)
            if metric not in method.missing:
                rows += _rows(metric, name, method, values)
                if metric == "cascading_randomization":
                    rows += _rows(f"{metric}/after_logits", name, method, values)
    for name, method in everyone.items():
        rows += _rows("explain", name, method, np.full(images, method.calls))
    return pd.DataFrame(rows), _manifest(everyone, metrics)


def _values(
    metric: str, method: Planted, level: Array, rng: np.random.Generator, noise: float
) -> Array:
    if metric == "cascading_randomization":
        return method.cascade + 0.05 * rng.normal(size=len(level))
    if metric == "class_sensitivity":
        return method.other_class + 0.05 * rng.normal(size=len(level))
    skill = method.by_metric.get(metric, method.skill)
    values = level + skill + noise / np.sqrt(2) * rng.normal(size=len(level))
    return np.asarray(-values if METRICS[metric][1] == "lower" else values)


def _rows(metric: str, name: str, method: Planted, values: Array) -> list[dict[str, Any]]:
    rows = []
    for i, value in enumerate(values):
        status = "ok"
        if i == 0 and metric in method.broken:
            status = "unsupported"
        if i == 0 and metric in method.invalid:
            status = "invalid"
        if i < method.undefined.get(metric, 0):
            status = "undefined"
        rows.append(
            {
                "image_id": f"image-{i:04d}",
                "method": name,
                "other": "",
                "metric": metric,
                "value": value if status == "ok" else np.nan,
                "status": status,
                "reason": "" if status == "ok" else f"It is {status}.",
                "seconds": method.calls / 100,
            }
        )
    return rows


def _manifest(methods: Mapping[str, Planted], metrics: tuple[str, ...]) -> dict[str, Any]:
    return {
        "methods": [
            {
                "label": name,
                "card": {
                    "name": name,
                    "family": method.family,
                    "stochastic": method.stochastic,
                    "baseline": method.baseline,
                },
            }
            for name, method in methods.items()
        ],
        "metrics": [
            {
                "label": name,
                "parameters": METRICS[name][3],
                "card": {
                    "name": name,
                    "property": METRICS[name][0],
                    "direction": METRICS[name][1],
                    "gate": METRICS[name][2],
                    "needs": [],
                    "range": ["-inf", "inf"],
                },
            }
            for name in metrics
        ],
    }
