"""Verifying a published board: a sample of its cells is run again and held against it."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from xbench.contracts import Method, Metric
from xbench.errors import ParameterError, RunError
from xbench.publishing import Published, open_published
from xbench.registry import Chosen
from xbench.running import cells
from xbench.running.batches import read_batch, read_pool
from xbench.running.grid import EXPLAIN, Grid
from xbench.running.guard import Guard
from xbench.running.maps import MapCache
from xbench.running.session import Settings, make_grid

TOLERANCE = 0.01
"""How far a value may move: this share of the spread (5th to 95th percentile) of its metric on the
board. Rounding of float sums differs between machines, and where values tie, a rank moves."""
SMALLEST = 1e-6


@dataclass(frozen=True)
class Check:
    """One cell of the sample, as published and as found now; values are NaN where there is none.

    Attributes:
        tolerance: how far the value may be off.
        reason: why there is no value now, if so.
    """

    method: str
    metric: str
    image_id: str
    published: float
    found: float
    tolerance: float
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether both have no value, or both have one within the tolerance."""
        if math.isnan(self.published) or math.isnan(self.found):
            return math.isnan(self.published) and math.isnan(self.found)
        return abs(self.published - self.found) <= self.tolerance

    @property
    def sentence(self) -> str:
        """What was published and what is found."""
        found = _text(self.found) + (f" ({self.reason.rstrip('.')})" if self.reason else "")
        return (
            f"{self.method}, {self.metric}, image {self.image_id}: published "
            f"{_text(self.published)}, now {found}, tolerance {self.tolerance:.2g}."
        )


