"""`xbench methods`, `metrics`, `datasets`, `leaderboards`: the catalogues with their cards."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from xbench.cli import options as o
from xbench.cli.app import app, err, out, teach

if TYPE_CHECKING:
    from xbench.registry import Entry, Registry


@app.command()
@teach
def methods(as_json: o.JsonFlag = False, catalogue: o.Catalogue = None) -> None:
    """List the saliency methods with their cards."""
    from xbench.registry import METHODS

    show(METHODS, as_json, ("summary", "family", "needs", "calls", "paper", "limitations"))


@app.command()
@teach
def metrics(as_json: o.JsonFlag = False, catalogue: o.Catalogue = None) -> None:
    """List the metrics with their cards."""
    from xbench.registry import METRICS

    show(
        METRICS, as_json, ("summary", "property", "direction", "needs", "calls", "chance", "paper")
    )


@app.command()
@teach
def datasets(as_json: o.JsonFlag = False, catalogue: o.Catalogue = None) -> None:
    """List the image sources with their cards."""
    from xbench.registry import DATASETS

    show(DATASETS, as_json, ("summary", "argument", "layout", "truth"))


@app.command()
@teach
def leaderboards(as_json: o.JsonFlag = False, catalogue: o.Catalogue = None) -> None:
    """List the boards: what is ranked, by which metrics, with which gates."""
    from xbench.registry import LEADERBOARDS

    show(LEADERBOARDS, as_json, ("summary",))


def describe(entry: "Entry[Any]") -> dict[str, Any]:
    """An entry as plain data: card, parameters with defaults."""
    card = dataclasses.asdict(entry.card)
    if "range" in card:
        card["range"] = [str(x) if abs(x) == float("inf") else x for x in entry.card.range]
    return {**card, "parameters": entry.parameters}


def show(registry: "Registry[Any]", as_json: bool, columns: tuple[str, ...]) -> None:
    """Print a catalogue, its broken modules on standard error."""
    entries = registry.entries()
    if as_json:
        out.print_json(json.dumps([describe(entry) for entry in entries], default=str))
    else:
        for entry in entries:
            out.print(_block(entry, columns))
        out.print(f"{len(entries)} {registry.plural}")
    for module, reason in registry.broken.items():
        err.print(f"{module} cannot be loaded: {reason}", markup=False, soft_wrap=True)


def _block(entry: "Entry[Any]", columns: tuple[str, ...]) -> Padding:
    """A name, what it is, and one line for every further column that says something."""
    head = Text(entry.name, style="bold")
    if entry.parameters:
        values = (f"{key}={_plain(value)}" for key, value in entry.parameters.items())
        head.append(f"[{', '.join(values)}]", style="dim")
    lines = Table.grid(padding=(0, 1))
    lines.add_column(style="dim", no_wrap=True, min_width=11)
    lines.add_column()
    for column in columns:
        text = _text(entry, column)
        if text:
            lines.add_row(column, Text(text))
    return Padding(Group(head, lines), (0, 0, 1, 0))


def _plain(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _text(entry: "Entry[Any]", column: str) -> str:
    card = entry.card
    if column == "calls":
        from xbench.docs import calls_text

        return calls_text(card)
    value = getattr(card, column, "")
    return ", ".join(value) if isinstance(value, tuple) else str(value)


@app.command()
@teach
def docs(
    folder: Annotated[Path, typer.Argument(help="Where the pages go.")] = Path("docs"),
) -> None:
    """Write the tables of methods, metrics and datasets, and the page of the Python API."""
    from xbench.docs import write_docs
    from xbench.docs_api import api_page

    paths = [*write_docs(folder), folder / "api.md"]
    paths[-1].write_text(api_page(), encoding="utf-8")
    for path in paths:
        out.print(str(path), markup=False, soft_wrap=True)
