"""`xbench run` and `xbench plan`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from xbench.cli import options as o
from xbench.cli.app import app, err, out, teach
from xbench.cli.configuration import Config
from xbench.cli.progress import LiveProgress, duration

if TYPE_CHECKING:
    from xbench.running.plan import Plan

Out = Annotated[
    Path | None, typer.Option("--out", help="Run folder; a new one under runs/ by default.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what --out holds already.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


@app.command()
@teach
def run(
    config: Config = None,
    catalogue: o.Catalogue = None,
    model: o.Model = "reference",
    weights: o.Weights = None,
    dataset: o.DatasetOption = "planted",
    methods: o.Methods = "all",
    metrics: o.Metrics = "default",
    limit: o.Limit = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    precision: o.Precision = "float32",
    compile: o.Compile = False,
    target: o.Target = "predicted",
    layer: o.LayerOption = None,
    max_calls: o.MaxCalls = o.MAX_CALLS,
    max_map_calls: o.MaxMapCalls = o.MAX_MAP_CALLS,
    twin: o.Twin = None,
    only_correct: o.OnlyCorrect = False,
    reading: o.ReadingOption = "",
    training: o.Training = None,
    until_decided: o.UntilDecided = False,
    leaders: o.Leaders = o.LEADERS,
    budget: o.Budget = None,
    cell_seconds: o.CellSeconds = None,
    cpu_fallback: o.CpuFallback = False,
    chunk: o.Chunk = 16,
    shard: o.Shard = None,
    devices: o.Devices = None,
    engine: o.Engine = "local",
    address: o.Address = None,
    workers: o.Workers = None,
    out_folder: Out = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Run a grid of methods and metrics, and end with a leaderboard and a report."""
    from xbench.report import write_all
    from xbench.report.terminal import print_leaderboard
    from xbench.running.session import run_grid
    from xbench.statistics.recommendation import advise

    settings = o.settings_of(
        model=model, weights=weights, dataset=dataset, methods=methods, metrics=metrics,
        limit=limit, seed=seed, device=device, batch_size=batch_size, target=target, layer=layer,
        precision=precision, compile=compile,
        max_calls=max_calls or None,
        max_map_calls=max_map_calls or None, twin=twin, only_correct=only_correct,
        reading=reading, training=training, until_decided=until_decided, leaders=leaders,
        budget=budget,
        cell_seconds=cell_seconds, cpu_fallback=cpu_fallback, chunk=chunk, shard=shard,
        devices=devices, engine=engine, address=address, workers=workers,
        out=out_folder, resume=resume,
    )  # fmt: skip
    with LiveProgress(err, quiet=quiet) as progress:
        finished = run_grid(
            settings,
            progress=progress,
            started=lambda path: err.print(f"Writing to {path}", markup=False, soft_wrap=True),
            notice=lambda text: err.print(text, markup=False, soft_wrap=True),
        )
    for name, reason in finished.manifest["dataset"]["skipped"].items():
        err.print(f"Left out {name}: {reason}", markup=False, soft_wrap=True)
    written = write_all(finished)
    judged = finished.leaderboard()
    print_leaderboard(out, judged)
    out.print(advise(judged).text, markup=False, soft_wrap=True)
    tally = finished.tally
    if tally is not None and tally.failed:
        err.print(
            f"{tally.failed} units failed or gave invalid maps; the reasons are in the table and "
            f"in {finished.path / 'errors.log'}.",
            markup=False,
            soft_wrap=True,
        )
    out.print(f"Report: {written}", markup=False, soft_wrap=True)


@app.command()
@teach
def plan(
    config: Config = None,
    catalogue: o.Catalogue = None,
    model: o.Model = "reference",
    weights: o.Weights = None,
    dataset: o.DatasetOption = "planted",
    methods: o.Methods = "all",
    metrics: o.Metrics = "default",
    limit: o.Limit = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    precision: o.Precision = "float32",
    compile: o.Compile = False,
    target: o.Target = "predicted",
    layer: o.LayerOption = None,
    max_calls: o.MaxCalls = o.MAX_CALLS,
    max_map_calls: o.MaxMapCalls = o.MAX_MAP_CALLS,
    twin: o.Twin = None,
    only_correct: o.OnlyCorrect = False,
    reading: o.ReadingOption = "",
    training: o.Training = None,
    until_decided: o.UntilDecided = False,
    leaders: o.Leaders = o.LEADERS,
    budget: o.Budget = None,
    as_json: o.JsonFlag = False,
) -> None:
    """Say what a run would cost: cells, model calls, time and disk. Nothing is written."""
    from xbench.running.plan import make_plan
    from xbench.running.session import make_grid

    settings = o.settings_of(
        model=model, weights=weights, dataset=dataset, methods=methods, metrics=metrics,
        limit=limit, seed=seed, device=device, batch_size=batch_size, target=target, layer=layer,
        precision=precision, compile=compile,
        max_calls=max_calls or None,
        max_map_calls=max_map_calls or None, twin=twin, only_correct=only_correct,
        reading=reading, training=training, until_decided=until_decided, leaders=leaders,
        budget=budget,
    )  # fmt: skip
    grid = make_grid(settings)
    planned = make_plan(grid)
    if as_json:
        out.print_json(json.dumps(_plan_json(planned)))
    else:
        _print_plan(planned)
        for sentence in () if grid.budgets is None else grid.budgets.sentences:
            out.print(sentence, markup=False, soft_wrap=True)
        if until_decided:
            out.print("That is the most: the run stops when the order is settled.")


def _print_plan(planned: "Plan") -> None:
    table = Table("method", "maps: calls/image", "metrics: calls/image", "time", "refused because")
    for method in dict.fromkeys(cell.method for cell in planned.cells):
        cells = [cell for cell in planned.cells if cell.method == method]
        total = sum((cell.cost.calls for cell in cells[1:]), 0.0)
        seconds = sum(map(planned.cell_seconds, cells))
        table.add_row(
            method,
            f"{cells[0].cost.calls:,.0f}",
            f"{total:,.0f}",
            duration(seconds),
            cells[0].reason or "",
        )
    out.print(table)
    cost = planned.cost
    out.print(
        f"{planned.images} images, {len(planned.cells)} cells, {cost.forwards:,.0f} forward and "
        f"{cost.backwards:,.0f} backward images, about {duration(planned.total_seconds)} "
        f"(measured: {planned.forward_seconds * 1e3:.2f} ms forward, "
        f"{planned.backward_seconds * 1e3:.2f} ms backward an image), "
        f"{planned.disk_mb:,.0f} MB of maps.",
        markup=False,
        soft_wrap=True,
    )


def _plan_json(planned: "Plan") -> dict[str, Any]:
    return {
        "images": planned.images,
        "seconds": planned.total_seconds,
        "model_seconds": planned.seconds(planned.cost),
        "forwards": planned.cost.forwards,
        "backwards": planned.cost.backwards,
        "tails": planned.cost.tails,
        "disk_mb": planned.disk_mb,
        "pairs": {label: seconds * planned.images for label, seconds in planned.pairs.items()},
        "cells": [
            {
                "method": cell.method,
                "metric": cell.metric,
                "forwards": cell.cost.forwards,
                "backwards": cell.cost.backwards,
                "tails": cell.cost.tails,
                "seconds": planned.cell_seconds(cell),
                "reason": cell.reason,
            }
            for cell in planned.cells
        ],
    }
