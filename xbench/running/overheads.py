"""What a run costs beside calls of the model, measured in a few seconds before it is planned."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Complete, Method, PairMetric, TruthMethod
from xbench.cost import Cost
from xbench.operations.imputers import SOLVED, make_imputer
from xbench.registry import Chosen
from xbench.running.cases import bind
from xbench.running.grid import Grid
from xbench.running.probe import IMAGES, MOST_CALLS
from xbench.streams import Streams

BUDGET = 6.0  # seconds for all methods together
_SHARES = (0.1, 0.5, 0.9)
_TAILS = 64


@dataclass(frozen=True)
class Overheads:
    """Seconds beside forward and backward passes.

    Attributes:
        tail: of one pass of the network's tail.
        imputers: of one row, by the name of the imputer.
        methods: of one map, by label; only of methods that were quick enough to be tried.
        pairs: of one image and pair of methods, by the label of the pairwise metric.
    """

    tail: float = 0.0
    imputers: dict[str, float] = field(default_factory=dict)
    methods: dict[str, float] = field(default_factory=dict)
    pairs: dict[str, float] = field(default_factory=dict)


def measure(grid: Grid, sample: Tensor, seconds: Callable[[Cost], float]) -> Overheads:
    """Try the tail, the imputers that solve equations, and every quick method.

    Args:
        grid: what will run.
        sample: a few images of it, (n, C, H, W), on the device.
        seconds: the time that calls take, without tails.
    """
    names = {str(getattr(metric.value, "imputer", "")) for metric in grid.single}
    with grid.model.counter.paused(), torch.random.fork_rng(devices=[]):
        tail = _tail(grid.model, sample)
        return Overheads(
            tail,
            {name: _imputer(name, sample) for name in sorted(names & set(SOLVED))},
            _methods(grid, sample, lambda cost: seconds(cost) + cost.tails * tail),
            {metric.label: _pair(metric.value, grid, sample) for metric in grid.pairwise},
        )


def timed(model: Classifier, work: Callable[[], object]) -> float:
    """Seconds of a piece of work, the device waited for."""
    start = time.perf_counter()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - start


def _tail(model: Classifier, sample: Tensor) -> float:
    """Seconds of one row through what follows the last convolution; 0 where there is no tail."""
    if not model.facts(sample.shape)["tail"]:
        return 0.0
    layer = model.layer("last_conv", sample)

    def rows(count: int) -> float:
        owner = torch.zeros(count, dtype=torch.int64, device=model.device)
        return timed(
            model, lambda: model.tail_rows(layer, sample[:1], owner, lambda index, raw: raw)
        )

    rows(_TAILS)
    return max(rows(3 * _TAILS) - rows(_TAILS), 0.0) / (2 * _TAILS)


def _imputer(name: str, sample: Tensor) -> float:
    """Seconds of one row, over holes of several sizes: half of each a block, half at random."""
    height, width = sample.shape[-2:]
    generator = torch.Generator().manual_seed(0)
    holes = []
    for share in _SHARES:
        holes.append(torch.rand(height, width, generator=generator) < share)
        block = torch.zeros(height, width, dtype=torch.bool)
        block[: max(1, round(share**0.5 * height)), : max(1, round(share**0.5 * width))] = True
        holes.append(block)
    drop = torch.stack(holes)[:, None].to(sample.device)
    imputer = make_imputer(name, sample[:1], mean=None, streams=Streams(0, ["0"], "plan"))
    owner = torch.zeros(len(drop), dtype=torch.int64, device=sample.device)
    start = time.perf_counter()
    imputer(owner, drop).sum().item()  # waits for the device
    return (time.perf_counter() - start) / len(drop)


def _pair(metric: PairMetric, grid: Grid, sample: Tensor) -> float:
    """Seconds of comparing two maps of one image, in chunks as large as the run's."""
    count, (height, width) = min(grid.chunk, len(grid.source)), sample.shape[-2:]
    streams = Streams(grid.seed, [str(i) for i in range(count)], "plan")
    first, second = (streams.scoped(name).normal((height, width)) for name in ("a", "b"))
    first, second = first.to(sample.device), second.to(sample.device)
    metric.compare(first, second, streams=streams)
    return timed(grid.model, lambda: metric.compare(first, second, streams=streams)) / count


def _methods(grid: Grid, sample: Tensor, seconds: Callable[[Cost], float]) -> dict[str, float]:
    """Seconds of one map beside its calls, of the quickest methods first, while the time lasts."""
    facts = grid.model.facts(sample.shape)
    targets = grid.model.logits(sample).argmax(dim=1)
    known = [
        (seconds(method.value.cost(facts)), method)
        for method in grid.methods
        if not isinstance(method.value, TruthMethod) and method.value.supports(grid.model) is None
    ]
    found: dict[str, float] = {}
    until = time.perf_counter() + BUDGET
    for expected, method in sorted(known, key=lambda pair: pair[0]):
        if time.perf_counter() + 2 * expected * len(sample) > until:
            break
        spent = _explain(grid, sample, targets, method)
        found[method.label] = max(spent / len(sample) - expected, 0.0)
    return found


def _explain(grid: Grid, sample: Tensor, targets: Tensor, method: Chosen[Method]) -> float:
    """Seconds of explaining the sample, the second time; 0 where the method fails."""
    streams = Streams(grid.seed, [str(i) for i in range(len(sample))], method.identity)
    explain = bind(method.value, grid.model, sample, targets, streams)
    try:
        explain(sample)
        return timed(grid.model, lambda: explain(sample))
    except Exception:  # the run will say what is wrong, with the cell
        return 0.0


def probe_cost(method: Method, cost: Cost, images: int) -> Cost:
    """What looking for silent failures costs in calls, once a run; see `running.probe`."""
    if method.card.control or isinstance(method, TruthMethod):
        return Cost()
    count = min(IMAGES, images)
    return Cost() if cost.calls * 2 * count > MOST_CALLS else cost * (2 * count) + Cost(count)


def residual_cost(method: Method) -> Cost:
    """Calls an image that the completeness of a map costs, which no record counts."""
    return Cost(2) if isinstance(method, Complete) else Cost()
