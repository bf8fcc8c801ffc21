"""Writing every table and page of a run."""

from pathlib import Path

from xbench.report.findings import gather
from xbench.report.html import render
from xbench.report.latex import latex
from xbench.report.structured import structured
from xbench.report.tables import csv_text, markdown
from xbench.running.session import Run, export


def write_all(run: Run) -> Path:
    """Write records.parquet, the leaderboard as .csv, .md, .tex and .json, and report.html.

    Returns:
        The path of the report.

    Raises:
        RunError: the folder cannot be written.
    """
    export(run)
    findings = gather(run)
    board, manifest = findings.board, findings.manifest
    texts = {
        "leaderboard.csv": csv_text(board),
        "leaderboard.md": markdown(board, manifest),
        "leaderboard.tex": latex(board, manifest),
        "leaderboard.json": structured(findings),
        "report.html": render(findings),
    }
    for name, text in texts.items():
        run.folder.write_text(run.path / name, text)
    return run.path / "report.html"
