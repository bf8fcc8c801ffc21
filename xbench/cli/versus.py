"""`xbench compare`: a method of one's own beside the baselines, checked, run and judged."""

import json
from pathlib import Path
from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli.app import app, err, out, teach
from xbench.cli.progress import LiveProgress


@app.command()
@teach
def compare(
    method: Annotated[
        str, typer.Argument(metavar="PATH.py:NAME", help="A function or a class, or a known name.")
    ],
    baselines: Annotated[
        str, typer.Option(help="default (twelve known methods), all, names, globs.")
    ] = "default",
    model: o.Model = "reference",
    weights: o.Weights = None,
    dataset: o.DatasetOption = "planted",
    metrics: Annotated[
        str, typer.Option(help="compare (takes minutes), default, all, names, globs.")
    ] = "compare",
    limit: o.Limit = 32,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = "auto",
    target: o.Target = "predicted",
    layer: o.LayerOption = None,
    max_calls: o.MaxCalls = o.MAX_CALLS,
    max_map_calls: o.MaxMapCalls = o.MAX_MAP_CALLS,
    board: Annotated[str, typer.Option(help="What is ranked, see `xbench leaderboards`.")] = (
        "overall"
    ),
    reuse: Annotated[
        Path | None,
        typer.Option(help="An earlier run or a published board: its baselines are not run again."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Run it whatever the checks say.")] = False,
    out_folder: Annotated[Path | None, typer.Option("--out", help="Run folder.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with what --out holds already.")
    ] = False,
    catalogue: o.Catalogue = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
    as_json: o.JsonFlag = False,
) -> None:
    """Check a new method, run it beside baselines under equal limits, and judge it.

    A function (model, images, targets) -> maps is enough. Exits with 1 where the checks find
    something.
    """
    from xbench.comparing import MisconductError
    from xbench.comparing import compare as work
    from xbench.report.versus import lines, paragraph

    settings = o.settings_of(
        model=model, weights=weights, dataset=dataset, metrics=metrics, limit=limit, seed=seed,
        device=device, batch_size=batch_size, target=target, layer=layer,
        max_calls=max_calls or None, max_map_calls=max_map_calls or None,
        out=out_folder, resume=resume,
    )  # fmt: skip
    try:
        with LiveProgress(err, quiet=quiet) as progress:
            found = work(
                method,
                settings,
                baselines=baselines,
                reuse=reuse,
                board=board,
                force=force,
                progress=progress,
                tell=lambda text: err.print(text, markup=False, soft_wrap=True),
            )
    except MisconductError as error:
        for sentence in error.findings:
            out.print(sentence, markup=False, soft_wrap=True)
        out.print("Nothing was run; mend this, or add --force.", markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    if as_json:
        out.print_json(json.dumps(found.versus.data()))
        return
    for line in lines(found.versus):
        out.print(line, markup=False, soft_wrap=True)
    out.print("\nFor a paper:\n", style="bold")
    out.print(paragraph(found.versus, found.run.manifest), markup=False, soft_wrap=True)
    for name in ("comparison.md", "comparison.tex", "report.html"):
        out.print(f"{found.run.path / name}", markup=False, soft_wrap=True)
