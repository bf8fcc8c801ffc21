"""The leaderboard: methods by mean rank over metrics, with intervals; a pure function of records.

Partial coverage never outranks full coverage: a method without a value in a ranked metric gets no
overall rank, and stands below those that have one. Blanks stay blanks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from xbench.statistics.intervals import mean_interval


@dataclass(frozen=True)
class MetricInfo:
    """What the table needs to know of a metric: label, property, direction, what it needs."""

    label: str
    property: str
    direction: str
    pairwise: bool


@dataclass(frozen=True)
class Cell:
    """One method in one metric.

    Attributes:
        mean, low, high: over images where defined; NaN where none is.
        defined, total: images with a value, images in all.
        status: ok, or the most frequent status of what has no value.
        reason: why there is no value.
    """

    mean: float
    low: float
    high: float
    defined: int
    total: int
    status: str
    reason: str


@dataclass(frozen=True)
class Row:
    """One method: its rank (None without full coverage), cells by metric, and cost an image."""

    method: str
    family: str
    control: bool
    rank: float | None
    mean_rank: float | None
    cells: Mapping[str, Cell]
    calls: float
    seconds: float


@dataclass(frozen=True)
class Leaderboard:
    """Rows in order, and the metrics of the columns."""

    rows: Sequence[Row]
    metrics: Sequence[MetricInfo]
    images: int

    def frame(self) -> pd.DataFrame:
        """One row a method: rank, family, every metric with its interval and count, cost."""
        table = []
        for row in self.rows:
            line: dict[str, Any] = {
                "rank": row.rank,
                "method": row.method,
                "family": row.family,
                "mean_rank": row.mean_rank,
            }
            for metric in self.metrics:
                cell = row.cells[metric.label]
                line[metric.label] = cell.mean
                line[f"{metric.label} low"] = cell.low
                line[f"{metric.label} high"] = cell.high
                line[f"{metric.label} n"] = cell.defined
                line[f"{metric.label} status"] = cell.status
            line["calls"] = row.calls
            line["seconds"] = row.seconds
            table.append(line)
        return pd.DataFrame(table)


def metric_infos(manifest: Mapping[str, Any]) -> list[MetricInfo]:
    """The metrics of a run, in the order of the manifest."""
    return [
        MetricInfo(
            label=entry["label"],
            property=entry["card"]["property"],
            direction=entry["card"]["direction"],
            pairwise="pair" in entry["card"]["needs"],
        )
        for entry in manifest["metrics"]
    ]


def build_leaderboard(records: pd.DataFrame, manifest: Mapping[str, Any]) -> Leaderboard:
    """The leaderboard of a run.

    Args:
        records: the rows of the run store.
        manifest: labels, families and directions.
    """
    metrics = metric_infos(manifest)
    families = {entry["label"]: entry["card"]["family"] for entry in manifest["methods"]}
    images = records["image_id"].nunique()
    cells = {
        method: {metric.label: _cell(records, method, metric) for metric in metrics}
        for method in families
    }
    ranks = mean_ranks(cells, metrics)
    explained = records[records["metric"] == "explain"]
    rows = []
    for method, family in families.items():
        own = explained[explained["method"] == method]
        fine = own[own["status"] == "ok"]
        rows.append(
            Row(
                method=method,
                family=family,
                control=family == "control",
                rank=None,
                mean_rank=ranks.get(method),
                cells=cells[method],
                calls=float(fine["value"].mean()) if len(fine) else float("nan"),
                seconds=float(fine["seconds"].mean()) if len(fine) else float("nan"),
            )
        )
    return Leaderboard(_placed(rows), metrics, images)


def mean_ranks(
    cells: Mapping[str, Mapping[str, Cell]], metrics: Sequence[MetricInfo]
) -> dict[str, float]:
    """Mean rank over the metrics that have a direction; only methods with a value in each.

    A metric that no method has a value in (no masks in the data) is left out for all, and so is
    randomization: it is a check to pass, never a rank (Binder et al. 2023).
    """
    table: dict[str, pd.Series] = {}
    for metric in metrics:
        if metric.direction == "none" or metric.property == "randomization":
            continue
        means = pd.Series({method: row[metric.label].mean for method, row in cells.items()})
        if means.notna().any():
            table[metric.label] = means.rank(ascending=metric.direction == "lower")
    if not table:
        return {}
    frame = pd.DataFrame(table).dropna()
    return {str(method): float(value) for method, value in frame.mean(axis=1).items()}


def _placed(rows: list[Row]) -> list[Row]:
    complete = sorted(
        (row for row in rows if row.mean_rank is not None), key=lambda r: (r.mean_rank, r.method)
    )
    places = pd.Series([row.mean_rank for row in complete], dtype=float).rank(method="min")
    placed = [
        Row(**{**row.__dict__, "rank": float(place)})
        for row, place in zip(complete, places, strict=True)
    ]
    rest = sorted((row for row in rows if row.mean_rank is None), key=lambda row: row.method)
    return placed + rest


def _cell(records: pd.DataFrame, method: str, metric: MetricInfo) -> Cell:
    of_metric = records[records["metric"] == metric.label]
    mine = of_metric[of_metric["method"] == method]
    if metric.pairwise:
        mine = of_metric[(of_metric["method"] == method) | (of_metric["other"] == method)]
        usable = mine[mine["status"] == "ok"]
        values = usable.groupby("image_id")["value"].mean().to_numpy(dtype=np.float64)
        total = mine["image_id"].nunique()
    else:
        values = mine.loc[mine["status"] == "ok", "value"].to_numpy(dtype=np.float64)
        total = len(mine)
    mean, low, high = mean_interval(values)
    bad = mine[mine["status"] != "ok"]
    status, reason = "ok", ""
    if len(values) == 0:
        status = str(bad["status"].mode().iloc[0]) if len(bad) else "missing"
        reason = str(bad["reason"].mode().iloc[0]) if len(bad) else "not run"
    elif len(bad) and not metric.pairwise:
        reason = str(bad["reason"].mode().iloc[0])
    return Cell(mean, low, high, len(values), total, status, reason)
