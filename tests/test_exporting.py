"""Exports: files that say what the board says, test reports, trackers (as fakes and for real)."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
import simulated
from report_runs import small_run
from simulated import Planted
from typer.testing import CliRunner

from xbench.cli import app
from xbench.errors import ParameterError, UnsupportedError
from xbench.optional import optional
from xbench.registry import LEADERBOARDS
from xbench.report import tracking
from xbench.report.exporting import FORMATS, export_run
from xbench.report.junit import junit
from xbench.running.session import Run
from xbench.statistics.leaderboard import build_leaderboard

ABOUT = {"model": {"name": "net"}, "dataset": {"name": "photos & more"}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("exported"))


def suites(board: str, **methods: Planted) -> dict[str, dict[str, str]]:
    """The JUnit file of a simulated run: verdict by gate and method."""
    records, manifest = simulated.simulate(methods)
    judged = build_leaderboard(records, manifest, LEADERBOARDS.create(board).value)
    root = ET.fromstring(junit(judged, {**manifest, **ABOUT}))
    found: dict[str, dict[str, str]] = {}
    for suite in root:
        cases = {case.attrib["name"]: (case[0].tag if len(case) else "pass") for case in suite}
        kinds = list(cases.values())
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == kinds.count("failure")
        assert int(suite.attrib["skipped"]) == kinds.count("skipped")
        found[suite.attrib["name"]] = cases
    assert root.attrib["name"].endswith("net on photos & more")
    return found


def test_junit_says_what_the_gates_say() -> None:
    found = suites("overall", sound=Planted(1.0), blind=Planted(1.0, cascade=0.93))
    assert found["cascading_randomization"] == {"sound": "pass", "blind": "failure"}
    assert found["label_randomization"] == {"sound": "skipped", "blind": "skipped"}
    assert found["controls"] == {"sound": "pass", "blind": "pass"}


def test_junit_of_a_board_that_requires_a_gate() -> None:
    records, manifest = simulated.simulate({"a": Planted()}, metrics=simulated.RANKED)
    board = build_leaderboard(records, manifest, LEADERBOARDS.create("audit").value)
    root = ET.fromstring(junit(board, {**manifest, **ABOUT}))
    kinds = {s.attrib["name"]: s[0][0].tag if len(s[0]) else "pass" for s in root}
    assert kinds["class_sensitivity"] == "failure"  # required and not tested
    assert kinds["label_randomization"] == "skipped"


def test_junit_survives_names_that_are_no_xml() -> None:
    name = 'evil"<&>\x00\x1b'
    found = suites("overall", **{name: Planted(1.0)})
    assert list(found["controls"]) == ['evil"<&>��']


@pytest.mark.parametrize("to", ["parquet", "json", "latex", "junit"])
def test_files(run: Run, tmp_path: Path, to: str) -> None:
    path = tmp_path / f"file.{to}"
    told = CliRunner().invoke(app, ["export", str(run.path), "--to", to, "--out", str(path)])
    assert told.exit_code == 0, told.output
    content = path.read_bytes()
    if to == "parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(path), run.records, check_dtype=False)
    elif to == "json":
        rows = json.loads(content)["rows"]
        assert [row["method"] for row in rows] == [row.method for row in run.leaderboard().rows]
    elif to == "latex":
        assert b"input\\_x\\_gradient" in content
    else:
        assert ET.fromstring(content.decode()).tag == "testsuites"


def test_a_board_can_be_chosen(run: Run, tmp_path: Path) -> None:
    path, board = tmp_path / "x.json", LEADERBOARDS.create("faithfulness").value
    export_run(run, "json", out=path, board=board)
    content = json.loads(path.read_text())
    assert content["board"]["name"] == "faithfulness"
    assert {metric["property"] for metric in content["metrics"]} == {"faithfulness"}


def test_what_cannot_be_exported(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="parquet, json, latex, junit, mlflow, wandb"):
        export_run(run, "xlsx")
    with pytest.raises(ParameterError, match="--out"):
        export_run(run, "mlflow", out=tmp_path / "x")
    assert FORMATS == ("parquet", "json", "latex", "junit", "mlflow", "wandb")


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_library_is_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    absent = optional(
        f"{name}_that_is_not_there", f"install it with `pip install 'xbench[{name}]'`"
    )
    monkeypatch.setattr(tracking, f"_{name}", absent)
    with pytest.raises(UnsupportedError, match=rf"pip install 'xbench\[{name}\]'"):
        export_run(run, name)


class FakeMlflow(ModuleType):
    """What is logged, by run."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.runs: dict[str, dict[str, Any]] = {}
        self.open: list[str] = []

    def set_experiment(self, name: str) -> None:
        self.experiment = name

    @contextmanager
    def start_run(self, run_name: str, nested: bool = False) -> Iterator[SimpleNamespace]:
        assert nested == bool(self.open)
        self.open.append(run_name)
        self.runs[run_name] = {"params": {}, "metrics": {}, "tags": {}, "files": []}
        yield SimpleNamespace(info=SimpleNamespace(run_id="0123"))
        self.open.pop()

    def log_params(self, values: dict[str, str]) -> None:
        self.runs[self.open[-1]]["params"] |= values

    def log_metric(self, name: str, value: float) -> None:
        self.log_metrics({name: value})

    def log_metrics(self, values: dict[str, float]) -> None:
        assert all(value == value for value in values.values())
        self.runs[self.open[-1]]["metrics"] |= values

    def set_tags(self, values: dict[str, str]) -> None:
        self.runs[self.open[-1]]["tags"] |= values

    def log_artifact(self, path: str) -> None:
        assert Path(path).is_file()
        self.runs[self.open[-1]]["files"].append(Path(path).name)

    def get_tracking_uri(self) -> str:
        return "here"


