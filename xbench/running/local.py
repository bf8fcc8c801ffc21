"""The in-process engine: chunk by chunk, method by method, each finished unit written at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from xbench.clocks import CLOCKS
from xbench.cost import Cost
from xbench.records import Store
from xbench.running.chunks import ChunkRunner, Finished, tasks
from xbench.running.grid import Grid
from xbench.running.maps import MapCache
from xbench.running.timing import Timing


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
    """What a run did: units, failures, model calls that all methods shared, and its times."""

    computed: int = 0
    kept: int = 0
    failed: int = 0
    shared: Cost = field(default_factory=Cost)
    timing: Timing = field(default_factory=Timing)


def execute(
    grid: Grid,
    store: Store,
    cache: MapCache,
    *,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda text: None,
    check: Callable[[], None] = lambda: None,
    settled: Callable[[Store, int], bool] = lambda store, chunks: False,
) -> Tally:
    """Run every unit of the grid that the store does not hold yet.

    Args:
        grid: what to do.
        store: where finished units go, and which ones are there already.
        cache: of the maps.
        progress: told after every unit.
        log: given the traceback of every unexpected error.
        check: called between two units; what it raises ends the run.
        settled: asked with the number of finished chunks before every chunk and at the end; ends
            the run if it says so.

    Raises:
        RunError: the folder cannot be written.
        ModelError: the model gives no finite logits.
    """
    units, done = list(grid.units()), store.units()
    watch = progress or Silent()
    todo = tasks(units, done, store.verdict)
    tally = Tally(kept=sum(unit in done for unit in units))
    watch.start(len(units), tally.kept)
    if todo:
        runner = ChunkRunner(grid, cache)
        for task in todo:
            if settled(store, task.number):
                break
            for finished in runner.results(task):
                keep(finished, store, tally, watch, log)
                check()
        tally.shared = runner.shared
    settled(store, len(grid.chunks()))
    return tally


def keep(
    finished: Finished,
    store: Store,
    tally: Tally,
    progress: Progress,
    log: Callable[[str], None],
) -> None:
    """Write a finished unit, count it, and tell."""
    with CLOCKS.spent("disk"):
        store.write(finished.unit, finished.records, finished.curves)
    tally.timing.add(finished.unit, finished.spent)
    tally.computed += 1
    if finished.status in ("invalid", "error"):
        tally.failed += 1
    if finished.trace:
        log(f"{finished.unit}\n{finished.trace}")
    progress.step(f"{finished.unit.method} {finished.unit.metric}")
