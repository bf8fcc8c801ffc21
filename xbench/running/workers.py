"""Many workers on one run: each takes chunks and streams units back; only this process writes."""

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from xbench.errors import RunError
from xbench.records import Store, Unit
from xbench.running.chunks import Finished, Task, tasks
from xbench.running.grid import EXPLAIN, Grid
from xbench.running.local import Progress, Silent, Tally, keep
from xbench.running.maps import MapCache

DEATHS = 3  # workers that a unit may cost before it is an error; once given up, one a chunk
_PATIENCE = 0.2  # seconds between two looks at signals


class LostError(RunError):
    """A worker is gone (killed, crashed, out of reach); its task is tried again."""


@dataclass(frozen=True)
class Shipped:
    """A file that a worker without access to the run folder made for its maps."""

    name: str
    content: bytes


Message = Finished | Shipped


class Worker(Protocol):
    """Somebody who works on chunks, in another process or on another machine."""

    name: str

    def results(self, task: Task) -> Iterator[Message]:
        """Work on a chunk; a lost worker is started again by the next call.

        Raises:
            LostError: the worker died.
            RunError: it cannot work at all; the run ends.
        """

    def close(self) -> None:
        """End the worker, also in the middle of a task."""


def execute_on(
    workers: Sequence[Worker],
    grid: Grid,
    store: Store,
    cache: MapCache,
    *,
    progress: Progress | None = None,
    log: Callable[[str], None] = lambda text: None,
    check: Callable[[], None] = lambda: None,
) -> Tally:
    """Like `local.execute`, with the chunks spread over workers.

    A worker that is lost costs its unit in flight; a unit that costs three workers is recorded as
    an error. When `check` or anything else ends the run, the workers' units in flight are dropped.

    Args:
        workers: who works.
        grid, store, cache, progress, log, check: as in `local.execute`.

    Raises:
        RunError: the folder cannot be written, or a worker cannot work.
    """
    units, done = list(grid.units()), store.units()
    watch = progress or Silent()
    tally = Tally(kept=sum(unit in done for unit in units))
    watch.start(len(units), tally.kept)
    board = _Board(tasks(units, done, store.verdict), units)
    messages: queue.Queue[tuple[Task, Message | Exception | None]] = queue.Queue()
    for worker in workers:
        threading.Thread(target=_serve, args=(worker, board, messages), daemon=True).start()
    try:
        while board.open:
            check()
            try:
                task, message = messages.get(timeout=_PATIENCE)
            except queue.Empty:
                continue
            match message:
                case Finished():
                    keep(message, store, tally, watch, log)
                    board.finished(message)
                case Shipped():
                    cache.accept(message.name, message.content)
                case LostError():
                    log(f"{message} Chunk {task.number} is tried again.")
                    board.lost(task.number, str(message))
                case None:
                    board.done(task.number)
                case _:
                    raise message
    finally:
        board.close()
        for worker in workers:
            worker.close()
    return tally


def _serve(
    worker: Worker,
    board: "_Board",
    messages: "queue.Queue[tuple[Task, Message | Exception | None]]",
) -> None:
    """Take chunks for a worker until there are none; runs in a thread that only waits."""
    while (task := board.take()) is not None:
        try:
            for message in worker.results(task):
                messages.put((task, message))
            messages.put((task, None))
        except Exception as error:  # handed to the thread that writes
            messages.put((task, error))


class _Board:
    """Which chunks wait, and what is left of each.

    Args:
        waiting: tasks in order.
        units: all units of the grid in order.
    """

    def __init__(self, waiting: Sequence[Task], units: Sequence[Unit]) -> None:
        self._left = {task.number: task for task in waiting}
        self._waiting = deque(task.number for task in waiting)
        self._order = {unit: place for place, unit in enumerate(units)}
        self._deaths: Counter[Unit] = Counter()
        self._deadly: set[tuple[str, str, str]] = set()  # given up on some chunk
        self._change = threading.Condition()
        self._closed = False

    @property
    def open(self) -> bool:
        """Whether anything is left to do."""
        with self._change:
            return bool(self._left)

    def take(self) -> Task | None:
        """The next chunk; waits while others may still give one back."""
        with self._change:
            while self._left and not self._waiting and not self._closed:
                self._change.wait()
            if self._closed or not self._waiting:
                return None
            return self._left[self._waiting.popleft()]

    def finished(self, result: Finished) -> None:
        """One unit less."""
        with self._change:
            task, unit = self._left[result.unit.chunk], result.unit
            failed = dict(task.failed)
            if unit.metric == EXPLAIN and result.status != "ok":
                failed[unit] = (result.status, result.records[0].reason)
            self._left[task.number] = replace(task, missing=task.missing - {unit}, failed=failed)

    def done(self, number: int) -> None:
        """A chunk is complete."""
        with self._change:
            del self._left[number]
            self._change.notify_all()

    def lost(self, number: int, reason: str) -> None:
        """A worker died over a chunk: it waits again, at the front."""
        with self._change:
            task = self._left[number]
            if task.missing:
                unit = min(task.missing, key=self._order.__getitem__)
                self._deaths[unit] += 1
                cell = (unit.method, unit.other, unit.metric)
                if self._deaths[unit] >= (1 if cell in self._deadly else DEATHS):
                    self._deadly.add(cell)
                    said = f"{self._deaths[unit]} workers were lost over it; the last one: {reason}"
                    self._left[number] = replace(task, given_up={**task.given_up, unit: said})
            self._waiting.appendleft(number)
            self._change.notify_all()

    def close(self) -> None:
        """Nobody gets a chunk any more."""
        with self._change:
            self._closed = True
            self._change.notify_all()
