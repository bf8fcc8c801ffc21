"""The plan says what a run will cost: the calls that the records count."""

from pathlib import Path

import pytest

from xbench.cost import Cost
from xbench.running.plan import make_plan
from xbench.running.session import Settings, make_grid, run_grid


def test_time_counts_imputers_own_arithmetic_and_looks_at_methods() -> None:
    plan = make_plan(
        make_grid(
            Settings(methods="edges,gradient", metrics="road,deletion", limit=2, batch_size=8)
        )
    )
    cells = {(cell.method, cell.metric): cell for cell in plan.cells}
    assert cells["gradient", "road"].own > 0 == cells["gradient", "deletion"].own
    assert plan.once >= plan.seconds(Cost(6, 4))
    assert plan.total_seconds == pytest.approx(sum(map(plan.cell_seconds, plan.cells)) + plan.once)
    assert plan.total_seconds > plan.seconds(plan.cost)


@pytest.mark.parametrize(
    "metrics", ["default", "relative*,*lipschitz,jpeg*,selectivity,infidelity"]
)
def test_planned_calls_are_those_of_the_records(metrics: str, tmp_path: Path) -> None:
    settings = Settings(
        methods="edges,gradient,gradcam",
        metrics=metrics,
        limit=2,
        batch_size=8,
        out=tmp_path / "run",
    )
    plan = make_plan(make_grid(settings))
    records = run_grid(settings).records
    planned = {(cell.method, cell.metric): cell.cost * plan.images for cell in plan.cells}
    spent = records.groupby(["method", "metric"])[["forwards", "backwards"]].sum()
    paid = {"edges"}  # the first method pays for what all share; the records charge it to nobody
    for (method, metric), cost in planned.items():
        if method not in paid:
            found = spent.loc[(method, metric)]
            assert (found.forwards, found.backwards) == (cost.forwards, cost.backwards), metric
