"""Runs in experiment trackers: MLflow and Weights & Biases, each imported when it is asked for.

Where the run goes is decided as these libraries always decide it: MLFLOW_TRACKING_URI, WANDB_MODE,
WANDB_API_KEY and so on.
"""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xbench.errors import UnsupportedError
from xbench.optional import Optional, optional
from xbench.statistics.leaderboard import Leaderboard, Row

_mlflow = optional("mlflow", "install it with `pip install 'xbench[mlflow]'`")
_wandb = optional("wandb", "install it with `pip install 'xbench[wandb]'`")
_LONGEST = 500
"""Characters of a parameter that every tracker takes."""


def to_mlflow(
    board: Leaderboard, manifest: Mapping[str, Any], files: Iterable[Path], project: str
) -> str:
    """Log a run to MLflow: one run with tables and report, one nested run a method.

    Returns:
        where it is, for people.

    Raises:
        UnsupportedError: mlflow is not installed.
    """
    _there(_mlflow)
    _mlflow.set_experiment(project)
    entries = {entry["label"]: entry for entry in manifest["methods"]}
    with _mlflow.start_run(run_name=_title(manifest)) as parent:
        _mlflow.log_params(facts(board, manifest))
        _mlflow.log_metric("images", board.images)
        for path in files:
            _mlflow.log_artifact(str(path))
        for row in board.rows:
            with _mlflow.start_run(run_name=row.method, nested=True):
                _mlflow.log_params({"method": entries[row.method]["identity"][:_LONGEST]})
                _mlflow.log_metrics({_key(name): value for name, value in figures(row).items()})
                _mlflow.set_tags(_tags(board, row))
        return f"MLflow run {parent.info.run_id} in {_mlflow.get_tracking_uri()}"


def to_wandb(
    board: Leaderboard, manifest: Mapping[str, Any], files: Iterable[Path], project: str
) -> str:
    """Log a run to Weights & Biases: the leaderboard as a table, figures, report as an artifact.

    Returns:
        where it is, for people.

    Raises:
        UnsupportedError: wandb is not installed.
    """
    _there(_wandb)
    title = _title(manifest)
    run = _wandb.init(project=project, name=title, config=facts(board, manifest), job_type="xbench")
    try:
        frame = board.frame()
        rows = [[_plain(value) for value in line] for line in frame.itertuples(index=False)]
        run.log({"leaderboard": _wandb.Table(columns=list(frame.columns), data=rows)})
        for row in board.rows:
            run.summary.update({f"{row.method}/{k}": v for k, v in figures(row).items()})
        artifact = _wandb.Artifact(re.sub(r"[^\w.\-]+", "-", title), type="report")
        for path in files:
            artifact.add_file(str(path))
        run.log_artifact(artifact)
        return f"Weights & Biases run {run.url or run.id}"
    finally:
        run.finish()


def facts(board: Leaderboard, manifest: Mapping[str, Any]) -> dict[str, str]:
    """What a run was, as short texts."""
    model, data = manifest["model"], manifest["dataset"]
    found = {
        "xbench": manifest["xbench"],
        "board": board.card.name,
        "model": model["name"],
        "weights": model["weights"],
        "dataset": data["name"],
        "data_digest": data["digest"],
        "images": data["images"],
        "seed": manifest["seed"],
        "target": manifest["target"],
        "reading": manifest["reading"] or "as they are",
        "command": " ".join(manifest["command"]),
    }
    return {key: str(value)[:_LONGEST] for key, value in found.items()}


def figures(row: Row) -> dict[str, float]:
    """Every figure of a method that there is: place, mean rank, metrics with intervals, cost."""
    found: dict[str, float | None] = {
        "place": row.rank,
        "mean_rank": row.mean_rank,
        "first": row.best,
        "calls": row.calls,
        "seconds": row.seconds,
    }
    for label, cell in row.cells.items():
        found |= {label: cell.mean, f"{label}.low": cell.low, f"{label}.high": cell.high}
    return {k: float(v) for k, v in found.items() if v is not None and math.isfinite(v)}


def _tags(board: Leaderboard, row: Row) -> dict[str, str]:
    gates = {f"gate.{gate}": one.verdict for gate, one in board.gates[row.method].items()}
    return {"family": row.family, "control": str(row.control).lower(), "note": row.note, **gates}


def _title(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['model']['name']} on {manifest['dataset']['name']}"


def _key(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w.\- /]", "_", name)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _there(library: Optional) -> None:
    if library.reason is not None:
        raise UnsupportedError(library.reason)
