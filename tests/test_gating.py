"""The guard: it passes what did not change, and fails what lost a gate, its lead or its place."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from simulated import Planted, most_alarms, simulate
from typer.testing import CliRunner, Result

from xbench.cli import app
from xbench.errors import RunError
from xbench.gating import junit, summary
from xbench.registry import LEADERBOARDS
from xbench.statistics.regression import Guarded, Snapshot, hold_against

BEFORE = {"good": Planted(skill=2.0), "other": Planted(skill=1.0)}


def held(before: dict, after: dict, *, images: int = 60, **more) -> Guarded:
    board = LEADERBOARDS.create("overall").value
    old = Snapshot(*simulate(before, images=images))
    new = Snapshot(*simulate(after, images=images, seed=more.pop("seed", 0)))
    return hold_against(old, new, board, **more)


def failed(found: Guarded) -> list[str]:
    return [check.name for check in found.checks if not check.passed]


def test_the_same_run_passes_every_check() -> None:
    found = held(BEFORE, BEFORE)
    assert found.method == "good"
    assert found.passed
    assert "may still be trusted" in found.reason


@pytest.mark.timeout(900)
@pytest.mark.parametrize("runs", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_retraining_without_harm_passes(runs: int) -> None:
    seeds = range(1, runs + 1)
    alarms = sum(not held(BEFORE, BEFORE, images=30, seed=seed).passed for seed in seeds)
    assert alarms <= most_alarms(runs)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_lead_that_is_gone_is_seldom_missed() -> None:
    after = {**BEFORE, "good": Planted(skill=2.0, by_metric={"rank_accuracy": 0.8})}
    missed = sum(held(BEFORE, after, images=60, seed=seed).passed for seed in range(1, 101))
    assert missed <= 5


def test_a_lost_gate_is_the_reason() -> None:
    found = held(BEFORE, {**BEFORE, "good": Planted(skill=2.0, cascade=0.9)})
    assert failed(found)[0] == "gate cascading_randomization"
    assert "pass" in found.reason
    assert "fail" in found.reason


def test_a_lost_lead_is_named_with_its_figures() -> None:
    worse = Planted(skill=2.0, by_metric={"rank_accuracy": 0.3})
    found = held(BEFORE, {**BEFORE, "good": worse})
    assert failed(found) == ["rank_accuracy"]
    assert "the lead over the random control was" in found.reason


def test_a_small_loss_is_within_the_margin() -> None:
    slightly = Planted(skill=2.0, by_metric={"rank_accuracy": 1.7})
    assert held(BEFORE, {**BEFORE, "good": slightly}, images=400).passed
    strict = held(BEFORE, {**BEFORE, "good": slightly}, images=400, margin=0.02)
    assert failed(strict) == ["rank_accuracy"]


def test_another_method_that_overtakes_is_told() -> None:
    found = held(BEFORE, {**BEFORE, "other": Planted(skill=4.0)})
    assert failed(found) == ["standing"]
    assert "other is now shown to be better" in found.reason


def test_a_method_that_is_gone_fails() -> None:
    found = held(BEFORE, {"other": Planted(skill=1.0)})
    assert failed(found) == ["measured"]


def test_a_method_can_be_named_and_what_cannot_be_compared_is_refused() -> None:
    assert held(BEFORE, BEFORE, method="other").method == "other"
    with pytest.raises(RunError, match="holds no method 'nobody'"):
        held(BEFORE, BEFORE, method="nobody")
    with pytest.raises(RunError, match="images in common"):
        held(BEFORE, BEFORE, images=3)
    bad = {"bad": Planted(skill=1.0, cascade=0.9)}
    with pytest.raises(RunError, match="recommends no method"):
        held(bad, bad)


def test_junit_and_summary_hold_every_check() -> None:
    found = held(BEFORE, {**BEFORE, "good": Planted(skill=2.0, cascade=0.9)})
    suite = ElementTree.fromstring(junit(found)).find("testsuite")
    assert suite is not None
    assert len(suite.findall("testcase")) == len(found.checks) == int(suite.get("tests", "0"))
    assert len(suite.findall("testcase/failure")) == int(suite.get("failures", "0")) >= 1
    text = summary(found)
    assert text.startswith("# xbench gate: failed")
    assert text.count("\n| ") == len(found.checks) + 1


RUN = (
    "run", "--methods", "gradcam,gradient,random,random_smooth,center_prior,edges,intensity,oracle",
    "--metrics", "deletion,insertion,rank_accuracy,pointing_game,class_sensitivity",
    "--limit", "12", "--batch-size", "16", "-q",
)  # fmt: skip


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: the reference classifier, the same again, and the one that took a shortcut."""
    folder = tmp_path_factory.mktemp("gate")
    for name, model in (
        ("before", "reference"),
        ("same", "reference"),
        ("shortcut", "reference-shortcut"),
    ):
        result = call(*RUN, "--model", model, "--out", folder / name)
        assert result.exit_code == 0, result.output
    return folder


def test_the_unchanged_reference_passes(runs: Path, tmp_path: Path) -> None:
    result = call("gate", "--baseline", runs / "before", runs / "same", "--method", "gradcam")
    assert result.exit_code == 0, result.output
    assert "may still be trusted" in result.stdout


def test_the_shortcut_is_caught_with_one_reason(runs: Path, tmp_path: Path) -> None:
    result = call(
        "gate", "--baseline", runs / "before", runs / "shortcut", "--method", "gradcam",
        "--junit", tmp_path / "junit.xml", "--summary", tmp_path / "summary.md",
    )  # fmt: skip
    assert result.exit_code == 1, result.output
    assert len(result.stdout.strip().splitlines()) == 1
    assert "may no longer be trusted" in result.stdout
    assert "<failure" in (tmp_path / "junit.xml").read_text()
    assert "**lost**" in (tmp_path / "summary.md").read_text()


def test_a_published_board_is_a_baseline(runs: Path, tmp_path: Path) -> None:
    result = call("publish", runs / "before", "--into", tmp_path)
    assert result.exit_code == 0, result.output
    result = call(
        "gate", "--baseline", tmp_path / "overall", runs / "shortcut", "--method", "gradcam",
        "--json",
    )  # fmt: skip
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False


def test_wrong_use_is_a_sentence(runs: Path, tmp_path: Path) -> None:
    result = call("gate", "--baseline", tmp_path, runs / "same")
    assert result.exit_code == 2
    assert "is no run folder" in result.stderr
    result = call("gate", "--baseline", runs / "before", runs / "same", "--margin", "2")
    assert result.exit_code == 2
