"""`xbench counterfactual` and `xbench fool`: what the model says of changed images."""

from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli import probing as p
from xbench.cli.app import app, teach

_BOX = "LEFT,TOP,RIGHT,BOTTOM in pixels of the model's input"


@app.command()
@teach
def counterfactual(
    image: p.Image,
    occlude: Annotated[str | None, typer.Option(help=f"Put the mean color there: {_BOX}.")] = None,
    paste: Annotated[
        str | None,
        typer.Option(help="disk, square, ring, triangle or cross, with a box: disk:10,10,30,30."),
    ] = None,
    recolor: Annotated[
        str | None, typer.Option("--recolor", "--recolour", help=f"Tint a box: {_BOX}.")
    ] = None,
    blur: Annotated[str | None, typer.Option(help=f"Blur a box: {_BOX}.")] = None,
    color: Annotated[str, typer.Option(help="Of what is pasted or recolored.")] = "red",
    methods: p.SomeMethods = p.DEFAULT_METHODS,
    top: Annotated[int, typer.Option(help="Explain so many of the most probable classes.")] = 3,
    draws: Annotated[int, typer.Option(help="Random edits of that kind; 0 for none.")] = 100,
    model: o.Model = "reference",
    weights: o.Weights = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    folder: p.Out = None,
) -> None:
    """Change a part of an image: what the model says, where relevance went, was it foretold."""
    loaded = p.Loaded(model, weights, device, batch_size, layer, seed)
    values = {
        "occlude": occlude,
        "paste": paste,
        "recolor": recolor,
        "blur": blur,
        "color": color,
        "methods": methods,
        "top": top,
        "draws": draws,
    }
    loaded.show("counterfactual", loaded.read([image]), values, folder)


@app.command()
@teach
def fool(
    images: p.Images,
    target: Annotated[
        str | None,
        typer.Option(help="A class by name or number; default each image's least probable one."),
    ] = None,
    attacks: Annotated[
        str, typer.Option(help="Of ascent, fgsm and pgd; the first one is shown.")
    ] = "ascent,fgsm,pgd",
    methods: p.SomeMethods = p.DEFAULT_METHODS,
    confidence: Annotated[float, typer.Option(help="Ascent stops at this probability.")] = 0.99,
    steps: Annotated[int, typer.Option(help="Gradients of the ascent at most.")] = 200,
    epsilon: Annotated[
        float, typer.Option(help="Largest change of a pixel of fgsm and pgd.")
    ] = 0.0157,
    limit: p.Count = 2,
    model: o.Model = "reference",
    weights: o.Weights = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    folder: p.Out = None,
) -> None:
    """Turn the prediction by an invisible change, and see whether the maps move with it."""
    loaded = p.Loaded(model, weights, device, batch_size, layer, seed)
    values = {
        "target": target,
        "attacks": attacks,
        "methods": methods,
        "confidence": confidence,
        "steps": steps,
        "epsilon": epsilon,
    }
    loaded.show("fool", loaded.read(images, limit), values, folder)
