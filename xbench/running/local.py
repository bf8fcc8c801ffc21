"""The in-process runner: chunk by chunk, method by method, each finished unit written at once."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from xbench.contracts import Method
from xbench.cost import Cost
from xbench.models.fitting import Fit
from xbench.models.retrainer import Retrainer
from xbench.records import Curve, Record, Store, Unit
from xbench.registry import Chosen
from xbench.running import cells
from xbench.running.batches import Batch, read_batch, read_pool
from xbench.running.cells import Outcome
from xbench.running.grid import EXPLAIN, Grid
from xbench.running.guard import Guard
from xbench.running.maps import MapCache
from xbench.running.probe import silent_failure
from xbench.streams import Streams

RETRAINING = Fit(epochs=12)


class Progress(Protocol):
    """Who wants to know how far a run is."""

    def start(self, total: int, done: int) -> None:
        """Called once: units in all, and units that were finished before."""

    def step(self, what: str) -> None:
        """Called after every unit."""


class Silent:
    """Progress that nobody watches."""

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, what: str) -> None:
        """Nothing."""


@dataclass
class Tally:
    """What a run did: units, failures, and model calls that all methods shared."""

    computed: int = 0
    kept: int = 0
    failed: int = 0
    shared: Cost = field(default_factory=Cost)


def execute(
    grid: Grid,
    store: Store,
    cache: MapCache,
    *,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda text: None,
    check: Callable[[], None] = lambda: None,
) -> Tally:
    """Run every unit of the grid that the store does not hold yet.

    Args:
        grid: what to do.
        store: where finished units go, and which ones are there already.
        cache: of the maps.
        progress: told after every unit.
        log: given the traceback of every unexpected error.
        check: called between two units; what it raises ends the run.

    Raises:
        RunError: the folder cannot be written.
        ModelError: the model gives no finite logits.
    """
    runner = _Runner(grid, store, cache, progress or Silent(), log, check)
    runner.run()
    return runner.tally


@dataclass
class _Runner:
    grid: Grid
    store: Store
    cache: MapCache
    progress: Progress
    log: Callable[[str], None]
    check: Callable[[], None]
    tally: Tally = field(default_factory=Tally)
    probed: dict[str, str | None] = field(default_factory=dict)
    retrainers: dict[str, Retrainer] = field(default_factory=dict)

    def run(self) -> None:
        done = self.store.units()
        units = list(self.grid.units())
        todo = [unit for unit in units if unit not in done]
        self.tally.kept = len(units) - len(todo)
        self.progress.start(len(units), self.tally.kept)
        guard = Guard(self.grid.model)
        pool = read_pool(self.grid) if todo else None
        for number in sorted({unit.chunk for unit in todo}):
            missing = {unit for unit in todo if unit.chunk == number}
            batch = read_batch(self.grid, number, pool)
            self.cache.save_thumbnails(number, batch.images, batch.ids)
            self._chunk(batch, missing, guard)
            self.tally.shared = self.tally.shared + batch.bank.spent

    def _chunk(self, batch: Batch, missing: set[Unit], guard: Guard) -> None:
        maps: dict[str, Tensor] = {}
        needed = {unit.method for unit in missing} | {unit.other for unit in missing}
        for method in self.grid.methods:
            if method.label not in needed:
                continue
            unit = Unit(method.label, "", EXPLAIN, batch.number)
            explained = self._failed_before(unit, missing) or cells.explain(
                self.grid, batch, method, self.cache, guard, self._probe
            )
            self._write(batch, unit, explained, missing)
            if explained.maps is not None:
                maps[method.label] = explained.maps
            self._metrics(batch, method, explained, missing, guard)
        for metric in self.grid.pairwise:
            for first, second in self.grid.pairs:
                unit = Unit(first.label, second.label, metric.label, batch.number)
                if unit not in missing:
                    continue
                absent = [m.label for m in (first, second) if m.label not in maps]
                if absent:
                    outcome = Outcome("unsupported", f"There are no maps of {absent[0]}.")
                else:
                    a, b = maps[first.label], maps[second.label]
                    outcome = cells.compare(self.grid, batch, a, b, metric)
                self._write(batch, unit, outcome, missing)

    def _metrics(
        self,
        batch: Batch,
        method: Chosen[Method],
        explained: Outcome,
        missing: set[Unit],
        guard: Guard,
    ) -> None:
        for metric in self.grid.single:
            unit = Unit(method.label, "", metric.label, batch.number)
            if unit not in missing:
                continue
            if explained.maps is None:
                outcome = Outcome(explained.status, explained.reason)
            else:
                again = self._retrainer(method) if "retraining" in metric.card.needs else None
                maps = explained.maps
                outcome = cells.score(self.grid, batch, method, maps, metric, guard, again)
            self._write(batch, unit, outcome, missing)

    def _failed_before(self, unit: Unit, missing: set[Unit]) -> Outcome | None:
        """What an earlier process recorded of an explanation that gave no maps: final as well."""
        if unit in missing:
            return None
        status, reason = self.store.verdict(unit)
        return None if status == "ok" else Outcome(status, reason)

    def _probe(self, method: Chosen[Method]) -> str | None:
        """What is silently wrong with a method on this model; looked at once a run."""
        if method.label not in self.probed:
            self.probed[method.label] = silent_failure(self.grid, method)
        return self.probed[method.label]

    def _retrainer(self, method: Chosen[Method]) -> Retrainer | None:
        """The method's way to train the model anew, kept for all chunks."""
        source = self.grid.training
        if source is None:
            return None
        if method.label not in self.retrainers:
            samples = source.read(range(len(source)))
            streams = Streams(self.grid.seed, list(samples.ids), method.identity)
            self.retrainers[method.label] = Retrainer(
                self.grid.model, method.value, samples.images, samples.labels, streams, RETRAINING
            )
        return self.retrainers[method.label]

    def _write(self, batch: Batch, unit: Unit, outcome: Outcome, missing: set[Unit]) -> None:
        if unit not in missing:
            return
        records = list(_records(self.grid, batch, unit, outcome))
        self.store.write(unit, records, _curves(batch, unit, outcome))
        self.tally.computed += 1
        if outcome.status in ("invalid", "error"):
            self.tally.failed += 1
        if outcome.trace:
            self.log(f"{unit}\n{outcome.trace}")
        self.progress.step(f"{unit.method} {unit.metric}")
        self.check()


