"""Runs for the tests of reports: a small real one, and changes to it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xbench.running.session import Run, Settings, run_grid

METHODS = "gradient,input_x_gradient,gradcam,random,edges,oracle"
METRICS = "deletion[steps=8],insertion[steps=8],iou,pointing_game,cascading_randomization"
KEPT = ("manifest.json", "records.sqlite", "maps")


def small_run(folder: Path) -> Run:
    """Eight planted images, four explainers and controls, five metrics."""
    settings = Settings(
        methods=METHODS,
        metrics=METRICS,
        limit=8,
        batch_size=64,
        device="cpu",
        out=folder / "run",
        command=["xbench", "run", "--limit", "8"],
    )
    return run_grid(settings)


def copied(run: Run, folder: Path) -> Run:
    """What a colleague gets: manifest, records and maps, and nothing that was written from them."""
    folder.mkdir(parents=True)
    for name in KEPT:
        source = run.path / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    return Run(folder)


def changed(run: Run, folder: Path, change: Callable[[dict[str, Any]], None]) -> Run:
    """A copy whose manifest was changed."""
    copy = copied(run, folder)
    manifest = copy.manifest
    change(manifest)
    copy.folder.manifest_path.write_text(json.dumps(manifest))
    return copy
