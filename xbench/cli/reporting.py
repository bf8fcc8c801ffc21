"""`xbench report` and `xbench doctor`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from xbench.cli import options as o
from xbench.cli.app import app, out, teach

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `xbench run` wrote.")]


@app.command()
@teach
def report(
    run: RunArgument,
    as_json: o.JsonFlag = False,
) -> None:
    """Write the report of a run again, and print its leaderboard."""
    from xbench.report import write_all
    from xbench.report.terminal import print_leaderboard
    from xbench.running.session import open_run

    opened = open_run(run)
    written = write_all(opened)
    if as_json:
        out.print_json(opened.leaderboard().frame().to_json(orient="records"))
    else:
        print_leaderboard(out, opened.leaderboard())
        out.print(f"Report: {written}", markup=False, soft_wrap=True)


@app.command()
@teach
def doctor(as_json: o.JsonFlag = False) -> None:
    """Versions, device, threads; what is missing and how to get it."""
    from xbench.running.doctor import examine

    findings = examine()
    if as_json:
        out.print_json(json.dumps([finding.__dict__ for finding in findings]))
        return
    table = Table("what", "state", "what to do")
    for finding in findings:
        table.add_row(finding.what, finding.state, finding.advice)
    out.print(table)
