"""Published boards: small, whole, replaced at once, and checked by running cells again."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from report_runs import changed, copied, small_run
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import xbench.publishing
from xbench.cli import app
from xbench.errors import ParameterError, RunError, UnknownNameError
from xbench.models.reference import WEIGHTS
from xbench.publishing import board_cells, open_published, publish
from xbench.running.session import Run
from xbench.statistics.boards import boards_of
from xbench.verifying import Check, Verification, verify

FILES = {
    "manifest.json",
    "cells.parquet",
    "leaderboard.csv",
    "leaderboard.md",
    "leaderboard.json",
    "page.html",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def published(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(run, "overall", tmp_path_factory.mktemp("boards"))


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "overall"))


def tamper(folder: Path, change: Any, *, key: str = "") -> None:
    """Change the cells (and sign them) or one entry of the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    if key:
        change(manifest[key])
    else:
        cells = pd.read_parquet(folder / "cells.parquet")
        change(cells)
        cells.to_parquet(folder / "cells.parquet", index=False)
        content = (folder / "cells.parquet").read_bytes()
        manifest["published"]["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_published_board_is_small_and_whole(run: Run, published: Path) -> None:
    assert {path.name for path in published.iterdir()} == FILES
    assert sum(path.stat().st_size for path in published.iterdir()) < 700_000
    manifest = open_published(published).manifest
    assert manifest["model"]["weights"] == run.manifest["model"]["weights"]
    assert manifest["dataset"]["digest"] == run.manifest["dataset"]["digest"]
    assert manifest["metrics"] == run.manifest["metrics"]
    assert "curves" not in (published / "page.html").read_text().partition("<main>")[0].lower()


def test_the_cells_alone_give_the_board_of_the_run(run: Run, published: Path) -> None:
    ours, theirs = open_published(published).leaderboard(), run.leaderboard()
    pd.testing.assert_frame_equal(ours.frame(), theirs.frame())
    assert repr(ours.gates) == repr(theirs.gates)  # NaN is not equal to itself
    assert repr(ours.ranking.comparisons) == repr(theirs.ranking.comparisons)


@pytest.mark.parametrize("name", ["faithfulness", "sanity", "localization", "agreement", "general"])
def test_every_kind_of_board_can_be_published(run: Run, tmp_path: Path, name: str) -> None:
    target = publish(run, name, tmp_path)
    board = open_published(target)
    judged = run.leaderboard(next(b for b in boards_of(run.manifest) if b.card.name == name))
    pd.testing.assert_frame_equal(board.leaderboard().frame(), judged.frame())
    page = (target / "page.html").read_text()
    assert ("What to use" in page) == (board.board.card.kind == "ranks")


def test_publishing_again_replaces_and_gives_the_same_bytes(run: Run, copy: Path) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    (copy / "stray").write_text("x")
    assert publish(run, "overall", copy.parent) == copy
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["overall"]


def test_a_failure_leaves_what_was_there(
    run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in copy.iterdir()}

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xbench.publishing, "_write_tables", full)
    with pytest.raises(RunError, match="No space left on device"):
        publish(run, "overall", copy.parent)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == ["overall"]


def test_other_folders_are_never_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "overall").mkdir()
    (tmp_path / "overall" / "thesis.tex").write_text("mine")
    with pytest.raises(RunError, match="no published board"):
        publish(run, "overall", tmp_path)
    assert (tmp_path / "overall" / "thesis.tex").read_text() == "mine"
    assert publish(run, "overall", tmp_path, name="embedded").name == "embedded"
    for bad in ("../up", "", ".hidden", "a/b"):
        with pytest.raises(ParameterError):
            publish(run, "overall", tmp_path, name=bad or " ")


def test_an_unfinished_run_and_an_unknown_board_are_refused(run: Run, tmp_path: Path) -> None:
    def more(manifest: dict[str, Any]) -> None:
        manifest["dataset"]["images"] = 9

    with pytest.raises(RunError, match="not finished"):
        publish(changed(run, tmp_path / "run", more), "overall", tmp_path)
    with pytest.raises(UnknownNameError, match="overall"):
        publish(run, "overal", tmp_path)


def test_a_board_younger_than_the_run_is_kept_with_it(run: Run, tmp_path: Path) -> None:
    def forget(manifest: dict[str, Any]) -> None:
        manifest["boards"] = [b for b in manifest["boards"] if b["card"]["name"] != "robustness"]

    old = changed(run, tmp_path / "run", forget)
    assert open_published(publish(old, "robustness", tmp_path)).board.card.name == "robustness"