def test_mlflow_gets_a_run_and_one_a_method(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    monkeypatch.setattr(tracking, "_mlflow", optional("mlflow"))
    assert export_run(run, "mlflow", project="maps") == "MLflow run 0123 in here"
    board = run.leaderboard()
    assert fake.experiment == "maps"
    assert set(fake.runs) == {"reference on planted", *(row.method for row in board.rows)}
    parent, own = fake.runs["reference on planted"], fake.runs["gradcam"]
    assert parent["params"]["weights"] == run.manifest["model"]["weights"]
    assert "report.html" in parent["files"]
    row = next(row for row in board.rows if row.method == "gradcam")
    assert own["metrics"]["deletion_steps_8_"] == row.cells["deletion[steps=8]"].mean
    assert own["metrics"]["calls"] == row.calls
    assert own["tags"]["gate.cascading_randomization"] == "pass"


class FakeRun:
    def __init__(self, **options: Any) -> None:
        self.options, self.logged, self.summary = options, {}, {}  # type: ignore[var-annotated]
        self.artifact: Any = None
        self.url, self.id, self.finished = None, "abc", False

    def log(self, values: dict[str, Any]) -> None:
        self.logged |= values

    def log_artifact(self, artifact: Any) -> None:
        self.artifact = artifact

    def finish(self) -> None:
        self.finished = True


class FakeArtifact:
    def __init__(self, name: str, type: str) -> None:
        self.name, self.files = name, []  # type: ignore[var-annotated]

    def add_file(self, path: str) -> None:
        self.files.append(Path(path).name)


def test_wandb_gets_a_table_and_the_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("wandb")
    started: list[FakeRun] = []

    def init(**options: Any) -> FakeRun:
        started.append(FakeRun(**options))
        return started[-1]

    fake.init, fake.Artifact = init, FakeArtifact  # type: ignore[attr-defined]
    fake.Table = lambda columns, data: (columns, data)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(tracking, "_wandb", optional("wandb"))
    assert export_run(run, "wandb") == "Weights & Biases run abc"
    (one,) = started
    columns, data = one.logged["leaderboard"]
    assert columns == list(run.leaderboard().frame().columns)
    assert len(data) == 6
    assert one.options["project"] == "xbench"
    assert one.options["config"]["board"] == "overall"
    assert one.summary["gradcam/pointing_game"] == pytest.approx(
        run.leaderboard().frame().set_index("method").loc["gradcam", "pointing_game"]
    )
    assert one.artifact.name == "reference-on-planted"
    assert "report.html" in one.artifact.files
    assert one.finished


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
def test_the_real_mlflow(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones want a database by default
    assert "MLflow run" in export_run(run, "mlflow")
    assert len(list((tmp_path / "runs").rglob("report.html"))) == 1


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_the_real_wandb(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert "Weights & Biases run" in export_run(run, "wandb")
    assert list(tmp_path.rglob("*.wandb"))
