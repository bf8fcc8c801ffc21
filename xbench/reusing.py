"""Records of an earlier run or a published board, taken over where they would come out the same."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from xbench import __version__
from xbench.errors import RunError
from xbench.publishing import open_published
from xbench.records import COLUMNS, Curve, Record, Store, Unit, read_frame
from xbench.running.folder import RunFolder
from xbench.running.grid import EXPLAIN, Grid


def reuse_records(store: Store, grid: Grid, folder: RunFolder, earlier: Path) -> int:
    """Take over every finished unit of a grid that an earlier run holds, and its maps.

    Of a published board, secondary values of most metrics and curves are not there to be taken.

    Args:
        store: of the new run; units that it holds already stay.
        grid: the new run.
        folder: of the new run.
        earlier: a run folder or a published board.

    Returns:
        how many units were taken over.

    Raises:
        RunError: another model, other data, another seed, protocol or version; it says which.
    """
    manifest = RunFolder(earlier).manifest()
    _same(manifest, grid, earlier)
    published = "published" in manifest
    frame = open_published(earlier).cells if published else read_frame(earlier / "records.sqlite")
    curves = {} if published else _curves(earlier)
    wanted = set(grid.units()) - store.units()
    known = _agreeing(manifest, grid)
    taken = 0
    if not published:
        _share_maps(earlier / "maps", folder.maps_path)
    for unit, rows in _units(frame):
        names = {unit.method, unit.other, unit.metric} - {"", EXPLAIN}
        if unit in wanted and names <= known and _whole(rows, unit, grid):
            records = [
                replace(one, task=grid.source.name, model=grid.model_id) for one in _records(rows)
            ]
            ids = set(rows["image_id"])
            series = [c for c in curves.get((unit.method, unit.metric), ()) if c.image_id in ids]
            store.write(unit, records, series)
            taken += 1
    return taken


def _same(manifest: Mapping[str, Any], grid: Grid, earlier: Path) -> None:
    """Refuse records that would not come out the same here."""
    pairs = {
        "weights": (manifest["model"]["weights"], grid.model.weights_hash),
        "images": (manifest["dataset"]["digest"], grid.source.digest),
        "seed": (manifest["seed"], grid.seed),
        "target": (manifest["target"], grid.target),
        "reading of maps": (manifest["reading"], grid.reading.text),
        "chunk": (manifest["chunk"], grid.chunk),
        "order of images": (manifest.get("order"), "shuffled" if grid.shuffled else None),
        "version of xbench": (manifest["xbench"], __version__),
    }
    for what, (theirs, ours) in pairs.items():
        if theirs != ours:
            raise RunError(
                f"{earlier} cannot be reused: its {what} is {theirs}, here it is {ours}; run "
                "without --reuse, or with the model, data and options of that run."
            )


def _agreeing(manifest: Mapping[str, Any], grid: Grid) -> set[str]:
    """Labels of methods and metrics that mean the same in both, parameters included."""
    theirs = {e["label"]: e["identity"] for e in (*manifest["methods"], *manifest["metrics"])}
    shipped = [m for m in grid.methods if m.entry.module.startswith("xbench.methods.")]
    ours = {one.label: one.identity for one in shipped}
    ours |= {one.label: one.identity for one in grid.metrics}
    return {label for label, identity in ours.items() if theirs.get(label) == identity}


def _units(frame: pd.DataFrame) -> Iterator[tuple[Unit, pd.DataFrame]]:
    """Every unit of a table of records with its rows; secondary values belong to their metric."""
    main = frame["metric"].where(~frame["metric"].str.startswith(f"{EXPLAIN}/"), EXPLAIN)
    main = main.str.partition("/")[0]
    keys = [frame["method"], frame["other"], main, frame["chunk"], frame["repetition"]]
    for key, rows in frame.groupby(keys, sort=False):
        method, other, metric, chunk, repetition = map(str, key)
        unit = Unit(method, other, metric, int(chunk), int(repetition))
        yield unit, rows


def _whole(rows: pd.DataFrame, unit: Unit, grid: Grid) -> bool:
    """Whether all images of the chunk are there, and none failed by accident."""
    main = rows[rows["metric"] == unit.metric]
    return len(main) == len(grid.chunks()[unit.chunk]) and not (main["status"] == "error").any()


def _records(rows: pd.DataFrame) -> Iterator[Record]:
    for line in rows[list(COLUMNS)].itertuples(index=False):
        values = dict(zip(COLUMNS, line, strict=True))
        value = values["value"]
        values["value"] = None if pd.isna(value) else float(value)
        yield Record(**values)


def _curves(earlier: Path) -> dict[tuple[str, str], list[Curve]]:
    with closing(Store(earlier / "records.sqlite")) as store:
        frame = store.curves()
    found: dict[tuple[str, str], list[Curve]] = {}
    fields = {"image_id": str, "method": str, "metric": str, "repetition": int, "name": str}
    for line in frame.to_dict("records"):
        named: dict[str, Any] = {key: kind(line[key]) for key, kind in fields.items()}
        one = Curve(**named, values=line["points"])
        found.setdefault((one.method, one.metric), []).append(one)
    return found


def _share_maps(old: Path, new: Path) -> None:
    """Link (or copy) maps; their names say what decides their content."""
    new.mkdir(parents=True, exist_ok=True)
    for path in old.glob("*.safetensors"):
        target = new / path.name
        if not target.exists():
            try:
                os.link(path, target)
            except OSError:
                shutil.copyfile(path, target)
