"""Writing every table and page of a run."""

from pathlib import Path

from xbench.report.html import render
from xbench.report.tables import csv_text, markdown
from xbench.running.session import Run, export


def write_all(run: Run) -> Path:
    """Write records.parquet, leaderboard.csv, leaderboard.md and report.html.

    Returns:
        The path of the report.

    Raises:
        RunError: the folder cannot be written.
    """
    export(run)
    board = run.leaderboard()
    manifest = run.manifest
    folder = run.folder
    folder.write_text(run.path / "leaderboard.csv", csv_text(board))
    folder.write_text(run.path / "leaderboard.md", markdown(board, manifest))
    report = run.path / "report.html"
    folder.write_text(report, render(run, board, manifest))
    return report
