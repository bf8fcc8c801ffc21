"""`xbench study` and `xbench probes`: several experiments as one report, and what there is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from xbench.cli import options as o
from xbench.cli import probing as p
from xbench.cli.app import app, out, teach
from xbench.cli.lists import show


@app.command()
@teach
def study(
    file: Annotated[Path, typer.Argument(metavar="FILE.toml", help="The declared study.")],
    images: Annotated[
        list[str] | None,
        typer.Option("--image", help="An image file (repeatable) instead of the study's own."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="A data set instead of the study's.")] = None,
    limit: Annotated[int | None, typer.Option(help="So many of its images.")] = None,
    model: Annotated[str | None, typer.Option(help="A model instead of the study's.")] = None,
    weights: o.Weights = None,
    seed: Annotated[int | None, typer.Option(help="A seed instead of the study's.")] = None,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    catalogue: o.Catalogue = None,
    folder: p.Out = None,
) -> None:
    """Run a declared study and write it as one report: question, evidence, answer, limits."""
    from dataclasses import replace

    from xbench.probes.page import write_page
    from xbench.probes.study import read_study, run_study

    asked = read_study(file)
    given: dict[str, Any] = {"model": model, "limit": limit, "seed": seed}
    asked = replace(asked, **{name: value for name, value in given.items() if value is not None})
    if images or dataset:
        asked = replace(asked, images=tuple(images or [str(dataset)]))
    loaded = p.Loaded(asked.model, weights, device, batch_size, layer, asked.seed)
    samples = loaded.read(asked.images, asked.limit)
    with p.Teller() as tell:
        parts = run_study(asked, loaded.model, samples, tell=tell)
    path = write_page(
        asked.title,
        parts,
        folder or Path("exhibits") / file.stem,
        command=p.command(),
        lead=asked.question,
    )
    for part in parts:
        sentence = f"{part.title or part.exhibit.title}: {part.exhibit.caption[0]}"
        out.print(sentence, markup=False, soft_wrap=True)
    out.print(f"The report is {path}.", markup=False, soft_wrap=True)


@app.command()
@teach
def probes(as_json: o.JsonFlag = False, catalogue: o.Catalogue = None) -> None:
    """List the probes that a study can name, with their parameters."""
    from xbench.probes.contract import PROBES

    show(PROBES, as_json, ("summary", "question", "images", "paper", "limitations"))
