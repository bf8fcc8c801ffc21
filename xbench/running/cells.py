"""One cell: explain a chunk with one method, score its maps with one metric; never aborts."""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from xbench.classifier.batching import is_out_of_memory
from xbench.clocks import CLOCKS
from xbench.contracts import (
    Case,
    Complete,
    Explain,
    Method,
    Metric,
    PairMetric,
    Retraining,
    Scores,
    Status,
    TruthMethod,
    check_maps,
)
from xbench.cost import Cost
from xbench.errors import InvalidMapError, RunError, UnsupportedError, XbenchError
from xbench.registry import Chosen
from xbench.running.batches import Batch
from xbench.running.cases import bind
from xbench.running.costs import cell_cost
from xbench.running.deadline import within
from xbench.running.grid import Grid
from xbench.running.guard import Guard
from xbench.running.maps import MapCache, decode, encode, map_key
from xbench.running.spare import free, on_cpu

Work = Callable[[Grid, Batch], dict[str, Any]]
"""A cell's work on some device; the fields of its outcome by name."""

_NEEDS = {
    "truth": ("truth", "The data has no masks of what counts."),
    "twin": ("twin", "There is no twin trained on permuted labels; see `xbench train twin`."),
    "pool": ("pool", "There is no pool of images that the model is sure of."),
    "retraining": ("retraining", "There is no way to train this model anew in a run."),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        status: "ok", or why there is nothing.
        reason: a sentence where it is not ok.
        cost: model calls an image.
        seconds: wall-clock time an image.
        peak_mb: peak device memory.
        trace: the traceback of an error, for the log.
        maps: of an explanation.
        details: further values of an explanation by name, one an image.
        scores: of a metric.
        spent: seconds of the whole chunk by what was done, `cell` for all of it; empty where the
            maps were known.
    """

    status: Status
    reason: str = ""
    cost: Cost = field(default_factory=Cost)
    seconds: float = 0.0
    peak_mb: float = 0.0
    trace: str = ""
    maps: Tensor | None = None
    details: Mapping[str, Tensor] = field(default_factory=dict)
    scores: Scores | None = None
    spent: Mapping[str, float] = field(default_factory=dict)


def explain(
    grid: Grid,
    batch: Batch,
    method: Chosen[Method],
    cache: MapCache,
    guard: Guard,
    probe: Callable[[Chosen[Method]], str | None],
) -> Outcome:
    """The maps of one method on a chunk, from the cache where they are known.

    `probe` says what is silently wrong with the method on this model, see `running.probe`.
    """
    model = grid.model
    tensors = [batch.images, batch.targets]
    if isinstance(method.value, TruthMethod) and batch.truth is not None:
        tensors.append(batch.truth)
    weights = model.weights_hash + grid.reading.text
    key = map_key(method, weights, tensors, batch.ids, grid.seed)

    def work(grid: Grid, batch: Batch) -> dict[str, Any]:
        reason = _refusal(method.value, grid, batch)
        if reason is not None:
            raise UnsupportedError(reason)
        _within(method.value.cost(batch.facts), grid.max_map_calls, "--max-map-calls")
        failure = probe(method)
        if failure is not None:
            raise InvalidMapError(f"The method {failure}.")
        found = _bound(method.value, grid, batch, method.identity)(batch.images)
        maps = check_maps(found, batch.images, f"The method '{method.label}'")
        return {"maps": maps.to(model.device)}

    known = cache.load(key, model.device)
    if known is not None:
        outcome = Outcome("ok", maps=known[0], **_noted(known[1]))
        return _with_residual(grid, batch, method, outcome)
    outcome = _attempt(grid, batch, work)
    harm = guard.harm()
    if harm:
        outcome = _blamed(outcome, f"The method {harm}.")
    if outcome.maps is None:
        return outcome
    about = {"label": method.label, "method": method.identity, "chunk": str(batch.number)}
    cache.save(key, outcome.maps, {**about, **_note(outcome)})
    outcome = replace(outcome, maps=decode(*encode(outcome.maps)))
    return _with_residual(grid, batch, method, outcome)


def _note(outcome: Outcome) -> dict[str, str]:
    cost = outcome.cost
    values = (cost.forwards, cost.backwards, cost.tails, outcome.seconds, outcome.peak_mb)
    return {"cost": json.dumps(values)}


def _noted(about: dict[str, str]) -> dict[str, Any]:
    forwards, backwards, tails, seconds, peak = json.loads(about["cost"])
    return {"cost": Cost(forwards, backwards, tails), "seconds": seconds, "peak_mb": peak}


def score(
    grid: Grid,
    batch: Batch,
    method: Chosen[Method],
    maps: Tensor,
    metric: Chosen[Metric],
    guard: Guard,
    retraining: Retraining | None = None,
) -> Outcome:
    """The scores of one metric on one method's maps."""

    def work(grid: Grid, batch: Batch) -> dict[str, Any]:
        case = _case(grid, batch, method, maps.to(grid.model.device), retraining)
        for need in metric.card.needs:
            if need in _NEEDS and getattr(case, _NEEDS[need][0]) is None:
                raise UnsupportedError(_NEEDS[need][1])
        reason = metric.value.supports(case)
        if reason is not None:
            raise UnsupportedError(reason)
        cost = cell_cost(grid, method.value, metric.value, batch.facts)
        _within(cost, grid.max_calls, "--max-calls")
        return {"scores": metric.value.score(case, streams=batch.streams.scoped(metric.identity))}

    outcome = _attempt(grid, batch, work)
    harm = guard.harm()
    return _blamed(outcome, f"The metric {harm}.") if harm else outcome


def _blamed(outcome: Outcome, harm: str) -> Outcome:
    """What is left of a cell that harmed the model; an error of its own comes first."""
    if outcome.status == "error":
        return replace(outcome, reason=f"{outcome.reason} {harm}")
    return replace(outcome, status="invalid", reason=harm, maps=None, scores=None)


def _case(
    grid: Grid, batch: Batch, method: Chosen[Method], maps: Tensor, retraining: Retraining | None
) -> Case:
    return Case(
        model=grid.model,
        images=batch.images,
        targets=batch.targets,
        maps=maps,
        explain=_bound(method.value, grid, batch, method.identity),
        image_ids=batch.ids,
        truth=batch.truth,
        truth_defined=batch.truth_defined,
        labels=batch.labels,
        twin=grid.twin,
        method=method.value,
        bank=batch.bank,
        extras=batch.extras,
        pool=batch.pool,
        retraining=retraining,
    )


def compare(
    grid: Grid, batch: Batch, first: Tensor, second: Tensor, metric: Chosen[PairMetric]
) -> Outcome:
    """The scores of one pairwise metric."""
    streams = batch.streams.scoped(metric.identity)
    return _attempt(
        grid,
        batch,
        lambda grid, batch: {"scores": metric.value.compare(first, second, streams=streams)},
    )


def _refusal(method: Method, grid: Grid, batch: Batch) -> str | None:
    if "truth" in method.card.needs and batch.truth is None:
        return _NEEDS["truth"][1]
    return method.supports(grid.model)


def _within(cost: Cost, limit: int | None, option: str) -> None:
    """Refuse a cell above its limit of model calls."""
    if limit is not None and cost.calls > limit:
        raise UnsupportedError(
            f"It needs {cost.calls:,.0f} model calls an image; {option} allows {limit:,}."
        )


def _bound(method: Method, grid: Grid, batch: Batch, scope: str) -> Explain:
    streams = batch.streams.scoped(scope)
    return bind(method, grid.model, batch.images, batch.targets, streams, batch.truth, grid.reading)


def _with_residual(grid: Grid, batch: Batch, method: Chosen[Method], outcome: Outcome) -> Outcome:
    """How far complete methods are from what they promise; its model calls are not counted."""
    if not isinstance(method.value, Complete) or grid.reading.text or outcome.maps is None:
        return outcome  # a map that is read in another way keeps no promise
    value, maps = method.value, outcome.maps
    streams = batch.streams.scoped(method.identity)

    def work(grid: Grid, batch: Batch) -> dict[str, Any]:
        with grid.model.counter.paused():
            found = value.residual(
                grid.model, batch.images, batch.targets, maps.to(grid.model.device), streams=streams
            )
        return {"details": {"residual": found}}

    found = _attempt(grid, batch, work)
    if found.status == "ok":
        return replace(outcome, details=found.details)
    unknown = torch.full((len(batch),), float("nan"))
    reason = f"The residual is not known. {found.reason}"
    return replace(outcome, details={"residual": unknown}, reason=reason, trace=found.trace)


def _attempt(grid: Grid, batch: Batch, work: Work) -> Outcome:
    """Do the work, count it, and turn every exception but a broken run folder into a status."""
    device, counter = grid.model.device, grid.model.counter
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before, spent, start = counter.read(), CLOCKS.read(), time.perf_counter()
    status: Status = "ok"
    reason = trace = ""
    result: dict[str, Any] = {}
    try:
        result = within(grid.cell_seconds, lambda: _or_on_cpu(grid, batch, work))
    except RunError:
        raise
    except UnsupportedError as error:
        status, reason = "unsupported", str(error)
    except InvalidMapError as error:
        status, reason = "invalid", str(error)
    except XbenchError as error:
        status, reason = "error", str(error)
    except Exception as error:
        first = str(error).strip().splitlines()
        status = "error"
        reason = f"{type(error).__name__}: {first[0][:300] if first else 'no message'}"
        trace = traceback.format_exc()
    peak = 0.0
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    whole = time.perf_counter() - start
    cost = (counter.read() - before) * (1 / len(batch))
    seconds = whole / len(batch)
    parts = {**CLOCKS.since(spent), "cell": whole}
    return Outcome(status, reason, cost, seconds, peak, trace, spent=parts, **result)


def _or_on_cpu(grid: Grid, batch: Batch, work: Work) -> dict[str, Any]:
    """The work, on the CPU where the device has no memory for it and there is a spare grid."""
    try:
        return work(grid, batch)
    except (RuntimeError, MemoryError) as error:
        if grid.spare is None or not is_out_of_memory(error):
            raise
    free(grid.model.device)
    return work(grid.spare, on_cpu(batch))
