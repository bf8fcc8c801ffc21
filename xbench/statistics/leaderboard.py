"""The leaderboard: methods by mean rank, with intervals, ties and gates; pure in the records.

Partial coverage never outranks full coverage: a method without a value in a ranked metric gets no
place, and stands below those that have one; so does a method that failed a gate of the board.
Blanks stay blanks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from xbench.contracts import Board, BoardCard
from xbench.statistics.boards import overall_board
from xbench.statistics.gates import GateResult, gate_results
from xbench.statistics.intervals import Interval, bca_columns
from xbench.statistics.ranking import Ranking, Standing, rank_methods, wanted
from xbench.statistics.table import (
    MethodInfo,
    MetricInfo,
    MetricScores,
    ScoreTable,
    metric_infos,
    score_table,
)
from xbench.statistics.verdicts import verdict_of, verdicts_of

__all__ = [
    "Cell",
    "Leaderboard",
    "MetricInfo",
    "Row",
    "build_leaderboard",
    "metric_infos",
]


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
    """One method: its place, its gates, cells by metric, and cost an image.

    Attributes:
        rank: its place; methods not shown to differ from the best share place 1. None for
            controls, without full coverage, and behind a failed gate.
        mean_rank: over images and metrics; what a control would take among the explainers.
        low, high: 95 % interval of the position by mean rank.
        best: share of bootstrap resamples in which it comes first.
        failed: gates of the board that it failed, or that are required and were not tested.
        note: why it has no place, if so.
    """

    method: str
    family: str
    control: bool
    rank: float | None
    mean_rank: float | None
    cells: Mapping[str, Cell]
    calls: float
    seconds: float
    low: int | None = None
    high: int | None = None
    best: float | None = None
    failed: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Leaderboard:
    """Rows in order, the metrics of the columns, and what they were judged from.

    Attributes:
        rows: methods with a place first, controls at their mean rank among them.
        metrics: of the columns.
        images: in the run.
        card: the board.
        ranking: order, ties and tests of the explainers.
        gates: every gate of every method.
        table: the per-image values.
        preliminary: whether there are too few images to rely on the order.
    """

    rows: Sequence[Row]
    metrics: Sequence[MetricInfo]
    images: int
    card: BoardCard
    ranking: Ranking
    gates: Mapping[str, Mapping[str, GateResult]]
    table: ScoreTable = field(repr=False)
    preliminary: bool = False

    def frame(self) -> pd.DataFrame:
        """One row a method: place, gates, every metric with its interval and count, cost."""
        table = []
        for row in self.rows:
            line: dict[str, Any] = {
                "rank": row.rank,
                "method": row.method,
                "family": row.family,
                "mean_rank": row.mean_rank,
                "rank low": row.low,
                "rank high": row.high,
                "best": row.best,
                "failed gates": " ".join(row.failed),
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

    def _repr_html_(self) -> str:
        """A table for notebooks: place, method, means, failed gates, cost."""
        means = [metric.label for metric in self.metrics]
        shown = self.frame()[["rank", "method", "mean_rank", *means, "calls", "failed gates"]]
        return str(shown.to_html(index=False, na_rep="", float_format=lambda x: f"{x:.3g}"))


def build_leaderboard(
    records: pd.DataFrame,
    manifest: Mapping[str, Any],
    board: Board | None = None,
    *,
    known: Leaderboard | None = None,
) -> Leaderboard:
    """The leaderboard of a run.

    Args:
        records: the rows of the run store.
        manifest: cards of methods and metrics, verdicts on metrics, boards.
        board: what is ranked and gated; None for `overall` with all metrics as columns.
        known: the same run on another board, whose values and gates need not be made again.
    """
    chosen = overall_board(manifest) if board is None else board
    table = score_table(records, manifest) if known is None else known.table
    failed = audited_out(table.scores, manifest)
    ranking = rank_methods(table, chosen.card, alpha=chosen.alpha, uninformative=failed)
    if known is not None and known.ranking.alpha == chosen.alpha:
        gates = known.gates
    else:
        gates = gate_results(table, alpha=chosen.alpha)
    metrics = [
        info for info in metric_infos(manifest) if board is None or wanted(info, chosen.card)
    ]
    rows_of = {str(name): rows for name, rows in records.groupby("metric", sort=False)}
    cells = {
        metric.label: _cells(
            rows_of.get(metric.label, records.iloc[:0]), table, table.scores[metric.label]
        )
        for metric in metrics
    }
    costs = {name: bca_columns(table.scores[name].values)[0] for name in ("calls", "seconds")}
    rows = []
    for i, method in enumerate(table.methods):
        row = Row(
            method=method.label,
            family=method.family,
            control=method.control,
            rank=None,
            mean_rank=ranking.controls.get(method.label),
            cells={label: column[method.label] for label, column in cells.items()},
            calls=float(costs["calls"][i]),
            seconds=float(costs["seconds"][i]),
            failed=failed_gates(chosen.card, gates[method.label]),
            note=ranking.unranked.get(method.label, ""),
        )
        rows.append(_placed(row, method, ranking.standing(method.label), chosen.card))
    return Leaderboard(
        rows=sorted(rows, key=_order),
        metrics=metrics,
        images=len(table.images),
        card=chosen.card,
        ranking=ranking,
        gates=gates,
        table=table,
        preliminary=len(table.images) < chosen.min_images,
    )


def audited_out(labels: Iterable[str], manifest: Mapping[str, Any]) -> dict[str, str]:
    """Metrics that the audit kept in the manifest found not to rank planted truth, and why."""
    known = verdicts_of(manifest)
    found = {label: verdict_of(label, known) for label in labels}
    return {
        label: verdict.reason
        for label, verdict in found.items()
        if verdict is not None and verdict.standing == "fails"
    }


def failed_gates(card: BoardCard, results: Mapping[str, GateResult]) -> tuple[str, ...]:
    """The gates of a board that keep a method from a place."""
    return tuple(
        gate
        for gate, result in results.items()
        if (gate in card.gates and result.verdict == "fail")
        or (gate in card.required and result.verdict != "pass")
    )


def _placed(row: Row, method: MethodInfo, standing: Standing | None, card: BoardCard) -> Row:
    values: dict[str, Any] = dict(row.__dict__)
    if standing is not None:
        values |= {
            "mean_rank": standing.mean_rank.value,
            "low": standing.low,
            "high": standing.high,
            "best": standing.best,
        }
        if not row.failed:
            values["rank"] = float(standing.place)
    if card.kind == "gates" and not method.control and not row.failed:
        values["rank"] = 1.0
    if row.failed and not method.control:
        values["note"] = row.note or f"failed {', '.join(row.failed)}"
    return Row(**values)


def _order(row: Row) -> tuple[bool, bool, float, str]:
    """Places and controls by mean rank, then failed gates, then what has no rank at all."""
    shut = bool(row.failed) and not row.control
    unknown = row.mean_rank is None and row.rank is None
    mean = row.mean_rank if row.mean_rank is not None else (row.rank or 0.0)
    return (unknown, shut, mean, row.method)


def _cells(rows: pd.DataFrame, table: ScoreTable, score: MetricScores) -> dict[str, Cell]:
    """The cells of one metric, from its rows."""
    if score.info.pairwise:
        mirrored = rows.rename(columns={"method": "other", "other": "method"})
        rows = pd.concat([rows, mirrored])
    means, lows, highs = bca_columns(score.values)
    known = np.isfinite(score.values).sum(axis=0)
    totals = rows.groupby("method")["image_id"].nunique()
    bad = {str(name): own for name, own in rows[rows["status"] != "ok"].groupby("method")}
    return {
        label: _cell(
            Interval(float(means[i]), float(lows[i]), float(highs[i])),
            int(known[i]),
            int(totals.get(label, 0)),
            bad.get(label, rows.iloc[:0]),
            pairwise=score.info.pairwise,
        )
        for i, label in enumerate(table.labels)
    }


def _cell(found: Interval, defined: int, total: int, bad: pd.DataFrame, *, pairwise: bool) -> Cell:
    status, reason = "ok", ""
    if defined == 0:
        status = str(bad["status"].mode().iloc[0]) if len(bad) else "missing"
        reason = str(bad["reason"].mode().iloc[0]) if len(bad) else "not run"
    elif len(bad) and not pairwise:
        reason = str(bad["reason"].mode().iloc[0])
    return Cell(*found, defined, total, status, reason)
