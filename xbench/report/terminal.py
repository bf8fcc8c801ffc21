"""The leaderboard in the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from xbench.report.tables import heading, number, rank_text
from xbench.statistics.leaderboard import Cell, Leaderboard


def print_leaderboard(console: Console, board: Leaderboard) -> None:
    """Print methods by rank, with means (half-widths of the 95 % interval behind them)."""
    table = Table(
        title=f"Leaderboard, {board.images} images (mean and 95 % interval)", title_justify="left"
    )
    table.add_column("rank", justify="right")
    table.add_column("method", no_wrap=True)
    shown = [metric for metric in board.metrics if any_value(board, metric.label)]
    for metric in shown:
        table.add_column(heading(metric.label, metric.direction), justify="right")
    table.add_column("calls", justify="right")
    table.add_column("ms", justify="right")
    for row in board.rows:
        style = "dim" if row.control else ""
        table.add_row(
            rank_text(row),
            escape(row.method),
            *(_short(row.cells[metric.label]) for metric in shown),
            number(row.calls, 0),
            number(row.seconds * 1000, 1),
            style=style,
        )
    console.print(table)
    hidden = [metric.label for metric in board.metrics if metric not in shown]
    if hidden:
        console.print(f"No method has a value in: {', '.join(hidden)}.", markup=False)
    notes: dict[str, list[str]] = {}
    for row in board.rows:
        for metric in shown:
            cell = row.cells[metric.label]
            if cell.defined == 0 and cell.reason:
                notes.setdefault(f"{row.method}: {cell.reason}", []).append(metric.label)
    for note, labels in notes.items():
        where = "" if len(labels) == len(shown) else f" ({', '.join(labels)})"
        console.print(f"{note}{where}", markup=False, style="dim")


def any_value(board: Leaderboard, label: str) -> bool:
    """Whether any method has a value in this metric."""
    return any(row.cells[label].defined for row in board.rows)


def _short(cell: Cell) -> str:
    if cell.defined == 0:
        return f"[dim]{cell.status}[/dim]"
    half = (cell.high - cell.low) / 2
    return number(cell.mean) if half != half else f"{number(cell.mean)}±{number(half, 2)}"
