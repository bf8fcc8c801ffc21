"""`xbench matrix`: which method runs on which network, and why not."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli.app import app, err, teach, write_page
from xbench.errors import ParameterError

_COLORS = {"rgb": (False,), "gray": (True,), "both": (False, True)}


@app.command()
@teach
def matrix(
    methods: o.Methods = "all",
    networks: Annotated[
        str, typer.Option(help="all, or some of the networks, separated by commas.")
    ] = "all",
    images: Annotated[str, typer.Option(help="rgb, gray or both.")] = "both",
    workers: Annotated[int, typer.Option(min=1, help="Networks side by side.")] = 1,
    file: Annotated[Path | None, typer.Option("--out", help="Also write the table here.")] = None,
) -> None:
    """Run every method on every network, and print where it works or why it is refused."""
    from xbench.matrix import NETWORKS, matrix, matrix_by_workers, matrix_markdown
    from xbench.registry import METHODS

    if images not in _COLORS:
        raise ParameterError(f"--images is rgb, gray or both, not '{images}'.")
    chosen = METHODS.entries()
    if methods != "all":
        chosen = list({one.entry.name: one.entry for one in METHODS.select(methods)}.values())
    wanted = NETWORKS if networks == "all" else tuple(networks.split(","))
    if workers > 1:
        tables = [(network, gray) for gray in _COLORS[images] for network in wanted]
        found = matrix_by_workers(chosen, tables, workers)
    else:
        found = chain.from_iterable(matrix(chosen, wanted, gray=gray) for gray in _COLORS[images])
    cells = []
    for cell in found:
        cells.append(cell)
        err.print(f"{cell.network}: {cell.method} {cell.verdict.state}", markup=False)
    text = matrix_markdown(cells)
    typer.echo(text)
    if file is not None:
        write_page(file, text)
    if any(cell.verdict.state == "broken" for cell in cells):
        raise typer.Exit(1)
