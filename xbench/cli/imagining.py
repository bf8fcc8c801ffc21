"""`xbench visualize`, `style` and `dissect`: what networks want to see, follow and tell apart."""

from pathlib import Path
from typing import Annotated, Any

import typer

from xbench.cli import options as o
from xbench.cli import probing as p
from xbench.cli.app import app, teach
from xbench.errors import ParameterError


@app.command()
@teach
def visualize(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[CLASS]", help="A class by name or number; several with commas."),
    ] = None,
    unit: Annotated[
        str | None, typer.Option(help="LAYER:NUMBER, a channel whose activation is maximized.")
    ] = None,
    dream: Annotated[
        str | None, typer.Option(help="A layer whose activations on --image are amplified.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="The image that --dream starts from.")] = None,
    generator: Annotated[
        str | None, typer.Option(help="PATH.py:FUNCTION, codes to images in [0, 1], as a prior.")
    ] = None,
    code: Annotated[int, typer.Option(help="Length of the generator's code.")] = 128,
    steps: Annotated[int, typer.Option(help="Gradient steps.")] = 256,
    rate: Annotated[float, typer.Option(help="Length of the first step.")] = 0.02,
    l2: Annotated[float, typer.Option(help="Pull towards gray.")] = 0.002,
    blur: Annotated[float, typer.Option(help="Sigma of the blur every fourth step.")] = 0.6,
    jitter: Annotated[
        float, typer.Option(help="Largest random shift, a share of the shorter side.")
    ] = 0.0625,
    clip: Annotated[float, typer.Option(help="Share of the least pixels set back to gray.")] = 0.02,
    tv: Annotated[float, typer.Option(help="Weight of total variation.")] = 0.2,
    octaves: Annotated[int, typer.Option(help="Sizes of --dream.")] = 3,
    model: o.Model = "reference",
    weights: o.Weights = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    folder: p.Out = None,
) -> None:
    """Make the image that a class or a unit answers to most, or let a layer dream."""
    if dream is not None and image is None:
        raise ParameterError("--dream starts from an image; give --image FILE (or planted).")
    from xbench.probes.visualize import blank

    loaded = p.Loaded(model, weights, device, batch_size, layer, seed)
    values = {
        "target": target,
        "unit": unit,
        "dream": dream,
        "generator": generator,
        "code": code,
        "steps": steps,
        "rate": rate,
        "l2": l2,
        "blur": blur,
        "jitter": jitter,
        "clip": clip,
        "tv": tv,
        "octaves": octaves,
    }
    samples = loaded.read([image]) if image is not None else blank(loaded.model)
    loaded.show("visualize", samples, values, folder)


app.command(name="visualise", hidden=True)(visualize)


@app.command()
@teach
def style(
    content: Annotated[str, typer.Argument(metavar="CONTENT", help="The image that stays.")],
    look: Annotated[str, typer.Argument(metavar="STYLE", help="The image whose look it takes.")],
    methods: p.SomeMethods = p.DEFAULT_METHODS,
    steps: Annotated[int, typer.Option(help="Steps of the optimizer.")] = 150,
    content_weight: Annotated[float, typer.Option(help="Weight of the content.")] = 1.0,
    style_weight: Annotated[float, typer.Option(help="Weight of the style.")] = 10.0,
    tv: Annotated[float, typer.Option(help="Weight of total variation.")] = 2.0,
    model: o.Model = "reference",
    weights: o.Weights = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    folder: p.Out = None,
) -> None:
    """Give an image the look of another one: do the maps keep to its content?"""
    loaded = p.Loaded(model, weights, device, batch_size, layer, seed)
    values = {
        "methods": methods,
        "steps": steps,
        "content": content_weight,
        "style": style_weight,
        "tv": tv,
    }
    asked = (
        [content] if content == look else [content, look]
    )  # `planted planted`: two of its scenes
    loaded.show("style", loaded.read(asked, 2), values, folder)


@app.command()
@teach
def dissect(
    concepts: Annotated[
        str,
        typer.Option(
            help="planted, or a data set with masks such as broden:DIR or voc:DIR; with --clip a "
            "text file, one concept a line."
        ),
    ] = "planted",
    limit: Annotated[int, typer.Option(help="Images, or planted scenes.")] = 96,
    layers: Annotated[int, typer.Option(help="The last so many layers.")] = 5,
    cut: Annotated[float, typer.Option(help="IoU above which a unit is a detector.")] = 0.04,
    beside: Annotated[
        str, typer.Option(help="Further models on the same page, separated by commas.")
    ] = "",
    clip: Annotated[
        str | None,
        typer.Option(
            help="Describe units in words by a joint image-text model, without masks: "
            "open_clip:ARCHITECTURE or PATH.py:FUNCTION."
        ),
    ] = None,
    clip_weights: Annotated[
        Path | None, typer.Option(help="File of weights of open_clip:ARCHITECTURE.")
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(help="With --clip: the probing images, planted or such as images:DIR."),
    ] = None,
    similarity: Annotated[
        str | None, typer.Option(help="With --clip: softwpmi, wpmi or correlation.")
    ] = None,
    model: o.Model = "reference",
    weights: o.Weights = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    folder: p.Out = None,
) -> None:
    """Tell which units answer to which shapes, colors, textures or words, in which layers."""
    shared: dict[str, Any] = {"concepts": concepts, "layers": layers, "beside": beside}
    if clip is None:
        for name, value in (
            ("--clip-weights", clip_weights),
            ("--images", images),
            ("--similarity", similarity),
        ):
            if value is not None:
                raise ParameterError(f"{name} belongs to --clip; give --clip, or leave it out.")
        values = {**shared, "scenes": limit, "cut": cut}
    else:
        values = {
            **shared,
            "clip": clip,
            "clip_weights": str(clip_weights or ""),
            "images": images or "planted",
            "limit": limit,
            "similarity": similarity or "softwpmi",
        }
    from xbench.probes.contract import nothing
    from xbench.probes.visualize import blank

    loaded = p.Loaded(model, weights, device, batch_size, None, seed)
    made = (concepts if clip is None else images or "planted") == "planted"
    samples = blank(loaded.model) if made else nothing()
    loaded.show("dissect" if clip is None else "clip_dissect", samples, values, folder)
