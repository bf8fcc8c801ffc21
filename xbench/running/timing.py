"""Seconds of a run by cell and by what was done, kept in `timing.json` beside the records."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xbench.records import Unit
from xbench.running.folder import RunFolder

NAME = "timing.json"
Parts = dict[str, float]


@dataclass
class Timing:
    """What a run measured while it ran; resumed runs add up.

    Attributes:
        wall: seconds from the first unit to the last, over all sessions.
        disk: seconds that writing records and maps took, outside of cells.
        cells: by (method, metric): seconds by name, `cell` for all of it, and `units`, how many
            units they are of. Pairs of methods stand under the first one.
    """

    wall: float = 0.0
    disk: float = 0.0
    cells: dict[tuple[str, str], Parts] = field(default_factory=dict)

    def add(self, unit: Unit, spent: Mapping[str, float]) -> None:
        """Book a finished unit; one whose maps were known already has spent nothing."""
        if not spent:
            return
        cell = self.cells.setdefault((unit.method, unit.metric), {"units": 0.0})
        cell["units"] += 1
        for name, seconds in spent.items():
            cell[name] = cell.get(name, 0.0) + seconds

    def plus(self, other: "Timing") -> "Timing":
        """Both together."""
        cells = {key: dict(parts) for key, parts in self.cells.items()}
        for key, parts in other.cells.items():
            mine = cells.setdefault(key, {})
            for name, value in parts.items():
                mine[name] = mine.get(name, 0.0) + value
        return Timing(self.wall + other.wall, self.disk + other.disk, cells)

    def total(self, name: str) -> float:
        """Seconds of a name over all cells."""
        return sum(parts.get(name, 0.0) for parts in self.cells.values())


def read_timing(path: Path) -> Timing | None:
    """What a run folder measured, None where it is missing or cannot be read."""
    try:
        content: dict[str, Any] = json.loads((path / NAME).read_text(encoding="utf-8"))
        cells = {
            (str(row["method"]), str(row["metric"])): {
                str(name): float(value) for name, value in row["seconds"].items()
            }
            for row in content["cells"]
        }
        return Timing(float(content["wall"]), float(content["disk"]), cells)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_timing(folder: RunFolder, timing: Timing) -> None:
    """Add what a session measured to what the folder holds.

    Raises:
        RunError: the folder cannot be written.
    """
    before = read_timing(folder.path)
    whole = timing if before is None else before.plus(timing)
    rows = [
        {"method": method, "metric": metric, "seconds": parts}
        for (method, metric), parts in sorted(whole.cells.items())
    ]
    folder.write_json(folder.path / NAME, {"wall": whole.wall, "disk": whole.disk, "cells": rows})
