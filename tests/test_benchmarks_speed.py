"""The harness of `make bench`: medians, goals, failures, sharing counted, memory flat."""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks" / "speed"))

import memory
import page
import sharing
from rows import Outcome, Row, Skipped, Work, run_row

from xbench.cost import Cost
from xbench.registry import METHODS, METRICS


class FakeCalls:
    def limit(self, cost, layer):
        return cost.forwards * 0.5 + cost.tails * (0.25 if layer == "here" else 9.0)


class FakeBench:
    """A clock that tells what the work returns."""

    calls = FakeCalls()
    loaded = False

    @contextmanager
    def as_loaded(self):
        self.loaded = True
        yield
        self.loaded = False

    def counted(self, work):
        return work(), Cost(forwards=4, tails=8)

    def timed(self, work):
        return work()


def outcome_of(prepare, goal, kind):
    return run_row(Row("a row", goal, kind, prepare), FakeBench(), rounds=5)


def test_a_row_is_the_median_of_its_rounds_in_turns() -> None:
    order = []

    def side(name, seconds):
        found = iter(seconds)

        def work():
            order.append(name)
            return next(found)

        return work

    ours, tuned = side("ours", [9, 1, 2, 3, 4, 100]), side("tuned", [9, 6, 6, 7, 6, 6])
    loaded = side("loaded", [1, 9, 9, 9, 20])

    def prepare(bench):
        peer = loaded if bench.loaded else tuned
        return Work(ours, "w", peer, lambda a, b: f"{a} and {b}", layer="here")

    found = outcome_of(prepare, 3.0, "peer")
    sides = ("ours", "limit", "tuned", "peer")
    assert tuple(map(found.middle, sides)) == (3, 4.0, 6, 9)
    assert (found.over_limit, found.faster_than_tuned, found.faster) == (0.75, 2.0, 3.0)
    assert found.holds is True  # the goal is of the peer as its user runs it
    assert found.agreement == "9 and 9"
    # nobody always comes first
    assert order[2:8] == ["ours", "tuned", "loaded", "tuned", "loaded", "ours"]


@pytest.mark.parametrize(
    ("kind", "goal", "holds"),
    [("limit", 2.0, False), ("limit", 2.5, True), ("peer", 2.0, None), ("limit", None, None)],
)
def test_a_goal_bounds_the_limit_from_above(kind, goal, holds) -> None:
    found = Outcome(Row("r", goal, kind, lambda _: None), seconds={"ours": [5], "limit": [2, 2]})
    assert found.holds is holds
    assert ("goal missed" in page.missed([found])) == (holds is False)


def test_a_row_that_fails_says_why_and_ends_nothing() -> None:
    def broken(_):
        raise ValueError("no such layer\nat all")

    def skipped(_):
        raise Skipped("There is no such library.")

    assert outcome_of(broken, 1.15, "limit").failure == "ValueError: no such layer"
    found = outcome_of(skipped, 1.5, "peer")
    assert found.failure == "There is no such library."
    text = page.peers([found]) + page.missed([found])
    assert text.count("There is no such library.") == 2
    assert found.holds is None


def test_sharing_counts_every_call_and_changes_no_value() -> None:
    methods, metrics = ("gradient", "intensity"), ("deletion", "max_sensitivity", "road")
    found = sharing.measure(",".join(methods), ",".join(metrics), scenes=2)
    facts = {"height": 64, "width": 64, "classes": 8}
    alone = together = 0.0
    for metric in (METRICS.create(name).value for name in metrics):
        shared = metric.shared(facts)
        together += shared
        for method in (METHODS.create(name).value for name in methods):
            own = method.cost(facts).calls
            cell = metric.cost(facts).calls + metric.explains(facts) * own
            alone += own + cell
            together += cell - shared
    together += sum(METHODS.create(name).value.cost(facts).calls for name in methods)
    assert found.alone == 2 * alone
    assert found.cells == 6
    assert not found.differing
    # the clean image is one call for deletion and for max sensitivity alike
    assert 2 * together - 2 * 2 <= found.together <= 2 * together
    assert found.ratio < 1


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images() -> None:
    found = memory.measure(40, 400)
    assert found.few_mb > 100
    assert found.ratio < 1.3
