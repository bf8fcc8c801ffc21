"""`xbench publish` and `xbench verify`: boards for others, and whether they still hold."""

import json
from pathlib import Path
from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli.app import app, err, out, teach

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `xbench run` wrote.")]
BoardName = Annotated[str, typer.Option("--board", help="See `xbench leaderboards`.")]
Into = Annotated[Path, typer.Option("--into", help="Folder that holds published boards.")]
Name = Annotated[str | None, typer.Option("--name", help="Of the new folder; the board's name.")]
Folder = Annotated[Path, typer.Argument(metavar="PUBLISHED", help="A published board.")]


@app.command()
@teach
def publish(
    run: RunArgument,
    board: BoardName = "overall",
    into: Into = Path("leaderboards/published"),
    name: Name = None,
) -> None:
    """Write a board of a finished run for others: table, cells, manifest and page."""
    from xbench.publishing import publish as write
    from xbench.running.session import open_run

    target = write(open_run(run), board, into, name=name)
    size = sum(path.stat().st_size for path in target.iterdir())
    out.print(f"Published: {target} ({size / 2**20:.1f} MB)", markup=False, soft_wrap=True)


@app.command()
@teach
def verify(
    folder: Folder,
    sample: Annotated[int, typer.Option(help="Cells to run again.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the draw of cells.")] = 0,
    tolerance: Annotated[
        float, typer.Option(help="Share of a metric's spread on the board that a value may be off.")
    ] = 0.01,
    model: Annotated[str | None, typer.Option(help="The board's model, where it is here.")] = None,
    weights: o.Weights = None,
    dataset: Annotated[str | None, typer.Option(help="The board's data, where it is here.")] = None,
    device: o.Device = "auto",
    as_json: o.JsonFlag = False,
) -> None:
    """Run a sample of a published board's cells again; exits with 1 where one does not hold.

    Another model or other data is refused with 2.
    """
    from xbench.verifying import verify as check

    given = {"model": model, "weights": weights, "dataset": dataset, "device": device}
    found = check(
        folder,
        sample=sample,
        seed=seed,
        tolerance=tolerance,
        changed={key: value for key, value in given.items() if value is not None},
        tell=lambda image: err.print(f"image {image}", markup=False, style="dim"),
    )
    if as_json:
        out.print_json(json.dumps(found.data()))
    else:
        for check_ in found.different:
            out.print(check_.sentence, markup=False, soft_wrap=True)
        out.print(found.sentence, markup=False, soft_wrap=True)
        out.print(
            f"A cell holds within {tolerance:.1%} of its metric's spread (5th to 95th percentile).",
            markup=False,
            soft_wrap=True,
            style="dim",
        )
    if found.different:
        raise typer.Exit(1)
