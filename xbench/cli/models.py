"""`xbench models`: which models there are, and whether one is fit to be explained."""

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from xbench.cli import options as o
from xbench.cli.app import app, out, teach

if TYPE_CHECKING:
    from xbench.models.inspect import Inspection

Spec = Annotated[str | None, typer.Argument(metavar="MODEL", help="Check this one.")]


@app.command()
@teach
def models(
    spec: Spec = None,
    weights: o.Weights = None,
    dataset: o.DatasetOption = "planted",
    limit: o.Limit = 64,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    catalogue: o.Catalogue = None,
    as_json: o.JsonFlag = False,
) -> None:
    """List the models, or check one: accuracy, input range, layers, what each method will say."""
    if spec is None:
        _list(as_json)
        return
    from xbench.models.inspect import inspect_model
    from xbench.models.loading import load_classifier
    from xbench.registry import DATASETS, METHODS

    model = load_classifier(spec, weights=weights, device=device)
    source = DATASETS.create(dataset).value.open(
        model.geometry, limit=limit, seed=seed, classes=len(model.class_names) or None
    )
    found = inspect_model(model, source, METHODS.select("all"))
    if as_json:
        out.print_json(json.dumps(found.to_dict(), default=str))
    else:
        _print(found)


def _list(as_json: bool) -> None:
    from xbench.models.inspect import kinds

    if as_json:
        out.print_json(json.dumps([kind.__dict__ for kind in kinds()], default=str))
        return
    table = Table("--model", "what it is", "names")
    for kind in kinds():
        names = ", ".join(list(kind.names)[:6]) + (" ..." if len(kind.names) > 6 else "")
        table.add_row(kind.spec, kind.missing or kind.summary, names)
    out.print(table)


def _print(found: "Inspection") -> None:
    net, right = found.structure, found.accuracy
    lines = [f"{found.model}: {net.architecture}, {net.parameters:,} parameters, "
             f"{net.classes} classes, input {net.input}."]  # fmt: skip
    lines += list(found.notes)
    if right.images:
        lines.append(
            f"Top-1 {right.top1:.1%} [{right.low:.1%}, {right.high:.1%}], top-5 {right.top5:.1%} "
            f"on {right.images} images; mean confidence {right.confidence:.1%}."
        )
    lines += [finding.text for finding in found.input]
    layer = net.last_conv
    where = "none" if layer is None else f"{layer.name} ({layer.layout}, grid {layer.grid})"
    lines.append(f"Layer of class activation maps (last_conv): {where}.")
    if net.reused:
        lines.append(f"Modules that run more than once: {', '.join(net.reused)}.")
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
    refused: dict[str, list[str]] = {}
    for support in found.methods:
        if support.reason:
            refused.setdefault(support.reason, []).append(support.method)
    fine = sum(not support.reason for support in found.methods)
    out.print(f"{fine} of {len(found.methods)} methods can run.", markup=False)
    for reason, methods in refused.items():
        out.print(f"{', '.join(methods)}: {reason}", markup=False, soft_wrap=True, style="dim")
