"""`xbench agree`: do methods say the same of an image?"""

from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli import probing as p
from xbench.cli.app import app, teach


@app.command()
@teach
def agree(
    methods: p.TwoMethods,
    images: p.ImageFiles = None,
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


@app.command()
@teach
def sweep(
    method: Annotated[str, typer.Argument(help="The method; what stays fixed in brackets.")],
    grid: Annotated[list[str], typer.Option("--grid", help="PARAMETER=VALUE,VALUE (repeatable).")],
    images: p.ImageFiles = None,
    dataset: o.DatasetOption = "planted",
    limit: p.Count = 6,
    faithfulness: Annotated[str | None, typer.Option(help="The metric that counts most.")] = None,
    stability: Annotated[str | None, typer.Option(help="The metric that counts next.")] = None,
    complexity: Annotated[str | None, typer.Option(help="A metric that describes.")] = None,
    model: o.Model = "reference",
    weights: o.Weights = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    folder: p.Out = None,
) -> None:
    """Try a grid of settings of one method: pictures, a table, and the setting to use."""
    loaded = p.Loaded(model, weights, device, batch_size, layer, seed)
    samples = loaded.read(images or [dataset], limit)
    metrics = {"faithfulness": faithfulness, "stability": stability, "complexity": complexity}
    given = {name: metric for name, metric in metrics.items() if metric is not None}
    loaded.show("sweep", samples, {"method": method, "grid": ";".join(grid), **given}, folder)


@app.command()
@teach
def choose(
    methods: p.TwoMethods,
    images: p.ImageFiles = None,
    dataset: o.DatasetOption = "planted",
    limit: p.Count = 6,
    metrics: Annotated[
        str | None, typer.Option(help="Metrics, those that count most first.")
    ] = None,
    model: o.Model = "reference",
    weights: o.Weights = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    layer: o.LayerOption = None,
    folder: p.Out = None,
) -> None:
    """Measure a few methods on a few images and say which one to use there."""
    loaded = p.Loaded(model, weights, device, batch_size, layer, seed)
    samples = loaded.read(images or [dataset], limit)
    values = {"methods": ",".join(methods), **({"metrics": metrics} if metrics else {})}
    loaded.show("choose", samples, values, folder)
