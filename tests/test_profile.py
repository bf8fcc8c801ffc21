"""Where the time of a run went: parts add up, calls are those of the records."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from xbench.cli import app
from xbench.clocks import Clocks
from xbench.records import Unit
from xbench.running.folder import RunFolder
from xbench.running.profile import profile
from xbench.running.session import Settings, run_grid
from xbench.running.timing import Timing, read_timing, write_timing


def test_the_parts_of_a_run_add_up_to_its_time(tmp_path: Path) -> None:
    run = run_grid(
        Settings(
            methods="gradient,occlusion,random",
            metrics="road,deletion,sparseness",
            limit=2,
            batch_size=8,
            out=tmp_path / "run",
        )
    )
    records = run.records
    found = profile(records, read_timing(run.path), cpu=True)
    assert found.measured
    assert sum(found.parts.values()) == pytest.approx(found.wall, rel=0.02)
    assert found.parts["model: forward"] > 0
    assert found.parts["model: backward"] > 0
    assert found.parts["disk"] > 0
    metrics = {row.name: row for row in found.metrics}
    road = metrics["road"]
    assert road.forwards == records[records["metric"] == "road"]["forwards"].sum()
    assert road.seconds == pytest.approx(road.model + road.masks + road.own)
    assert road.masks > 0 == metrics["sparseness"].masks
    methods = {row.name: row for row in found.methods}
    assert methods["gradient"].backwards == 2
    assert methods["random"].forwards == 0
    shown = CliRunner().invoke(app, ["profile", str(run.path), "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)["parts"] == pytest.approx(found.json()["parts"])
    assert CliRunner().invoke(app, ["profile", str(run.path)]).exit_code == 0


def test_records_alone_give_an_estimate() -> None:
    rows = [
        {"method": name, "metric": metric, "forwards": f, "backwards": b, "tails": 0.0}
        for name, metric, f, b in [("a", "explain", 10, 10), ("a", "road", 10, 0)]
    ]
    frame = pd.DataFrame(rows).assign(peak_mb=3.0)
    frame["seconds"] = 0.004 * frame["forwards"] + 0.006 * frame["backwards"]
    found = profile(frame, None, cpu=True)
    assert not found.measured
    assert found.speed == pytest.approx({"forward": 4.0, "backward": 6.0, "tails": 0.0})
    assert found.parts["methods"] == pytest.approx(0.0, abs=1e-9)
    assert found.json()["wall"] is None
    assert found.methods[0].peak_mb == 3.0


def test_sessions_of_a_run_add_up(tmp_path: Path) -> None:
    folder, unit = RunFolder(tmp_path), Unit("a", "", "road", 0)
    for _ in range(2):
        timing = Timing(wall=1.0, disk=0.25)
        timing.add(unit, {"forward": 0.5, "cell": 0.75})
        timing.add(unit, {})
        write_timing(folder, timing)
    found = read_timing(tmp_path)
    assert found is not None
    assert (found.wall, found.disk) == (2.0, 0.5)
    assert found.cells == {("a", "road"): {"units": 2.0, "forward": 1.0, "cell": 1.5}}
    (tmp_path / "timing.json").write_text('{"wall": "much"}')
    assert read_timing(tmp_path) is None


def test_time_inside_is_taken_off_the_time_around() -> None:
    clocks = Clocks()
    before = clocks.read()
    with clocks.spent("masks"):
        clocks.add("forward", 100.0)
    spent = clocks.since(before)
    assert spent["forward"] == 100.0
    assert sum(spent.values()) < 1.0
