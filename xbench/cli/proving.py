"""`xbench exact`: which methods recover which structure of networks that are known exactly."""

from pathlib import Path
from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli.app import app, teach, write_page
from xbench.errors import ParameterError


@app.command()
@teach
def exact(
    methods: o.Methods = "all",
    images: Annotated[int, typer.Option(help="Images a structure.")] = 32,
    seed: o.Seed = 0,
    file: Annotated[Path | None, typer.Option("--out", help="Also write the table here.")] = None,
) -> None:
    """Print the table of methods by closed-form structure, the truth itself first."""
    from xbench.exact_table import exact_markdown, exact_table
    from xbench.registry import METHODS

    if images < 3:
        raise ParameterError("--images takes a number of images of at least 3.")
    rows = exact_table(METHODS.select(methods), images=images, seed=seed)
    text = exact_markdown(rows)
    typer.echo(text)
    if file is not None:
        write_page(file, text)
