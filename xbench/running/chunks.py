"""One chunk of images with every method and metric: a stream of finished units."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from xbench.contracts import Method, Samples, Status
from xbench.cost import Cost
from xbench.models.retrainer import RETRAINING, Retrainer
from xbench.records import Curve, Record, Unit
from xbench.registry import Chosen
from xbench.running import cells
from xbench.running.batches import Batch, read_batch, read_pool
from xbench.running.cells import Outcome
from xbench.running.grid import EXPLAIN, Grid
from xbench.running.guard import Guard
from xbench.running.maps import MapCache
from xbench.running.probe import silent_failure
from xbench.streams import Streams


@dataclass(frozen=True)
class Task:
    """What is to be done of a chunk.

    Attributes:
        number: which chunk.
        missing: units that are not finished.
        failed: explanations that were recorded without maps before: status and reason.
        given_up: units that are recorded as errors with this reason, without trying them.
    """

    number: int
    missing: frozenset[Unit]
    failed: Mapping[Unit, tuple[Status, str]] = field(default_factory=dict)
    given_up: Mapping[Unit, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """A finished unit, ready to be written.

    Attributes:
        unit: which one.
        records, curves: its rows.
        status: of the whole unit.
        trace: the traceback of an unexpected error, for the log.
        spent: seconds by what was done, see `cells.Outcome`.
    """

    unit: Unit
    records: list[Record]
    curves: list[Curve]
    status: Status
    trace: str = ""
    spent: Mapping[str, float] = field(default_factory=dict)


class ChunkRunner:
    """Works on chunks of a grid; keeps what all chunks share.

    Args:
        grid: what to do.
        cache: of the maps.
    """

    def __init__(self, grid: Grid, cache: MapCache) -> None:
        self._grid = grid
        self._cache = cache
        self._guard = Guard(grid.model)
        self._pool: Samples | None = None
        self._pooled = False
        self._probed: dict[str, str | None] = {}
        self._retrainers: dict[str, Retrainer] = {}
        self.shared = Cost()

    def results(self, task: Task) -> Iterator[Finished]:
        """Compute the missing units of a chunk, in their order.

        Raises:
            RunError: the maps cannot be written.
            ModelError: the model gives no finite logits.
            DataError: the images cannot be read.
        """
        if not self._pooled:
            self._pool, self._pooled = read_pool(self._grid), True
        batch = read_batch(self._grid, task.number, self._pool)
        self._cache.save_thumbnails(batch.number, batch.images, batch.ids)
        for unit, outcome in self._outcomes(batch, task):
            if unit in task.missing:
                yield Finished(
                    unit,
                    list(_records(self._grid, batch, unit, outcome)),
                    list(_curves(batch, unit, outcome)),
                    outcome.status,
                    outcome.trace,
                    outcome.spent,
                )
        self.shared = self.shared + batch.bank.spent

    def _outcomes(self, batch: Batch, task: Task) -> Iterator[tuple[Unit, Outcome]]:
        maps: dict[str, Tensor] = {}
        needed = {unit.method for unit in task.missing} | {unit.other for unit in task.missing}
        for method in self._grid.methods:
            if method.label not in needed:
                continue
            unit = Unit(method.label, "", EXPLAIN, batch.number)
            explained = self._explain(batch, unit, method, task)
            yield unit, explained
            if explained.maps is not None:
                maps[method.label] = explained.maps
            yield from self._metrics(batch, method, explained, task)
        yield from self._pairs(batch, maps, task)

    def _explain(self, batch: Batch, unit: Unit, method: Chosen[Method], task: Task) -> Outcome:
        if unit in task.given_up:
            return Outcome("error", task.given_up[unit])
        if unit in task.failed:
            return Outcome(*task.failed[unit])
        return cells.explain(self._grid, batch, method, self._cache, self._guard, self._probe)

    def _metrics(
        self, batch: Batch, method: Chosen[Method], explained: Outcome, task: Task
    ) -> Iterator[tuple[Unit, Outcome]]:
        for metric in self._grid.single:
            unit = Unit(method.label, "", metric.label, batch.number)
            if unit not in task.missing:
                continue
            if unit in task.given_up:
                outcome = Outcome("error", task.given_up[unit])
            elif explained.maps is None:
                outcome = Outcome(explained.status, explained.reason)
            else:
                again = self._retrainer(method) if "retraining" in metric.card.needs else None
                outcome = cells.score(
                    self._grid, batch, method, explained.maps, metric, self._guard, again
                )
            yield unit, outcome

    def _pairs(
        self, batch: Batch, maps: Mapping[str, Tensor], task: Task
    ) -> Iterator[tuple[Unit, Outcome]]:
        for metric in self._grid.pairwise:
            for first, second in self._grid.pairs:
                unit = Unit(first.label, second.label, metric.label, batch.number)
                if unit not in task.missing:
                    continue
                absent = [m.label for m in (first, second) if m.label not in maps]
                if unit in task.given_up:
                    outcome = Outcome("error", task.given_up[unit])
                elif absent:
                    outcome = Outcome("unsupported", f"There are no maps of {absent[0]}.")
                else:
                    a, b = maps[first.label], maps[second.label]
                    outcome = cells.compare(self._grid, batch, a, b, metric)
                yield unit, outcome

    def _probe(self, method: Chosen[Method]) -> str | None:
        """What is silently wrong with a method on this model; looked at once a run."""
        if method.label not in self._probed:
            self._probed[method.label] = silent_failure(self._grid, method)
        return self._probed[method.label]

    def _retrainer(self, method: Chosen[Method]) -> Retrainer | None:
        """The method's way to train the model anew, kept for all chunks."""
        source = self._grid.training
        if source is None:
            return None
        if method.label not in self._retrainers:
            samples = source.read(range(len(source)))
            streams = Streams(self._grid.seed, list(samples.ids), method.identity)
            self._retrainers[method.label] = Retrainer(
                self._grid.model, method.value, samples.images, samples.labels, streams, RETRAINING
            )
        return self._retrainers[method.label]


def tasks(
    units: Collection[Unit],
    done: Collection[Unit],
    verdict: Callable[[Unit], tuple[Status, str]],
) -> list[Task]:
    """What is left of every chunk, in order.

    Args:
        units: all units of the grid.
        done: those that are finished.
        verdict: status and reason of a finished unit.
    """
    missing: dict[int, set[Unit]] = {}
    failed: dict[int, dict[Unit, tuple[Status, str]]] = {}
    for unit in units:
        if unit not in done:
            missing.setdefault(unit.chunk, set()).add(unit)
        elif unit.metric == EXPLAIN and (found := verdict(unit))[0] != "ok":
            failed.setdefault(unit.chunk, {})[unit] = found
    return [
        Task(number, frozenset(left), failed.get(number, {}))
        for number, left in sorted(missing.items())
    ]


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
