"""`xbench new`, `xbench check` and `xbench init`: starting, and knowing that it is right."""

from pathlib import Path
from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli.app import app, out, teach


@app.command()
@teach
def new(
    kind: Annotated[str, typer.Argument(help="method, metric, dataset, board, probe or model.")],
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters and underscores.")],
    into: Annotated[Path, typer.Option(help="Folder of your catalogue.")] = Path(),
) -> None:
    """Write a commented starting file with its test."""
    from xbench.plugins.starting import new_file

    path, test = new_file(kind, name, into)
    out.print(f"Written: {path}", markup=False, soft_wrap=True)
    out.print(f"Its test: {test}", markup=False, soft_wrap=True)
    out.print(f"Check it: xbench check {path}", markup=False, soft_wrap=True)
    out.print(
        f"Use it: xbench run --catalogue {into}"
        + (f" --methods {name},gradcam,random" if kind == "method" else ""),
        markup=False,
        soft_wrap=True,
    )


@app.command()
@teach
def check(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A file, a folder, or PATH.py:FUNCTION.")
    ],
    model: o.Model = "reference",
    weights: o.Weights = None,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
) -> None:
    """Run the conformance suite on a file of your own; exits with 1 where something is wrong."""
    from xbench.checking import check_file, texts
    from xbench.models.loading import load_classifier

    settings = o.settings_of(model=model, weights=weights, device=device, batch_size=batch_size)
    classifier = load_classifier(
        model, weights=weights, device=device, batch_size=settings.batch_size
    )
    found = check_file(path, classifier)
    for line in texts(found):
        out.print(line, markup=False, soft_wrap=True)
    if any(found.values()):
        raise typer.Exit(1)
