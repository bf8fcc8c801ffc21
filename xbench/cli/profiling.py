"""`xbench profile`: where the time of a run went."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from xbench.cli import options as o
from xbench.cli.app import app, out, teach

if TYPE_CHECKING:
    from xbench.running.profile import Row


@app.command()
@teach
def profile(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    as_json: o.JsonFlag = False,
) -> None:
    """Show where a run's time went: model, imputers, methods, metrics, disk, the rest."""
    from xbench.running.profile import profile as made
    from xbench.running.session import open_run
    from xbench.running.timing import read_timing

    opened = open_run(run)
    device = str(opened.manifest["model"].get("device", "cpu"))
    found = made(opened.records, read_timing(opened.path), cpu=device == "cpu")
    if as_json:
        out.print_json(json.dumps(found.json()))
        return
    whole = sum(found.parts.values()) or 1.0
    table = Table("what", "seconds", "share")
    for name, seconds in found.parts.items():
        table.add_row(name, f"{seconds:,.1f}", f"{seconds / whole:.0%}")
    out.print(table)
    _print_rows("maps of", found.methods)
    _print_rows("metric", found.metrics)
    how = "measured in the run" if found.measured else "estimated from the records"
    speeds = ", ".join(f"{found.speed[name]:.2f} ms {name}" for name in found.speed)
    out.print(f"The time of the model is {how}; a call in its cell takes {speeds}.")
    if math.isnan(found.wall):
        out.print("The run did not measure its whole time, so disk and idle time are not known.")


def _print_rows(title: str, rows: "list[Row]") -> None:
    table = Table(title, "calls", "tails", "seconds", "model", "imputers", "own", "ms/call", "MB")
    for row in rows:
        table.add_row(
            row.name,
            f"{row.forwards + row.backwards:,.0f}",
            f"{row.tails:,.0f}",
            *(_number(one) for one in (row.seconds, row.model, row.masks, row.own)),
            _number(row.per_call_ms),
            f"{row.peak_mb:,.0f}",
        )
    out.print(table)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:,.2f}"
