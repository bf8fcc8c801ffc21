"""`xbench agree`: do methods say the same of an image?"""

from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli import probing as p
from xbench.cli.app import app, teach


@app.command()
@teach
def agree(
    methods: Annotated[
        list[str], typer.Argument(metavar="METHOD METHOD...", help="Two methods or more.")
    ],
    images: Annotated[
        list[str] | None,
        typer.Option("--image", help="An image file (repeatable) instead of --dataset."),
    ] = None,
    dataset: o.DatasetOption = "planted",
    limit: p.Count = 10,
    q: Annotated[float, typer.Option("--top", help="Share of the pixels a map selects.")] = 0.1,
    model: o.Model = "reference",
    weights: o.Weights = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    folder: p.Out = None,
) -> None:
    """Tell how far methods agree: IoU of their top pixels by image and pair, with pictures."""
    loaded = p.Loaded(model, weights, device, batch_size, layer, seed)
    samples = loaded.read(images or [dataset], limit)
    loaded.show("agree", samples, {"methods": ",".join(methods), "q": q}, folder)
