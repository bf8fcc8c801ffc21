"""The plan: cells, model calls, time and disk, before anything runs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median

import torch

from xbench.classifier import Classifier
from xbench.contracts import Method, Metric
from xbench.cost import Cost
from xbench.registry import Chosen
from xbench.running.costs import cell_cost
from xbench.running.grid import EXPLAIN, Grid
from xbench.running.overheads import Overheads, measure, probe_cost, residual_cost, timed
from xbench.running.probe import IMAGES

SAMPLE, ROUNDS = 4, 7
ENDING = (6.0, 1.2e-4)
"""Seconds of a run's start, tables and report: in any case, and a row (measured on two cores)."""


@dataclass(frozen=True)
class PlannedCell:
    """One method with one metric ("explain" for the map itself), per image.

    Attributes:
        method, metric: labels.
        cost: model calls an image.
        reason: why the cell will be refused, None if it runs.
        own: seconds an image beside model calls, as far as they were measured.
    """

    method: str
    metric: str
    cost: Cost
    reason: str | None = None
    own: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a grid will cost.

    Attributes:
        cells: every method x metric.
        images: how many images.
        forward_seconds, backward_seconds: measured time of one image.
        disk_mb: size of the maps.
        tail_seconds: measured time of one pass of the network's tail.
        once: seconds that do not grow with the images: every method is looked at before it runs.
        pairs: seconds an image of comparing all pairs of methods, by the pairwise metric.
        ending: seconds of the start, the tables and the report.
    """

    cells: list[PlannedCell]
    images: int
    forward_seconds: float
    backward_seconds: float
    disk_mb: float
    tail_seconds: float = 0.0
    once: float = 0.0
    pairs: Mapping[str, float] = field(default_factory=dict)
    ending: float = 0.0

    @property
    def cost(self) -> Cost:
        """Model calls of the whole run."""
        total = Cost()
        for cell in self.cells:
            total = total + cell.cost
        return total * self.images

    def seconds(self, cost: Cost) -> float:
        """The time that so many calls take at the measured speed."""
        return (
            cost.forwards * self.forward_seconds
            + cost.backwards * self.backward_seconds
            + cost.tails * self.tail_seconds
        )

    def cell_seconds(self, cell: PlannedCell) -> float:
        """The time of a cell over all images."""
        return (self.seconds(cell.cost) + cell.own) * self.images

    @property
    def total_seconds(self) -> float:
        """The time of the whole run."""
        pairs = sum(self.pairs.values()) * self.images
        return sum(map(self.cell_seconds, self.cells)) + pairs + self.once + self.ending


def make_plan(grid: Grid) -> Plan:
    """Cells, calls, time and disk of a grid.

    It takes a few seconds to measure the model, its tail, the imputers and the quick methods.
    """
    images = len(grid.source)
    sample = grid.source.read(range(min(SAMPLE, images))).images.to(grid.model.device)
    facts = grid.model.facts(sample.shape)
    cells: list[PlannedCell] = []
    paid: set[str] = set()
    for method in grid.methods:
        reason = method.value.supports(grid.model)
        own = method.value.cost(facts) if reason is None else Cost()
        if grid.max_map_calls is not None and own.calls > grid.max_map_calls:
            reason, own = f"{own.calls:,.0f} calls are above --max-map-calls", Cost()
        cells.append(PlannedCell(method.label, EXPLAIN, own, reason))
        for metric in grid.single:
            cell = _planned(grid, method, metric, reason, facts)
            if (
                cell.reason is None and metric.label in paid
            ):  # the first method paid for what is shared
                shared = min(metric.value.shared(facts), cell.cost.forwards)
                cell = replace(cell, cost=cell.cost - Cost(shared))
            elif cell.reason is None:
                paid.add(metric.label)
            cells.append(cell)
    maps = len(grid.methods) * images * sample.shape[2] * sample.shape[3] * 4
    calls = Plan(cells, images, *speed(grid.model, sample), maps / 2**20)
    return _timed(calls, grid, facts, measure(grid, sample, calls.seconds))


def _timed(plan: Plan, grid: Grid, facts: Mapping[str, object], found: Overheads) -> Plan:
    """The plan with what is no model call: own arithmetic, imputers, looks at methods."""
    methods = {method.label: method.value for method in grid.methods}
    metrics = {metric.label: metric.value for metric in grid.single}
    plan = replace(plan, tail_seconds=found.tail)
    cells, once = [], 0.0
    for cell in plan.cells:
        own, method = found.methods.get(cell.method, 0.0), methods[cell.method]
        if cell.reason is not None:
            own = 0.0
        elif cell.metric in metrics:
            metric = metrics[cell.metric]
            imputer = found.imputers.get(str(getattr(metric, "imputer", "")), 0.0)
            own = own * metric.explains(facts) + imputer * metric.cost(facts).forwards
        else:
            looks = probe_cost(method, cell.cost, plan.images)
            if looks.calls:
                once += plan.seconds(looks) + own * 2 * min(IMAGES, plan.images)
            own += plan.seconds(residual_cost(method))
        cells.append(replace(cell, own=own))
    run = {cell.method for cell in cells if cell.metric == EXPLAIN and cell.reason is None}
    count = math.comb(len(run), 2)
    pairs = {label: seconds * count for label, seconds in found.pairs.items()}
    rows = plan.images * (sum(cell.reason is None for cell in cells) + len(pairs) * count)
    ending = ENDING[0] + ENDING[1] * rows
    return replace(plan, cells=cells, once=once, pairs=pairs, ending=ending)


def _planned(
    grid: Grid,
    method: Chosen[Method],
    metric: Chosen[Metric],
    reason: str | None,
    facts: Mapping[str, object],
) -> PlannedCell:
    if reason is not None:
        return PlannedCell(method.label, metric.label, Cost(), reason)
    cost = cell_cost(grid, method.value, metric.value, facts)
    if grid.max_calls is not None and cost.calls > grid.max_calls:
        return PlannedCell(
            method.label, metric.label, Cost(), f"{cost.calls:,.0f} calls are above --max-calls"
        )
    return PlannedCell(method.label, metric.label, cost)


def speed(model: Classifier, sample: torch.Tensor) -> tuple[float, float]:
    """Seconds of one image forward, and of the backward alone, at the best batch size.

    Both take turns and the median counts, so that a slow moment of the machine tells on neither.
    """
    with model.counter.paused():
        rows = {kind: _batch(model, sample, kind) for kind in ("forward", "backward")}
        targets = torch.zeros(len(rows["backward"]), dtype=torch.int64, device=model.device)
        steps: dict[str, Callable[[], object]] = {
            "forward": lambda: model.logits(rows["forward"]),
            "backward": lambda: model.gradients(rows["backward"], targets),
        }
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        for _ in range(ROUNDS):
            for kind, step in steps.items():
                times[kind].append(timed(model, step) / len(rows[kind]))
    forward, both = median(times["forward"]), median(times["backward"])
    return forward, max(both - forward, 0.0)


def _batch(model: Classifier, sample: torch.Tensor, kind: str) -> torch.Tensor:
    return sample[:1].expand(model.size(kind, sample), *sample.shape[1:])