def _series(unit: Unit, outcome: Outcome, size: int) -> dict[str, list[float]]:
    if outcome.scores is not None:
        details = outcome.scores.details.items()
        further = {f"{unit.metric}/{name}": values.tolist() for name, values in details}
        return {unit.metric: outcome.scores.values.tolist(), **further}
    value = outcome.cost.calls if outcome.maps is not None else float("nan")
    further = {f"{unit.metric}/{name}": found.tolist() for name, found in outcome.details.items()}
    return {unit.metric: [value] * size, **further}


def _records(grid: Grid, batch: Batch, unit: Unit, outcome: Outcome) -> Iterator[Record]:
    reason = outcome.reason
    if outcome.scores is not None:
        reason = outcome.scores.reason or "The metric is not defined on this map."
    for metric, values in _series(unit, outcome, len(batch)).items():
        share = 1.0 if metric == unit.metric else 0.0  # the cost stands in the main row alone
        for i, value in enumerate(values):
            fine = outcome.status == "ok" and math.isfinite(value)
            yield Record(
                task=grid.source.name,
                image_id=batch.ids[i],
                target=int(batch.targets[i]),
                model=grid.model_id,
                method=unit.method,
                other=unit.other,
                metric=metric,
                repetition=unit.repetition,
                value=value if fine else None,
                status="undefined" if outcome.status == "ok" and not fine else outcome.status,
                reason="" if fine else _why(unit, metric, reason, outcome, i),
                forwards=outcome.cost.forwards * share,
                backwards=outcome.cost.backwards * share,
                tails=outcome.cost.tails * share,
                seconds=outcome.seconds * share,
                peak_mb=outcome.peak_mb * share,
                label=int(batch.labels[i]),
                predicted=int(batch.predicted[i]),
                confidence=float(batch.confidence[i]),
                chunk=batch.number,
            )


def _why(unit: Unit, metric: str, reason: str, outcome: Outcome, image: int) -> str:
    """Why a value is missing; that of a detail may be while the metric's own is there."""
    scores = outcome.scores
    if metric == unit.metric or scores is None or not bool(scores.defined[image]):
        return reason
    return f"{metric} has no value on this image, though {unit.metric} has one."


def _curves(batch: Batch, unit: Unit, outcome: Outcome) -> Iterator[Curve]:
    if outcome.scores is None:
        return
    for name, values in outcome.scores.curves.items():
        for image_id, points in zip(batch.ids, values.tolist(), strict=True):
            yield Curve(image_id, unit.method, unit.metric, unit.repetition, name, points)
