"""The plan says what a run will cost: the calls that the records count."""

from dataclasses import replace
from pathlib import Path

import pytest

from xbench.cost import Cost
from xbench.running import overheads
from xbench.running.plan import ENDING, Plan, make_plan
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
    spent = sum(map(plan.cell_seconds, plan.cells)) + plan.once
    assert plan.total_seconds == pytest.approx(spent + plan.ending)
    assert plan.ending == pytest.approx(ENDING[0] + ENDING[1] * 2 * 6)  # two images, six cells
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


def test_trainings_count_as_calls_over_all_images(tmp_path: Path) -> None:
    settings = Settings(
        methods="gradient,random",
        metrics="roar,roar[repeats=2]",
        training="planted[count=64,split=train]",
        limit=4,
        batch_size=8,
        max_calls=3000,
        out=tmp_path / "run",
    )
    cells = {(cell.method, cell.metric): cell for cell in make_plan(make_grid(settings)).cells}
    share = 64 / 4  # training images for one image of the run
    models = 5 * 12 * share  # shares of pixels, epochs
    assert cells["random", "roar"].cost == Cost(5 + models, models)
    assert cells["gradient", "roar"].cost == Cost(5 + models + share, models + share)
    assert cells["gradient", "roar[repeats=2]"].reason == "3,882 calls are above --max-calls"
    refused = run_grid(replace(settings, max_calls=500)).records
    rows = refused[refused["metric"] == "roar"]
    assert set(rows["status"]) == {"unsupported"}
    assert "--max-calls allows 500" in rows["reason"].iloc[0]


def test_time_counts_every_pair_of_methods_that_runs(monkeypatch) -> None:
    monkeypatch.setattr(overheads, "_pair", lambda *_: 0.5)

    def planned(methods: str) -> Plan:
        return make_plan(make_grid(Settings(methods=methods, metrics="iou", limit=2, batch_size=8)))

    three, two = planned("edges,gradient,random"), planned("edges,gradient,attention_rollout")
    assert (two.pairs["iou"], three.pairs["iou"]) == (0.5, 1.5)
    spent = sum(map(three.cell_seconds, three.cells)) + three.once + three.ending
    assert three.total_seconds == pytest.approx(spent + 2 * three.pairs["iou"])
