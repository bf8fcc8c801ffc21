"""`xbench export`: a finished run for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from xbench.cli.app import app, out, teach

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `xbench run` wrote.")]


@app.command()
@teach
def export(
    run: RunArgument,
    to: Annotated[str, typer.Option("--to", help="parquet, json, latex, junit, mlflow or wandb.")],
    board: Annotated[str | None, typer.Option("--board", help="Default: overall.")] = None,
    out_file: Annotated[Path | None, typer.Option("--out", help="The file to write.")] = None,
    project: Annotated[
        str, typer.Option(help="Experiment of MLflow, project of Weights & Biases.")
    ] = "xbench",
) -> None:
    """Write a run as Parquet, JSON, LaTeX or JUnit, or log it to MLflow or Weights & Biases."""
    from xbench.registry import LEADERBOARDS
    from xbench.report.exporting import export_run
    from xbench.running.session import open_run

    chosen = None if board in (None, "overall") else LEADERBOARDS.create(str(board)).value
    where = export_run(open_run(run), to, out=out_file, board=chosen, project=project)
    out.print(f"Exported: {where}", markup=False, soft_wrap=True)
