"""The leaderboard in the terminal."""

import re

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xbench.report.tables import gates_text, heading, number, rank_text
from xbench.statistics.exposure import exposure
from xbench.statistics.leaderboard import Cell, Leaderboard, MetricInfo

COLUMN = 14
FIXED = 54
_LIMIT = re.compile(r"^It needs [\d,.]+ model calls an image; --max-calls allows ([\d,]+)\.$")


def print_leaderboard(console: Console, board: Leaderboard) -> None:
    """Print methods by rank, with means and half-widths of the 95 % interval.

    As many metrics as the terminal is wide, first one of every property.
    """
    table = Table(
        title=f"Leaderboard ({board.card.name}), {board.images} images, "
        "mean ± half of the 95 % interval",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
    )
    table.add_column("place", justify="right")
    table.add_column("mean rank", justify="right", max_width=5)
    table.add_column("method", no_wrap=True, overflow="ellipsis", max_width=30)
    valued = [metric for metric in board.metrics if any_value(board, metric.label)]
    ranked = [metric for metric in valued if metric in board.ranking.metrics]
    others = [metric for metric in valued if metric not in board.ranking.metrics]
    shown = _headline(ranked + others, max(1, (console.width - FIXED) // COLUMN))
    for metric in shown:
        words = heading(metric.label.replace("_", " "), metric.direction)  # spaces let it wrap
        table.add_column(words, justify="right", max_width=COLUMN)
    table.add_column("calls", justify="right")
    table.add_column("ms", justify="right")
    for row in board.rows:
        table.add_row(
            rank_text(row),
            "" if row.mean_rank is None else number(row.mean_rank, 2),
            escape(row.method),
            *(_short(row.cells[metric.label]) for metric in shown),
            number(row.calls, 0),
            number(row.seconds * 1000, 1),
            style="dim" if row.control else "",
        )
    console.print(table)
    if len(shown) < len(valued):
        console.print(f"{len(valued) - len(shown)} more metrics are in the report.", markup=False)
    _print_gates(console, board)
    _print_reasons(console, board, valued)
    if exposed := exposure(board):
        console.print(exposed, markup=False, soft_wrap=True)


def _headline(metrics: list[MetricInfo], room: int) -> list[MetricInfo]:
    """The metrics to show: one of every property first, then the rest, in their own order."""
    seen: set[str] = set()
    first: list[MetricInfo] = []
    rest: list[MetricInfo] = []
    for metric in metrics:
        (rest if metric.property in seen else first).append(metric)
        seen.add(metric.property)
    chosen = (first + rest)[:room]
    return [metric for metric in metrics if metric in chosen]


def _print_gates(console: Console, board: Leaderboard) -> None:
    """Say which explainers have no place, and why, once a reason."""
    methods: dict[str, list[str]] = {}
    for row in board.rows:
        if row.rank is None and not row.control and gates_text(row):
            verb = "failed " if row.failed else ""
            methods.setdefault(verb + gates_text(row), []).append(row.method)
    for reason, names in methods.items():
        console.print(f"No place for {', '.join(names)}: {reason}.", markup=False)


def _print_reasons(console: Console, board: Leaderboard, shown: list[MetricInfo]) -> None:
    """Say of every blank why it is one, once a reason."""
    hidden = [metric.label for metric in board.metrics if metric not in shown]
    if hidden:
        console.print(f"No method has a value in: {', '.join(hidden)}.", markup=False)
    methods: dict[tuple[str, str], list[str]] = {}
    for row in board.rows:
        blank: dict[str, list[str]] = {}
        for metric in shown:
            cell = row.cells[metric.label]
            if cell.defined == 0 and cell.reason:
                reason = _LIMIT.sub(r"more than \1 model calls an image (--max-calls)", cell.reason)
                blank.setdefault(reason, []).append(metric.label)
        for reason, labels in blank.items():
            where = "all metrics" if len(labels) == len(shown) else ", ".join(labels)
            methods.setdefault((reason, where), []).append(row.method)
    for (reason, where), names in methods.items():
        console.print(f"{', '.join(names)}: {reason} ({where})", markup=False, style="dim")


def any_value(board: Leaderboard, label: str) -> bool:
    """Whether any method has a value in this metric."""
    return any(row.cells[label].defined for row in board.rows)


def _short(cell: Cell) -> str:
    if cell.defined == 0:
        return f"[dim]{cell.status}[/dim]"
    half = (cell.high - cell.low) / 2
    return number(cell.mean) if half != half else f"{number(cell.mean)}±{number(half, 2)}"
