"""Writing exhibits: one self-contained page, every picture as PNG, every table as CSV and JSON."""

import base64
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from xbench.errors import RunError
from xbench.probes.contract import Exhibit, Table
from xbench.probes.shared import rows_of
from xbench.report.gallery import SIDE
from xbench.report.tables import number

DIGITS = 3
MOST_LIMITS = 24


@dataclass(frozen=True)
class Part:
    """One exhibit of a page.

    Attributes:
        exhibit: what was found.
        title: heading, default the exhibit's own.
        why: a sentence before it.
        prefix: of its files, so that two exhibits of a page do not overwrite each other.
    """

    exhibit: Exhibit
    title: str = ""
    why: str = ""
    prefix: str = ""


def write_exhibit(exhibit: Exhibit, folder: Path, command: str) -> Path:
    """Write `index.html`, a PNG a picture, a CSV a table and `numbers.json`.

    Returns:
        The path of the page.

    Raises:
        RunError: the folder cannot be written.
    """
    return write_page(exhibit.title, [Part(exhibit)], folder, command=command)


def write_page(
    title: str, parts: Sequence[Part], folder: Path, *, command: str, lead: Sequence[str] = ()
) -> Path:
    """Write several exhibits as one page with one answer and its limits.

    Args:
        title: of the page.
        parts: the exhibits in order.
        folder: where the files go; it is made.
        command: what was typed.
        lead: the question, a sentence a paragraph.

    Raises:
        RunError: the folder cannot be written.
    """
    files: dict[str, bytes] = {"index.html": render(title, parts, command, lead).encode()}
    numbers: dict[str, Any] = {}
    for part in parts:
        for name, picture in part.exhibit.images.items():
            files[f"{part.prefix}{name}.png"] = picture.png
        for name, table in part.exhibit.numbers.items():
            files[f"{part.prefix}{name}.csv"] = csv_bytes(table)
            numbers[f"{part.prefix}{name}"] = records(table)
    content = {
        "title": title,
        "command": command,
        "parts": [_told(part) for part in parts],
        "numbers": numbers,
    }
    files["numbers.json"] = (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content_bytes in files.items():
            (folder / name).write_bytes(content_bytes)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written ({error.strerror or error}); choose another --out."
        ) from error
    return folder / "index.html"


def render(title: str, parts: Sequence[Part], command: str, lead: Sequence[str] = ()) -> str:
    """The page as one HTML text that needs nothing from outside."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("xbench.probes"), PackageLoader("xbench.report")]),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    several = len(parts) > 1
    limits = dict.fromkeys(text for part in parts for text in part.exhibit.limits)
    about = {part.title or part.exhibit.title: dict(part.exhibit.about) for part in parts}
    return environment.get_template("exhibit.html.j2").render(
        title=title,
        side=SIDE,
        origin=_origin([part.exhibit for part in parts]),
        lead=list(lead),
        parts=[_shown(part) for part in parts],
        answer=[
            {
                "title": part.title or part.exhibit.title,
                "text": " ".join(part.exhibit.caption[:3]),
            }
            for part in parts
        ]
        if several
        else [],
        limits=list(limits)[:MOST_LIMITS],
        command=command,
        about=json.dumps(about if several else next(iter(about.values())), indent=1, default=str),
    )


def csv_bytes(table: Table) -> bytes:
    """The records as comma-separated text, ten significant digits."""
    return table.frame.to_csv(index=False, float_format="%.10g").encode()


def records(table: Table) -> list[dict[str, Any]]:
    """The records as plain values; what is not finite is null."""
    return [{key: _plain(value) for key, value in row.items()} for row in rows_of(table.frame)]


def file_name(text: str) -> str:
    """A text as part of a file name.

    >>> file_name("smoothgrad[n_samples=5]")
    'smoothgrad_n_samples_5'
    """
    return re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_")[-80:]


def _origin(exhibits: Sequence[Exhibit]) -> str:
    about: Mapping[str, object] = exhibits[0].about if exhibits else {}
    words = [
        f"{word} {about[key]}" if word else str(about[key])
        for word, key in (("", "model"), ("weights", "weights"), ("seed", "seed"), ("", "version"))
        if key in about
    ]
    return " · ".join(words)


def _told(part: Part) -> dict[str, Any]:
    exhibit = part.exhibit
    about = json.loads(json.dumps(dict(exhibit.about), default=str))
    return {
        "title": part.title or exhibit.title,
        "question": exhibit.question,
        "caption": list(exhibit.caption),
        "limits": list(exhibit.limits),
        "about": about,
    }


def _shown(part: Part) -> dict[str, Any]:
    exhibit = part.exhibit
    images = [
        (
            name,
            {
                "uri": "data:image/png;base64," + base64.b64encode(picture.png).decode(),
                "caption": picture.caption,
            },
        )
        for name, picture in exhibit.images.items()
    ]
    return {
        "title": part.title or exhibit.title,
        "why": part.why,
        "prefix": part.prefix,
        "question": exhibit.question,
        "caption": exhibit.caption,
        "images": images,
        "tables": [(name, _table(table)) for name, table in exhibit.numbers.items()],
    }


def _table(table: Table) -> dict[str, Any]:
    frame = table.frame.head(table.shown)
    columns = [
        {
            "name": str(name).replace("_", " "),
            "text": not pd.api.types.is_numeric_dtype(frame[name]),
        }
        for name in frame.columns
    ]
    rows = [[_text(value) for value in row] for row in frame.itertuples(index=False)]
    more = len(table.frame) - len(frame)
    return {"caption": table.caption, "columns": columns, "rows": rows, "more": more}


def _text(value: Any) -> str:
    value = _plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < abs(value) < 10**-DIGITS:
        return f"{value:.1e}"
    return number(value, DIGITS) if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
