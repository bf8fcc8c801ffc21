"""Writing every table and page of a run."""

from pathlib import Path

from xbench.report.budgets import budget_curves, budget_markdown
from xbench.report.findings import Findings, gather
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
        "leaderboard.md": "\n".join([markdown(board, manifest), *_budgets(findings)]),
        "leaderboard.tex": latex(board, manifest),
        "leaderboard.json": structured(findings),
        "report.html": render(findings),
    }
    for name, text in texts.items():
        run.folder.write_text(run.path / name, text)
    return run.path / "report.html"


def _budgets(findings: Findings) -> list[str]:
    """The lines on budgets, each with its end; none for a run without."""
    found = budget_curves(findings.board, findings.manifest)
    return [] if found is None else [*budget_markdown(found), ""]