def test_many_pairs_stay_in_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, records = run.manifest, run.records
    board = next(b for b in boards_of(manifest) if b.card.name == "overall")
    cells, left_out = board_cells(records, manifest, board)
    assert left_out == []
    assert set(cells["metric"]) >= {"iou", "cascading_randomization/after_logits", "explain"}
    monkeypatch.setattr(xbench.publishing, "PAIRS", 10)
    fewer, left_out = board_cells(records, manifest, board)
    assert "iou" not in set(fewer["metric"])
    assert left_out[0].startswith("iou: 120 rows of pairs")


def test_a_published_board_holds(published: Path) -> None:
    found = verify(published, sample=25, seed=3)
    assert found.different == ()
    assert len(found.checks) == 25
    assert len({check.method for check in found.checks}) >= 4
    assert found.sentence.startswith("25 of 25 cells hold, drawn from 240;")
    assert 0.1 < found.at_most < 0.12  # 1 - 0.05 ** (1 / 25)


def test_the_draw_depends_on_the_seed_alone(published: Path) -> None:
    runs = [verify(published, sample=4, seed=seed).checks for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_changed_cell_is_found_and_told(copy: Path) -> None:
    def lie(cells: pd.DataFrame) -> None:
        own = (cells["metric"] == "deletion[steps=8]") & (cells["method"] == "gradcam")
        cells.loc[own, "value"] += 0.5

    tamper(copy, lie)
    found = verify(copy, sample=240)
    assert {(c.method, c.metric) for c in found.different} == {("gradcam", "deletion[steps=8]")}
    assert len(found.different) == 8
    sentence = found.different[0].sentence
    assert "gradcam, deletion[steps=8], image" in sentence
    assert "published" in sentence
    assert ", now " in sentence


def test_cells_that_were_edited_are_no_published_cells(copy: Path) -> None:
    cells = pd.read_parquet(copy / "cells.parquet")
    cells["value"] = 1.0
    cells.to_parquet(copy / "cells.parquet", index=False)
    with pytest.raises(RunError, match="not the file that was published"):
        verify(copy)


def test_other_weights_and_other_data_are_refused(copy: Path, tmp_path: Path) -> None:
    state = load_file(WEIGHTS / "reference.safetensors")
    name = next(iter(state))
    state[name] = torch.zeros_like(state[name])
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(RunError, match=r"published with the weights .* Give the same file"):
        verify(copy, changed={"weights": tmp_path / "other.safetensors"})
    with pytest.raises(RunError, match=r"published on the data .* \(8 images\)"):
        verify(copy, changed={"limit": 7})


def test_a_model_that_was_an_object_has_to_be_named(copy: Path) -> None:
    tamper(copy, lambda settings: settings.update(model=None), key="settings")
    with pytest.raises(ParameterError, match="--model"):
        verify(copy)
    assert verify(copy, sample=1, changed={"model": "reference"}).different == ()


def test_the_commands_and_their_exit_codes(run: Run, copy: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    told = runner.invoke(app, ["publish", str(run.path), "--into", str(tmp_path / "boards")])
    assert told.exit_code == 0, told.output
    board = str(tmp_path / "boards" / "overall")
    assert runner.invoke(app, ["verify", board, "--sample", "2"]).exit_code == 0

    def lie(cells: pd.DataFrame) -> None:
        cells["value"] += 1.0

    tamper(copy, lie)
    wrong = runner.invoke(app, ["verify", str(copy), "--sample", "3", "--json"])
    assert wrong.exit_code == 1
    tamper(copy, lambda data: data.update(digest="another"), key="dataset")
    refused = runner.invoke(app, ["verify", str(copy), "--sample", "2"])
    assert refused.exit_code == 2
    assert runner.invoke(app, ["verify", str(run.path)]).exit_code == 2


def test_what_holds_and_what_does_not() -> None:
    nan = float("nan")
    assert Check("m", "k", "i", 1.0, 1.009, 0.01).holds
    assert not Check("m", "k", "i", 1.0, 1.02, 0.01).holds
    assert Check("m", "k", "i", nan, nan, 0.01).holds
    assert not Check("m", "k", "i", nan, 1.0, 0.01).holds
    lost = Check("m", "k", "i", 1.0, nan, 0.01, "It is undefined.")
    assert not lost.holds
    assert lost.sentence.endswith("now no value (It is undefined), tolerance 0.01.")
    assert Verification((lost,), 1).at_most == 1.0


def test_a_copy_of_the_run_publishes_the_same_bytes(
    run: Run, published: Path, tmp_path: Path
) -> None:
    again = publish(copied(run, tmp_path / "run"), "overall", tmp_path)
    for name in FILES:
        assert (again / name).read_bytes() == (published / name).read_bytes(), name
