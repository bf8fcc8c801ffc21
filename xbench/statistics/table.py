"""Per-image values of a run, method by metric: what every judgment starts from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

COST = ("calls", "seconds")


@dataclass(frozen=True)
class MetricInfo:
    """What a judgment needs to know of a metric.

    Attributes:
        label: as in the records.
        property: see `xbench.contracts.MetricCard`.
        direction: higher, lower or none.
        pairwise: whether it compares two methods.
        name: of the catalogue entry, without parameters.
        gate: the sanity gate that it feeds, if any.
        ideal: the better end of its range, NaN without one.
        fills: what it fills removed pixels with, if it removes any: "mean", "blur" ...
        sign: 1 where higher is better, -1 where lower is.
    """

    label: str
    property: str
    direction: str
    pairwise: bool
    name: str = ""
    gate: str = ""
    ideal: float = math.nan
    fills: tuple[str, ...] = ()
    sign: float = field(init=False)

    def __post_init__(self) -> None:
        """Set the sign."""
        object.__setattr__(self, "sign", -1.0 if self.direction == "lower" else 1.0)


@dataclass(frozen=True)
class MethodInfo:
    """What a judgment needs to know of a method: label, catalogue name, and of its card."""

    label: str
    name: str
    family: str
    stochastic: bool
    baseline: str = ""

    @property
    def control(self) -> bool:
        """Whether it is a yardstick and no explanation."""
        return self.family == "control"


@dataclass(frozen=True)
class MetricScores:
    """One metric over images and methods.

    Attributes:
        values: (images, methods), NaN where there is none; means over the maps of an image.
        unmeasured: images of every method without a measurement (missing, unsupported, invalid,
            error); an undefined score is a measurement.
    """

    info: MetricInfo
    values: Array
    unmeasured: NDArray[np.int_]


@dataclass(frozen=True)
class ScoreTable:
    """All metrics of a run over the same images and methods.

    Attributes:
        images: units of resampling.
        methods: columns, in the order of the manifest.
        scores: by label; "calls" and "seconds" are the cost of a map.
        details: (images, methods) of secondary values by `label/detail`.
        invalid: invalid cells of every method.
    """

    images: tuple[str, ...]
    methods: tuple[MethodInfo, ...]
    scores: Mapping[str, MetricScores]
    details: Mapping[str, Array]
    invalid: Mapping[str, int]

    @property
    def labels(self) -> list[str]:
        """Labels of the methods."""
        return [method.label for method in self.methods]

    def column(self, method: str) -> int:
        """Where a method stands."""
        return self.labels.index(method)

    def named(self, name: str) -> int | None:
        """Where the method of that catalogue name stands, for example the oracle."""
        for place, method in enumerate(self.methods):
            if method.name == name:
                return place
        return None


def metric_infos(manifest: Mapping[str, Any]) -> list[MetricInfo]:
    """The metrics of a run, in the order of the manifest."""
    infos = []
    for entry in manifest["metrics"]:
        card = entry["card"]
        low, high = (float(end) for end in card["range"])
        ideal = {"higher": high, "lower": low}.get(card["direction"], float("nan"))
        infos.append(
            MetricInfo(
                label=entry["label"],
                property=card["property"],
                direction=card["direction"],
                pairwise="pair" in card["needs"],
                name=card["name"],
                gate=_gate(entry),
                fills=_fills(entry),
                ideal=ideal if np.isfinite(ideal) else float("nan"),
            )
        )
    return infos


def _gate(entry: Mapping[str, Any]) -> str:
    """The gate that a metric feeds; only signed Spearman from the logits down can be judged."""
    values = entry.get("parameters", {})
    signed = values.get("similarity", "spearman") == "spearman"
    downwards = values.get("order", "top_down") == "top_down"
    return str(entry["card"].get("gate", "")) if signed and downwards else ""


def _fills(entry: Mapping[str, Any]) -> tuple[str, ...]:
    values = entry.get("parameters", {})
    return tuple(str(value) for name, value in values.items() if name.endswith("imputer"))


def method_infos(manifest: Mapping[str, Any]) -> list[MethodInfo]:
    """The methods of a run, in the order of the manifest."""
    return [
        MethodInfo(
            label=entry["label"],
            name=entry["card"]["name"],
            family=entry["card"]["family"],
            stochastic=bool(entry["card"].get("stochastic", False)),
            baseline=str(entry["card"].get("baseline", "")),
        )
        for entry in manifest["methods"]
    ]


def score_table(records: pd.DataFrame, manifest: Mapping[str, Any]) -> ScoreTable:
    """The values of a run, from its records.

    Args:
        records: rows of the run store, see `xbench.records.Record`.
        manifest: labels and cards of methods and metrics.
    """
    methods, metrics = method_infos(manifest), metric_infos(manifest)
    labels = [method.label for method in methods]
    images = tuple(str(image) for image in records["image_id"].drop_duplicates().sort_values())
    ok = records["status"] == "ok"
    by_metric = {str(name): rows for name, rows in records.groupby("metric", sort=False)}
    empty = records.iloc[:0]
    scores = {}
    for info in metrics:
        rows = by_metric.get(info.label, empty)
        if info.pairwise:
            mirrored = rows.rename(columns={"method": "other", "other": "method"})
            rows = pd.concat([rows, mirrored])
        scores[info.label] = MetricScores(
            info,
            _grid(rows[rows["status"] == "ok"], images, labels),
            _unmeasured(rows, images, labels),
        )
    explained = by_metric.get("explain", empty)
    for label, column in zip(COST, ("value", "seconds"), strict=True):
        info = MetricInfo(label, "efficiency", "lower", pairwise=False, name=label)
        fine = explained[explained["status"] == "ok"]
        scores[label] = MetricScores(
            info, _grid(fine, images, labels, column), _unmeasured(explained, images, labels)
        )
    details = {
        name: _grid(rows[ok.loc[rows.index]], images, labels)
        for name, rows in by_metric.items()
        if "/" in name and name not in scores
    }
    bad = records.loc[records["status"] == "invalid", "method"].value_counts()
    invalid = {label: int(bad.get(label, 0)) for label in labels}
    return ScoreTable(images, tuple(methods), scores, details, invalid)


def _grid(
    rows: pd.DataFrame, images: tuple[str, ...], labels: list[str], column: str = "value"
) -> Array:
    """Means by image and method, NaN where there is no row."""
    means = rows.groupby(["image_id", "method"])[column].mean().unstack("method")
    return means.reindex(index=list(images), columns=labels).to_numpy(dtype=np.float64)


def _unmeasured(rows: pd.DataFrame, images: tuple[str, ...], labels: list[str]) -> NDArray[np.int_]:
    measured = rows[rows["status"].isin(("ok", "undefined"))]
    count = measured.groupby("method")["image_id"].nunique().reindex(labels, fill_value=0)
    return np.asarray(len(images) - count.to_numpy(), dtype=np.int_)