@dataclass(frozen=True)
class Verification:
    """What became of a published board.

    Attributes:
        checks: the sample.
        cells: how many cells the sample was drawn from.
    """

    checks: tuple[Check, ...]
    cells: int

    @property
    def different(self) -> tuple[Check, ...]:
        """The cells that do not hold."""
        return tuple(check for check in self.checks if not check.holds)

    @property
    def at_most(self) -> float:
        """Share of the board's cells that may not hold, with 95 % confidence (Clopper-Pearson)."""
        bad, count = len(self.different), len(self.checks)
        share = 1.0 if bad >= count else float(stats.beta.ppf(0.95, bad + 1, count - bad))
        return 0.0 if count == self.cells and not bad else share

    @property
    def sentence(self) -> str:
        """The verdict."""
        count = len(self.checks)
        return (
            f"{count - len(self.different)} of {count} cells hold, drawn from {self.cells:,}; with "
            f"95 % confidence at most {self.at_most:.0%} of the board's cells do not."
        )

    def data(self) -> dict[str, Any]:
        """Everything as plain data, NaN as None."""
        rows = [asdict(check) | {"holds": check.holds} for check in self.checks]
        plain = [
            {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
            for row in rows
        ]
        return {"cells": self.cells, "at_most": self.at_most, "checks": plain}


def verify(
    folder: Path,
    *,
    sample: int = 20,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    changed: Mapping[str, Any] | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Verification:
    """Run a sample of a published board's cells again.

    Every cell is run alone: one image, one method, one metric. Cells without a value for a
    reason other than being undefined are not drawn, nor pairs of methods, nor metrics that train
    the model anew.

    Args:
        folder: a published board.
        sample: how many cells, drawn evenly.
        seed: of the draw.
        tolerance: share of a metric's spread on the board that a value may be off.
        changed: settings of the run that are others here: model, weights, dataset, device ...
        tell: told before every image.

    Raises:
        RunError: the folder holds no published board, or model or data are not those of the board.
        ParameterError: the model must be named.
    """
    if sample < 1 or not tolerance > 0:
        raise ParameterError("--sample takes at least 1 cell, --tolerance a share above 0.")
    published = open_published(folder)
    manifest = published.manifest
    if "settings" not in manifest:
        raise RunError(f"{folder} does not say what was asked for; publish its run again.")
    grid = make_grid(Settings.from_request(manifest["settings"], **(changed or {})))
    _same(grid, manifest)
    everything = _eligible(published, grid)
    drawn = _draw(everything, sample, seed)
    limits = _tolerances(published.cells, tolerance)
    with tempfile.TemporaryDirectory() as temporary:
        found = list(_run(grid, drawn, Path(temporary), tell))
    checks = [
        Check(
            method=str(row["method"]),
            metric=str(row["metric"]),
            image_id=str(row["image_id"]),
            published=float(row["value"]),
            found=value,
            tolerance=max(limits[str(row["metric"])], SMALLEST),
            reason=reason,
        )
        for row, value, reason in found
    ]
    return Verification(tuple(checks), len(everything))


def _same(grid: Grid, manifest: Mapping[str, Any]) -> None:
    """Refuse another model or other data, with the reason."""
    weights, data = manifest["model"]["weights"], manifest["dataset"]["digest"]
    if grid.model.weights_hash != weights:
        raise RunError(
            f"The board was published with the weights {weights}; {grid.model.name} has "
            f"{grid.model.weights_hash} here. Give the same file with --weights."
        )
    if grid.source.digest != data:
        raise RunError(
            f"The board was published on the data {data} ({manifest['dataset']['images']} images); "
            f"{grid.source.name} is {grid.source.digest} ({len(grid.source)} images) here. Give "
            "the same images with --dataset."
        )


def _eligible(published: Published, grid: Grid) -> pd.DataFrame:
    """The cells that may be drawn."""
    rows = published.cells
    metrics = {m.label for m in grid.single if "retraining" not in m.card.needs} | {EXPLAIN}
    methods = {method.label for method in grid.methods}
    missing = [e["label"] for e in published.manifest["methods"] if e["label"] not in methods]
    if missing:
        raise RunError(
            f"The board ranks {missing[0]}, which cannot be chosen here; `xbench doctor` says what "
            "is missing."
        )
    fine = rows["metric"].isin(metrics) & rows["status"].isin(("ok", "undefined"))
    chosen = rows[fine].sort_values(["image_id", "method", "metric", "repetition"])
    return chosen.drop_duplicates(["image_id", "method", "metric"]).reset_index(drop=True)


def _draw(rows: pd.DataFrame, sample: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    places = rng.choice(len(rows), size=min(sample, len(rows)), replace=False)
    return rows.iloc[np.sort(places)]


def _tolerances(rows: pd.DataFrame, share: float) -> dict[str, float]:
    """How far a value may be off, by metric."""
    values = rows.loc[rows["status"] == "ok"].groupby("metric")["value"]
    low, high, middle = values.quantile(0.05), values.quantile(0.95), values.median()
    spread = (high - low).where(high > low, middle.abs())
    limits = {str(name): share * float(one) for name, one in spread.items()}
    limits[EXPLAIN] = 0.5  # model calls are counted
    return {str(name): limits.get(str(name), 0.0) for name in rows["metric"].unique()}


def _run(
    grid: Grid, drawn: pd.DataFrame, temporary: Path, tell: Callable[[str], None]
) -> Iterator[tuple[Any, float, str]]:
    """Every drawn cell with its value now and why there is none."""
    alone = replace(grid, chunk=1, shuffled=False)
    places = {image: number for number, image in enumerate(grid.source.ids)}
    methods = {method.label: method for method in grid.methods}
    metrics = {metric.label: metric for metric in grid.single}
    cache, guard, pool = MapCache(temporary), Guard(grid.model), read_pool(grid)
    for image, of_image in drawn.groupby("image_id", sort=True):
        tell(str(image))
        batch = read_batch(alone, places[str(image)], pool)
        for label, of_method in of_image.groupby("method", sort=True):
            method = methods[str(label)]
            explained = cells.explain(alone, batch, method, cache, guard, lambda chosen: None)
            for _, row in of_method.iterrows():
                if row["metric"] == EXPLAIN or explained.maps is None:
                    fine = explained.maps is not None
                    yield row, explained.cost.calls if fine else math.nan, explained.reason
                else:
                    metric = metrics[str(row["metric"])]
                    yield (row, *_score(alone, batch, method, explained.maps, metric, guard))


def _score(
    grid: Grid, batch: Any, method: Chosen[Method], maps: Any, metric: Chosen[Metric], guard: Guard
) -> tuple[float, str]:
    outcome = cells.score(grid, batch, method, maps, metric, guard)
    if outcome.scores is None:
        return math.nan, outcome.reason
    return float(outcome.scores.values[0]), outcome.scores.reason


def _text(value: float) -> str:
    return "no value" if math.isnan(value) else f"{value:.6g}"
