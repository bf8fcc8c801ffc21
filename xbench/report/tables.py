"""The leaderboard as text: numbers, CSV and Markdown."""

import csv
import io
import math
from collections.abc import Mapping
from typing import Any

from xbench.statistics.leaderboard import Cell, Leaderboard, Row
from xbench.statistics.sequential import decision_sentence

_ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
DIGITS = 10
"""Significant digits in files; sums may differ behind them between machines."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def number(value: float, digits: int = 3) -> str:
    """A number for a table, blank where there is none.

    >>> [number(0.12345), number(1234.5), number(float("nan"))]
    ['0.123', '1,234', '']
    """
    if not math.isfinite(value):
        return "" if math.isnan(value) else str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}f}"


def cell_text(cell: Cell) -> str:
    """Mean with its interval, or the status where there is no value."""
    if cell.defined == 0:
        return cell.status
    if math.isnan(cell.low):
        return number(cell.mean)
    return f"{number(cell.mean)} [{number(cell.low)}, {number(cell.high)}]"


def rank_text(row: Row) -> str:
    """The place, blank for controls, without full coverage and behind a failed gate."""
    return "" if row.rank is None else f"{row.rank:.0f}"


def mean_rank_text(row: Row) -> str:
    """The mean rank, for example `2.1 (1-3)` with the interval of the position."""
    if row.mean_rank is None:
        return ""
    interval = "" if row.low is None else f" ({row.low}-{row.high})"
    return f"{row.mean_rank:.2f}{interval}"


def gates_text(row: Row) -> str:
    """Failed gates in words, or why there is no place."""
    return ", ".join(row.failed).replace("_", " ") or row.note


def heading(label: str, direction: str) -> str:
    """A column heading with the better direction."""
    return f"{label} {_ARROWS[direction]}".strip()


def safe_csv(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def csv_text(board: Leaderboard) -> str:
    """The leaderboard as CSV: values, interval ends, counts and status in columns of their own."""
    frame = board.frame()
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([safe_csv(str(column)) for column in frame.columns])
    for line in frame.itertuples(index=False):
        writer.writerow([_csv_value(value) for value in line])
    return buffer.getvalue()


def _csv_value(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else safe_csv(str(value))


def markdown(board: Leaderboard, manifest: Mapping[str, Any]) -> str:
    """The leaderboard as a Markdown page with what it was made from."""
    model, data = manifest["model"], manifest["dataset"]
    head = ["place", "mean rank", "method", "family", "failed gates"]
    head += [heading(metric.label, metric.direction) for metric in board.metrics]
    head += ["calls / image", "s / image"]
    lines = [
        f"# Leaderboard: {markdown_text(model['name'])} on {markdown_text(data['name'])}",
        "",
        f"{board.images} images, seed {manifest['seed']}, weights {model['weights']}, "
        f"xbench {manifest['xbench']}. Board {board.card.name}: "
        f"{markdown_text(board.card.summary)} Mean over images with its 95 % bootstrap interval. "
        f"{board.card.ties} A failed gate or a missing value leaves the place blank.",
        "",
        "| " + " | ".join(map(markdown_text, head)) + " |",
        "|" + "---|" * len(head),
    ]
    for row in board.rows:
        cells = [rank_text(row), mean_rank_text(row), row.method, row.family, gates_text(row)]
        cells += [cell_text(row.cells[metric.label]) for metric in board.metrics]
        cells += [number(row.calls, 1), number(row.seconds, 4)]
        lines.append("| " + " | ".join(map(markdown_text, cells)) + " |")
    if manifest.get("decision") is not None:
        lines += ["", markdown_text(decision_sentence(manifest["decision"]))]
    reasons = sorted(
        {
            f"{row.method}, {metric.label}: {row.cells[metric.label].reason}"
            for row in board.rows
            for metric in board.metrics
            if row.cells[metric.label].defined == 0 and row.cells[metric.label].reason
        }
    )
    if reasons:
        lines += ["", "Without a value:", "", *(f"- {markdown_text(reason)}" for reason in reasons)]
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is."""
    for mark in ("\\", "|", "<", "`", "*", "_", "["):
        text = text.replace(mark, f"\\{mark}" if mark != "<" else "&lt;")
    return text.replace("\n", " ")
