"""A new method beside baselines: judged on planted differences, run on a small grid, reused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from simulated import Planted, most_alarms, simulate
from typer.testing import CliRunner, Result

from xbench.cli import app
from xbench.errors import RunError
from xbench.publishing import publish
from xbench.registry import METHODS
from xbench.report.versus import headline, latex_table, lines, markdown_page, paragraph
from xbench.running.session import open_run
from xbench.statistics.comparisons import images_needed
from xbench.statistics.versus import compare_with, detectable

FIELD = {
    "weak": Planted(skill=0.5),
    "twin": Planted(skill=1.5),
    "strong": Planted(skill=3.0, calls=50.0),
}


def against(mine: Planted, images: int = 100, **others: Planted):
    records, manifest = simulate({"mine": mine, **FIELD, **others}, images=images)
    return compare_with(records, manifest, "mine"), manifest


def test_planted_differences_are_found() -> None:
    found, _ = against(Planted(skill=1.5))
    assert found.of("better") == ["weak"]
    assert found.of("worse") == ["strong"]
    assert found.of("open") == ["twin"]
    assert found.verdict == "mixed"
    for metric in {duel.metric for duel in found.metrics}:
        assert "weak" in found.of("better", metric)
        assert "strong" in found.of("worse", metric)


def test_gains_point_the_right_way_for_metrics_where_lower_is_better() -> None:
    found, _ = against(Planted(skill=1.5))
    for duel in found.metrics:
        if duel.baseline == "weak":
            assert duel.gain.value == pytest.approx(1.0, abs=0.4)
            assert duel.gain.low <= duel.gain.value <= duel.gain.high


@pytest.mark.parametrize(
    ("skill", "weak", "verdict"), [(6.0, 0.5, "better"), (0.7, 2.0, "worse"), (1.5, 0.5, "mixed")]
)
def test_the_verdict_in_one_word(skill: float, weak: float, verdict: str) -> None:
    found, _ = against(Planted(skill=skill), weak=Planted(skill=weak))
    assert found.verdict == verdict


@pytest.mark.timeout(900)
@pytest.mark.parametrize("runs", [16, pytest.param(300, marks=pytest.mark.slow)])
def test_equal_methods_are_rarely_called_different(runs: int) -> None:
    wrong = 0
    for seed in range(runs):
        field = {name: Planted(skill=1.0) for name in ("mine", "a", "b", "c")}
        records, manifest = simulate(field, images=20, seed=seed)
        wrong += compare_with(records, manifest, "mine").verdict != "equal"
    assert wrong <= most_alarms(runs)


def test_a_failed_gate_stands_before_every_rank() -> None:
    found, _ = against(Planted(skill=6.0, cascade=0.9))
    assert found.verdict == "refused"
    assert "not to be used: it fails cascading randomization" in headline(found)


def test_missing_values_leave_no_rank_and_say_why() -> None:
    found, _ = against(Planted(skill=6.0, missing=("insertion",)))
    assert found.verdict == "unranked"
    assert "insertion" in headline(found)


def test_correction_is_over_the_family() -> None:
    found, _ = against(Planted(skill=1.5), images=30)
    assert len(found.overall) == 3
    for family in (found.overall, found.metrics):
        smallest = min(family, key=lambda duel: duel.p)
        assert smallest.corrected == pytest.approx(min(1.0, smallest.p * len(family)))


@pytest.mark.parametrize("images", [10, 36, 200])
def test_detectable_is_the_inverse_of_images_needed(images: int) -> None:
    assert images_needed(detectable(images)) == pytest.approx(images, abs=1)


def test_too_few_images_show_nothing() -> None:
    assert math.isinf(detectable(3))
    found, _ = against(Planted(skill=6.0), images=4)
    assert found.verdict == "equal"
    assert any("take more" in line for line in lines(found))


def test_nothing_to_compare_with_is_refused() -> None:
    records, manifest = simulate({"mine": Planted()}, images=10)
    with pytest.raises(RunError, match="no baseline"):
        compare_with(records, manifest, "mine")
    with pytest.raises(RunError, match="holds no method 'other'"):
        compare_with(records, manifest, "other")


def test_texts_hold_every_figure_and_balance() -> None:
    found, manifest = against(Planted(skill=1.5), **{"odd_name[a=1]": Planted(skill=1.0)})
    manifest |= {"model": {"name": "net_1"}, "dataset": {"name": "photos"}}
    manifest |= {"seed": 0, "xbench": "0"}
    text = paragraph(found, manifest)
    for word in ("Wilcoxon", "Holm", "bootstrap", "80 % power", "model calls", "strong", "seed"):
        assert word in text
    table = latex_table(found, manifest)
    assert table.count(r"\begin{tabular}") == table.count(r"\end{tabular}") == 1
    body = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert len({line.replace(r"\&", "").count("&") for line in body}) == 1
    assert r"\textbf{mine}" in table
    assert r"odd\_name" in table
    page = markdown_page(found, manifest)
    assert page.count("| strong |") == 1
    data = json.loads(json.dumps(found.data(), allow_nan=False))
    assert len(data["duels"]) == len(found.overall) + len(found.metrics)


METHOD = '''
def mine_{name}(model, images, targets, steps=2):
    """Gradient times image, averaged on the way from black."""
    total = 0
    for step in range(1, steps + 1):
        point = (images * step / steps).detach().requires_grad_(True)
        model(point).gather(1, targets[:, None]).sum().backward()
        total = total + point.grad
    return (images * total / steps).sum(dim=1)
'''
SMALL = (
    "--baselines", "gradient,gradcam", "--metrics", "deletion,rank_accuracy,class_sensitivity",
    "--limit", "4", "--batch-size", "8", "-q",
)  # fmt: skip


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(autouse=True)
def _registry_as_it_was():
    METHODS.discover()
    before = dict(METHODS._entries)
    yield
    METHODS._entries.clear()
    METHODS._entries.update(before)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison; the file is beside the run folder."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "own.py").write_text(METHOD.format(name="one"), encoding="utf-8")
    result = call("compare", f"{folder / 'own.py'}:mine_one", *SMALL, "--out", folder / "run")
    assert result.exit_code == 0, result.output
    assert "mine_one is not shown to differ" in result.stdout
    assert "For a paper:" in result.stdout
    return folder


def test_a_run_folder_with_the_comparison(first: Path) -> None:
    for name in ("comparison.md", "comparison.tex", "comparison.json", "report.html"):
        assert (first / "run" / name).stat().st_size > 200
    data = json.loads((first / "run" / "comparison.json").read_text())
    assert data["method"] == "mine_one"
    assert data["calls"] == 4  # two forwards and two backwards, as measured
    assert set(data["baselines"]) == {"gradient", "gradcam"}


@pytest.mark.parametrize("published", [False, True])
def test_baselines_are_reused_to_the_last_bit(first: Path, tmp_path: Path, published: bool) -> None:
    (tmp_path / "two.py").write_text(METHOD.format(name="two").replace("steps=2", "steps=3"))
    earlier = publish(open_run(first / "run"), "overall", tmp_path) if published else first / "run"
    spec = f"{tmp_path / 'two.py'}:mine_two"
    result = call("compare", spec, *SMALL, "--reuse", earlier, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert "units of work are taken over" in result.output
    old, new = open_run(first / "run").records, open_run(tmp_path / "run").records
    old, new = (frame[~frame["metric"].str.contains("/")] for frame in (old, new))
    keys = ["image_id", "method", "metric"]
    theirs = old[old["method"].isin(["gradient", "gradcam"])].set_index(keys).sort_index()
    ours = new[new["method"].isin(["gradient", "gradcam"])].set_index(keys).sort_index()
    np.testing.assert_array_equal(ours["value"], theirs["value"])
    np.testing.assert_array_equal(ours["seconds"], theirs["seconds"])  # not measured again
    assert "mine_one" not in set(new["method"])


def test_other_data_or_seed_is_not_reused(first: Path, tmp_path: Path) -> None:
    (tmp_path / "three.py").write_text(METHOD.format(name="three"))
    spec = f"{tmp_path / 'three.py'}:mine_three"
    more = ("--reuse", first / "run", "--out", tmp_path / "run")
    result = call("compare", spec, *SMALL, "--seed", "1", *more)
    assert result.exit_code == 2
    assert "cannot be reused: its" in result.stderr


def test_a_cheat_is_refused_with_what_it_did(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def blind(model, images, targets):\n    return images.mean(dim=1)\n")
    result = call("compare", f"{path}:blind", *SMALL, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "'blind' ignores the model" in result.stdout
    assert "Nothing was run" in result.stdout
    assert not (tmp_path / "run").exists()


def test_forced_cheats_run_and_are_judged(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("def blinder(model, images, targets):\n    return images.mean(dim=1)\n")
    spec = f"{path}:blinder"
    result = call("compare", spec, *SMALL, "--force", "--out", tmp_path / "run", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["gates"]["valid"]["verdict"] == "fail"
