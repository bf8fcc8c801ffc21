"""The whole grid against its cells run alone, in model calls, counted and not computed."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from xbench.contracts import Method, Metric
from xbench.registry import Chosen
from xbench.running import cells
from xbench.running.batches import Batch, SharedBank, read_batch, read_pool
from xbench.running.cells import Outcome
from xbench.running.chunks import ChunkRunner, tasks
from xbench.running.grid import EXPLAIN, Grid
from xbench.running.guard import Guard
from xbench.running.making import Settings, make_grid
from xbench.running.maps import MapCache

MAX_CALLS = 1000


@dataclass
class Shared:
    """What sharing saves.

    Attributes:
        methods, metrics, images: size of the grid; methods that are refused are left out.
        together: calls of the whole grid, of all images.
        alone: calls of its cells, each run alone: its map, its metric, and everything shared.
        by_metric: calls together and alone of the cells of each metric, maps aside.
        cells: cells that were compared.
        differing: cells whose values are not the same to the last bit, with the difference.
    """

    methods: int = 0
    metrics: int = 0
    images: int = 0
    together: float = 0.0
    alone: float = 0.0
    by_metric: dict[str, list[float]] = field(default_factory=dict)
    cells: int = 0
    differing: dict[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Together / alone."""
        return self.together / self.alone


def measure(methods: str = "all", metrics: str = "default", scenes: int = 2) -> Shared:
    """Run a grid on the embedded suite, then each of its cells alone.

    A cell alone pays for its map, for its metric and for all that the bank would have held; the
    map itself is taken from the grid (it is the same), with the calls that it cost there.
    """
    settings = Settings(
        methods=methods,
        metrics=metrics,
        limit=scenes,
        chunk=scenes,
        device="cpu",
        batch_size=32,
        max_calls=MAX_CALLS,
        max_map_calls=MAX_CALLS,
    )
    grid = make_grid(settings)
    found = Shared(metrics=len(grid.single), images=scenes)
    with tempfile.TemporaryDirectory() as folder:
        cache = MapCache(Path(folder))
        values = _together(grid, cache, found)
        batch, guard = read_batch(grid, 0, read_pool(grid)), Guard(grid.model)
        for method in grid.methods:
            known = cells.explain(grid, batch, method, cache, guard, lambda _: None)
            if known.maps is None or (method.label, EXPLAIN) not in values:
                continue
            found.methods += 1
            for metric, outcome, spent in _alone(grid, batch, method, known, guard):
                expected = values.get((method.label, metric.label))
                if expected is None or outcome.scores is None:
                    continue
                found.alone += spent + known.cost.calls * scenes
                found.by_metric.setdefault(metric.label, [0.0, 0.0])[1] += spent
                _compare(found, f"{method.label} x {metric.label}", outcome.scores.values, expected)
    return found


def _together(grid: Grid, cache: MapCache, found: Shared) -> dict[tuple[str, str], Tensor]:
    """Run the grid; values an image by method and metric, of cells that ran."""
    runner = ChunkRunner(grid, cache)
    values: dict[tuple[str, str], Tensor] = {}
    units = [unit for unit in grid.units() if not unit.other]
    for task in tasks(units, [], lambda unit: ("ok", "")):
        for finished in runner.results(task):
            calls = sum(record.forwards + record.backwards for record in finished.records)
            found.together += calls
            unit = finished.unit
            if unit.metric != EXPLAIN:
                found.by_metric.setdefault(unit.metric, [0.0, 0.0])[0] += calls
            if finished.status == "ok":
                main = [r.value for r in finished.records if r.metric == unit.metric]
                numbers = [float("nan") if value is None else value for value in main]
                values[unit.method, unit.metric] = torch.tensor(numbers, dtype=torch.float64)
    found.together += runner.shared.calls
    return values


def _alone(
    grid: Grid, batch: Batch, method: Chosen[Method], known: Outcome, guard: Guard
) -> Iterator[tuple[Chosen[Metric], Outcome, float]]:
    """Each metric on a bank of its own, with its calls of all images."""
    assert known.maps is not None
    for metric in grid.single:
        fresh = replace(batch, bank=SharedBank(grid.model.counter))
        outcome = cells.score(grid, fresh, method, known.maps, metric, guard)
        yield metric, outcome, outcome.cost.calls * len(batch) + fresh.bank.spent.calls


def _compare(found: Shared, cell: str, values: Tensor, expected: Tensor) -> None:
    found.cells += 1
    ours = torch.where(values.isfinite(), values, torch.nan).double()
    if not torch.equal(ours.isnan(), expected.isnan()):
        found.differing[cell] = float("inf")
    elif not torch.equal(ours.nan_to_num(), expected.nan_to_num()):
        found.differing[cell] = float((ours - expected).abs().nan_to_num().max())
