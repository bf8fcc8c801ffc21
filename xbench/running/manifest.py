"""What a run was: cards, versions, hashes, seed and command line, as plain data."""

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from xbench import __version__
from xbench.registry import Chosen
from xbench.running.grid import Grid
from xbench.statistics.boards import board_rows
from xbench.statistics.verdicts import verdict_rows

FORMAT = 1
_PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pandas",
    "scikit-image",
    "captum",
    "lime",
    "grad-cam",
    "quantus",
    "timm",
    "zennit",
)


def build(
    grid: Grid, command: Sequence[str], settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The manifest of a grid about to run.

    Besides what the run is, it keeps what a report reads: boards, verdicts on metrics, reading.

    Args:
        grid: what will run.
        command: the command line.
        settings: what was asked for, as plain data, so that a sample can be run again.
    """
    model, source = grid.model, grid.source
    return {
        "format": FORMAT,
        "xbench": __version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "settings": dict(settings or {}),
        "seed": grid.seed,
        "chunk": grid.chunk,
        "shard": None if grid.shard is None else "{}/{}".format(*grid.shard),
        "order": "shuffled" if grid.shuffled else None,
        "budget": None if grid.budgets is None else dataclasses.asdict(grid.budgets),
        "target": grid.target,
        "reading": grid.reading.text,
        "model": {
            "name": model.name,
            "weights": model.weights_hash,
            "architecture": type(model.module).__name__,
            "parameters": sum(p.numel() for p in model.module.parameters()),
            "normalization": dataclasses.asdict(model.normalization),
            "geometry": dataclasses.asdict(model.geometry),
            "layers": dict(model.roles),
            "notes": list(model.notes),
            "batch_size": model.batch_size or "auto",
            "precision": model.network.precision,
            "device": str(model.device),
        },
        "dataset": {
            "name": source.name,
            "digest": source.digest,
            "images": len(source),
            "skipped": dict(source.skipped),
            "notes": list(source.notes),
            "class_names": list(source.class_names or model.class_names),
        },
        "methods": [_entry(chosen) for chosen in grid.methods],
        "metrics": [_entry(chosen) for chosen in grid.metrics],
        "verdicts": verdict_rows(metric.label for metric in grid.metrics),
        "boards": board_rows(),
        "environment": environment(grid.model.device),
    }


def environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware that figures depend on."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "packages": versions,
        "executable": sys.implementation.name,
    }


def _entry(chosen: Chosen[Any]) -> dict[str, Any]:
    card = {
        key: ("inf" if value == float("inf") else "-inf" if value == float("-inf") else value)
        for key, value in dataclasses.asdict(chosen.card).items()
    }
    if "range" in card:
        card["range"] = [str(x) if abs(x) == float("inf") else x for x in chosen.card.range]
    return {
        "label": chosen.label,
        "identity": chosen.identity,
        "parameters": dataclasses.asdict(chosen.value),
        "card": card,
    }
