"""The leaderboard, the gates and the skills as the page shows them: texts, sort keys, whiskers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xbench.contracts.boards import GATES
from xbench.report.findings import Findings
from xbench.report.tables import gates_text, heading, number, rank_text
from xbench.statistics.leaderboard import Cell, Leaderboard, MetricInfo

MARKS: Mapping[str, str] = {"pass": "✓", "fail": "✗", "not tested": "–"}


def columns(findings: Findings) -> list[dict[str, Any]]:
    """Metrics grouped by property: name of the group, its number, and its metrics."""
    summaries = {e["label"]: e["card"]["summary"] for e in findings.manifest["metrics"]}
    ranked = {metric.label for metric in findings.board.ranking.metrics}
    groups: dict[str, list[MetricInfo]] = {}
    for metric in sorted(findings.board.metrics, key=lambda m: m.label not in ranked):
        groups.setdefault(metric.property, []).append(metric)
    return [
        {
            "name": name,
            "number": place,
            "metrics": [
                {
                    "heading": heading(m.label, m.direction).replace("_", " "),
                    "label": m.label,
                    "summary": summaries[m.label],
                    "ranked": m.label in ranked,
                }
                for m in metrics
            ],
        }
        for place, (name, metrics) in enumerate(groups.items())
    ]


def lines(findings: Findings, groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line a method, its cells in the order of the groups."""
    board = findings.board
    ranges = {metric.label: _range(board, metric) for metric in board.metrics}
    marks = _tie_marks(board)
    return [
        {
            "place": findings.places[row.method],
            "method": row.method,
            "family": row.family,
            "control": row.control,
            "rank": rank_text(row),
            "mean": number(row.mean_rank, 2) if row.mean_rank is not None else "",
            "positions": f"{row.low}–{row.high}" if row.low is not None else "",
            "best": "" if row.best is None else f"{row.best:.0%}",
            "tie": marks.get(row.method, ""),
            "note": gates_text(row),
            "cells": [
                cell_view(row.cells[m["label"]], ranges[m["label"]], group["number"])
                for group in groups
                for m in group["metrics"]
            ],
            "calls": number(row.calls, 0),
            "ms": number(row.seconds * 1000, 1),
        }
        for row in board.rows
    ]


def cell_view(cell: Cell, ends: tuple[float, float], group: int) -> dict[str, Any]:
    """A value, its interval in words and as a whisker in percent of the column's range."""
    if cell.defined == 0:
        return {"text": cell.status, "sort": "", "title": cell.reason, "group": group}
    title = f"{cell.defined} of {cell.total} images" + (f"; {cell.reason}" if cell.reason else "")
    view = {"text": number(cell.mean), "sort": f"{cell.mean:.10g}", "group": group}
    if math.isnan(cell.low):
        return {**view, "title": title}
    low, high = ends
    span = (high - low) or 1.0
    interval = f"{number(cell.low)} to {number(cell.high)}"
    partly = cell.defined < cell.total
    return {
        **view,
        "title": f"{number(cell.mean)}, 95 % interval {interval}; {title}",
        "interval": interval,
        "partly": f"{cell.defined}/{cell.total}" if partly else "",
        "left": round(100 * (cell.low - low) / span, 1),
        "width": round(100 * (cell.high - cell.low) / span, 1),
        "dot": round(100 * (cell.mean - low) / span, 1),
    }


def _range(board: Leaderboard, metric: MetricInfo) -> tuple[float, float]:
    cells = [row.cells[metric.label] for row in board.rows]
    ends = [x for cell in cells for x in (cell.low, cell.high, cell.mean) if math.isfinite(x)]
    return (min(ends), max(ends)) if ends else (0.0, 1.0)


def _tie_marks(board: Leaderboard) -> dict[str, str]:
    """Letters of the tie groups that a method belongs to, as in a compact letter display."""
    marks: dict[str, str] = {}
    for place, group in enumerate(board.ranking.groups):
        letter = chr(ord("a") + place) if place < 26 else f"+{place}"
        for method in group:
            marks[method] = marks.get(method, "") + letter
    return marks


def gates(findings: Findings) -> dict[str, Any]:
    """The gates table: names of the gates, and a line of verdicts a method."""
    names = list(GATES)
    table = []
    for row in findings.board.rows:
        results = findings.board.gates[row.method]
        table.append(
            {
                "method": row.method,
                "place": findings.places[row.method],
                "control": row.control,
                "cells": [
                    {
                        "mark": MARKS[results[name].verdict],
                        "verdict": results[name].verdict,
                        "figure": number(results[name].value, 2),
                        "close": results[name].close,
                        "reason": results[name].reason,
                    }
                    for name in names
                ],
            }
        )
    return {"names": [name.replace("_", " ") for name in names], "lines": table}


def skills(findings: Findings) -> dict[str, Any]:
    """Skill of every method in every metric that has one, the raw mean beside."""
    found = findings.skills
    return {
        "columns": [
            {"label": label.replace("_", " "), "top": skill.top} for label, skill in found.items()
        ],
        "lines": [
            {
                "method": row.method,
                "place": findings.places[row.method],
                "control": row.control,
                "cells": [
                    {
                        "text": number(skill.mean[row.method].value, 2),
                        "raw": number(skill.raw[row.method].value),
                        "title": f"{number(skill.mean[row.method].low, 2)} to "
                        f"{number(skill.mean[row.method].high, 2)}",
                    }
                    for skill in found.values()
                ],
            }
            for row in findings.board.rows
        ],
    }
