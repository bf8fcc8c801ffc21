"""Where the time of a run went, from its records, its manifest and what it measured meanwhile."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from xbench.running.grid import EXPLAIN
from xbench.running.timing import Timing

MODEL = ("forward", "backward", "tails")
_SUMS = ("forwards", "backwards", "tails", "seconds", "model", "masks")


@dataclass(frozen=True)
class Row:
    """One method, or one metric, over all images.

    Attributes:
        name: label.
        forwards, backwards, tails: model calls.
        seconds: time of its cells.
        model: seconds of the model in it, measured, or calls times the time of a call.
        masks: seconds of imputers in it, NaN where it was not measured.
        own: what is left, its own arithmetic.
        per_call_ms: milliseconds a forward or backward image, NaN without calls.
        peak_mb: largest device memory.
    """

    name: str
    forwards: float
    backwards: float
    tails: float
    seconds: float
    model: float
    masks: float
    own: float
    per_call_ms: float
    peak_mb: float


@dataclass(frozen=True)
class Profile:
    """Where the time of a run went.

    Attributes:
        wall: seconds of the whole run, NaN where it was not measured.
        parts: seconds by what was done; they add up to `wall` where it is known.
        speed: milliseconds of one forward, one backward and one tail.
        measured: whether the model's time was measured in the run, or estimated from its records.
        methods: maps of each method.
        metrics: each metric over all methods.
    """

    wall: float
    parts: dict[str, float]
    speed: dict[str, float]
    measured: bool
    methods: list[Row]
    metrics: list[Row]

    def json(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def profile(records: pd.DataFrame, timing: Timing | None, *, cpu: bool) -> Profile:
    """Where the time went.

    The time of calls is measured on CPUs only: elsewhere calls return before they are done. Then,
    and for runs of versions that did not measure, the time of a call is estimated: the least
    seconds that explain the cells of all methods, by non-negative least squares.

    Args:
        records: of the run.
        timing: what it measured, None if nothing.
        cpu: whether the model ran on the CPU.
    """
    main = records[~records["metric"].str.contains("/", regex=False)]
    cells = main.groupby(["method", "metric"], as_index=False).agg(
        forwards=("forwards", "sum"),
        backwards=("backwards", "sum"),
        tails=("tails", "sum"),
        seconds=("seconds", "sum"),
        peak_mb=("peak_mb", "max"),
    )
    known = timing if timing is not None and cpu and timing.total("forward") > 0 else None
    speed = _speed(cells)
    cells["model"], cells["masks"] = _model(cells, speed, known)
    maps = cells[cells["metric"] == EXPLAIN]
    scored = cells[cells["metric"] != EXPLAIN]
    methods, metrics = _rows(maps, "method"), _rows(scored, "metric")
    parts = _parts(cells, known, speed, methods, metrics)
    wall = timing.wall if timing is not None else float("nan")
    if timing is not None:
        parts["disk"] = timing.disk
        parts["idle and other"] = max(wall - sum(parts.values()), 0.0)
    return Profile(wall, parts, speed, known is not None, methods, metrics)


def _speed(cells: pd.DataFrame) -> dict[str, float]:
    """Milliseconds of a forward, a backward and a tail, from the cells that have any."""
    calls = cells[["forwards", "backwards", "tails"]].to_numpy(dtype=float)
    seconds = cells["seconds"].to_numpy(dtype=float)
    busy = calls.sum(axis=1) > 0
    if not busy.any():
        return dict.fromkeys(MODEL, 0.0)
    weight = 1 / np.maximum(seconds[busy], 1e-3)  # each cell counts alike, long or short
    found, _ = nnls(calls[busy] * weight[:, None], seconds[busy] * weight)
    return dict(zip(MODEL, (1e3 * found).tolist(), strict=True))


def _model(
    cells: pd.DataFrame, speed: dict[str, float], timing: Timing | None
) -> tuple[list[float], list[float]]:
    """Seconds of the model and of imputers in every cell."""
    model, masks = [], []
    for row in cells.to_dict("records"):
        seconds = float(row["seconds"])
        parts = None if timing is None else timing.cells.get((row["method"], row["metric"]))
        if parts is not None and parts.get("cell", 0.0) > 0:
            # records of a session that measured nothing count like the rest
            share = seconds / parts["cell"]
            model.append(share * sum(parts.get(name, 0.0) for name in MODEL))
            masks.append(share * parts.get("masks", 0.0))
            continue
        calls = (row["forwards"], row["backwards"], row["tails"])
        spent = sum(n * speed[name] / 1e3 for n, name in zip(calls, MODEL, strict=True))
        model.append(min(float(spent), seconds))
        masks.append(float("nan"))
    return model, masks


def _rows(cells: pd.DataFrame, by: str) -> list[Row]:
    """Methods or metrics, the longest first."""
    rows = []
    for name, group in cells.groupby(by):
        sums = {column: float(group[column].sum()) for column in _SUMS}
        calls = sums["forwards"] + sums["backwards"]
        own = max(sums["seconds"] - sums["model"] - sums["masks"], 0.0)
        if group["masks"].isna().all():
            sums["masks"] = float("nan")
        per_call = 1e3 * sums["seconds"] / calls if calls else float("nan")
        peak = float(group["peak_mb"].max())
        rows.append(Row(str(name), **sums, own=own, per_call_ms=per_call, peak_mb=peak))
    return sorted(rows, key=lambda row: -row.seconds)


def _parts(
    cells: pd.DataFrame,
    timing: Timing | None,
    speed: dict[str, float],
    methods: list[Row],
    metrics: list[Row],
) -> dict[str, float]:
    """Seconds by what was done, without disk and the rest of the wall."""
    model = float(cells["model"].sum())
    if timing is not None:
        shares = {name: timing.total(name) for name in MODEL}
    else:
        columns = ("forwards", "backwards", "tails")
        shares = {n: cells[c].sum() * speed[n] for n, c in zip(MODEL, columns, strict=True)}
    whole = sum(shares.values()) or 1.0
    return {
        **{f"model: {name}": model * float(share) / whole for name, share in shares.items()},
        "masks and imputers": float(cells["masks"].fillna(0.0).sum()),
        "methods": sum(row.own for row in methods),
        "metrics": sum(row.own for row in metrics),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
