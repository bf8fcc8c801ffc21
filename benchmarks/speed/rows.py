"""Rows of the table: what is timed against what, and how it went."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench import LAYER, Bench
from heap import usual_memory

from xbench.cost import Cost


@dataclass(frozen=True)
class Work:
    """One row, ready to run.

    Attributes:
        ours: our side.
        what: what both sides do, in words.
        peer: the other side, timed; None for a row against the limit only.
        agree: what the results of the two sides say of each other; given ours and the peer's.
        same: the other side with our draws, run once for the agreement; default `peer`.
        layer: behind which tails begin.
        tuned: whether the peer is timed with our choices of memory, too; not where it takes long.
    """

    ours: Callable[[], Any]
    what: str
    peer: Callable[[], Any] | None = None
    agree: Callable[[Any, Any], str] | None = None
    same: Callable[[], Any] | None = None
    layer: str = LAYER
    tuned: bool = True


@dataclass(frozen=True)
class Row:
    """A row and its goal.

    Attributes:
        name: of the row.
        goal: ours / limit at most, or peer / ours at least; None where none is set.
        kind: "limit" or "peer".
        prepare: makes the work.
    """

    name: str
    goal: float | None
    kind: str
    prepare: Callable[[Bench], Work]


@dataclass
class Outcome:
    """How a row went.

    Attributes:
        row: which one.
        what: what was done.
        cost: our model calls.
        seconds: of "ours", "limit", "peer" as its user runs it, and "tuned", the peer with the
            network in the faster order in memory and freed memory kept; one a round.
        agreement: of the numbers.
        failure: why there is nothing.
    """

    row: Row
    what: str = ""
    cost: Cost = field(default_factory=Cost)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    agreement: str = ""
    failure: str = ""

    def middle(self, who: str) -> float | None:
        """Median seconds of one side, None where it was not timed."""
        return median(self.seconds[who]) if self.seconds.get(who) else None

    @property
    def over_limit(self) -> float | None:
        """Ours / limit."""
        return _ratio(self.middle("ours"), self.middle("limit"))

    @property
    def faster(self) -> float | None:
        """Peer / ours."""
        return _ratio(self.middle("peer"), self.middle("ours"))

    @property
    def faster_than_tuned(self) -> float | None:
        """Peer with our choices of memory / ours."""
        return _ratio(self.middle("tuned"), self.middle("ours"))

    @property
    def holds(self) -> bool | None:
        """Whether the goal is reached; None where there is none or nothing was measured."""
        goal, found = self.row.goal, self.over_limit if self.row.kind == "limit" else self.faster
        if goal is None or found is None:
            return None
        return found <= goal if self.row.kind == "limit" else found >= goal


class Skipped(Exception):
    """A row that cannot be run here, with the reason."""


ROWS: list[Row] = []


def limit_row(name: str, goal: float | None) -> Callable[[Callable[[Bench], Work]], None]:
    """Enter a row against the limit."""

    def enter(prepare: Callable[[Bench], Work]) -> None:
        ROWS.append(Row(name, goal, "limit", prepare))

    return enter


def peer_row(name: str, goal: float) -> Callable[[Callable[[Bench], Work]], None]:
    """Enter a row against a peer."""

    def enter(prepare: Callable[[Bench], Work]) -> None:
        ROWS.append(Row(name, goal, "peer", prepare))

    return enter


def run_row(row: Row, bench: Bench, rounds: int) -> Outcome:
    """Time a row; whatever fails becomes its reason."""
    outcome = Outcome(row)
    try:
        _run(outcome, bench, rounds)
    except Skipped as reason:
        outcome.failure = str(reason)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0]
        outcome.failure = f"{type(error).__name__}: {first[:200]}"
    return outcome


def _run(outcome: Outcome, bench: Bench, rounds: int) -> None:
    work = outcome.row.prepare(bench)
    outcome.what = work.what
    found, outcome.cost = bench.counted(work.ours)  # also the warm-up
    sides: dict[str, Callable[[], float]] = {
        "ours": lambda: bench.timed(work.ours),
        "limit": lambda: bench.calls.limit(outcome.cost, work.layer),
    }
    if work.peer is not None:
        peer = work.peer
        theirs = (work.same or peer)()
        outcome.agreement = work.agree(found, theirs) if work.agree else ""
        if work.tuned:
            sides["tuned"] = lambda: bench.timed(peer)
        sides["peer"] = _as_its_user_runs_it(outcome.row, bench)
    outcome.seconds = {side: [] for side in sides}
    order = list(sides)
    for turn in range(rounds):
        shift = turn % len(order)
        for side in order[shift:] + order[:shift]:
            outcome.seconds[side].append(sides[side]())


def _as_its_user_runs_it(row: Row, bench: Bench) -> Callable[[], float]:
    """The peer with the network as it was loaded and memory as in any Python program."""
    with bench.as_loaded():
        peer = row.prepare(bench).peer
    assert peer is not None

    def timed() -> float:
        with bench.as_loaded(), usual_memory():
            return bench.timed(peer)

    return timed


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below
