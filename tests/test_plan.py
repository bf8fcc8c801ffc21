"""The plan says what a run will cost: the calls that the records count."""

from pathlib import Path

import pytest

from xbench.running.plan import make_plan
from xbench.running.session import Settings, make_grid, run_grid


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
