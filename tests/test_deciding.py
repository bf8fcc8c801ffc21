"""`--until-decided`: random order, the same numbers, the same decision after a resume, refusals."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from grids import StopAfter, run_in, small_grid
from simulated import Planted, simulate
from typer.testing import CliRunner

from xbench.cli import app
from xbench.errors import ParameterError, RunError, StoppedError
from xbench.report import write_all
from xbench.running.deciding import Decider
from xbench.running.session import Run, Settings, make_grid, run_grid
from xbench.statistics.boards import board_rows
from xbench.statistics.sequential import decision_sentence

CHUNK = 16
SPREAD = {name: Planted(skill=skill) for name, skill in zip("abcde", (4, 3, 2, 0, 0), strict=True)}


class Frames:
    """A store of a run that never ran; its images are in chunks of 16."""

    def __init__(self, records: pd.DataFrame) -> None:
        numbers = records["image_id"].str.removeprefix("image-").astype(int)
        self._chunks = dict(list(records.groupby(numbers // CHUNK)))

    def frame_of(self, chunk: int) -> pd.DataFrame:
        """See `Store.frame_of`."""
        return self._chunks[chunk]


def decider(images: int, manifest: dict[str, Any], leaders: int = 3) -> Decider:
    chunks = [list(range(s, min(s + CHUNK, images))) for s in range(0, images, CHUNK)]
    return Decider(SimpleNamespace(chunks=lambda: chunks), manifest, leaders)  # type: ignore


def test_it_stops_at_the_first_look_that_settles_the_order_however_often_it_is_asked() -> None:
    records, manifest = simulate(SPREAD, images=160)
    once, often = decider(160, manifest), decider(160, manifest)
    assert once.judge(Frames(records), 10)  # type: ignore
    for chunks in range(11):
        if often.judge(Frames(records), chunks):  # type: ignore
            break
    assert once.row() == often.row()
    row = once.row()
    assert row["leaders"] == ("a", "b", "c")
    assert row["seen"] == chunks * CHUNK < 160
    assert row["images"] == row["seen"] - CHUNK  # the first chunk only says what is compared
    assert set(row["methods"]) == set(SPREAD)  # no controls
    assert "sparseness" not in row["metrics"]


def test_what_has_no_values_is_not_compared() -> None:
    lost = {**SPREAD, "f": Planted(skill=9.0, missing=("insertion",))}
    records, manifest = simulate(lost, images=96)
    found = decider(96, manifest)
    found.judge(Frames(records), 6)  # type: ignore
    assert set(found.row()["methods"]) == set(SPREAD)


def test_with_one_method_there_is_nothing_to_settle() -> None:
    records, manifest = simulate({"a": Planted()}, images=64)
    found = decider(64, manifest)
    assert not found.judge(Frames(records), 4)  # type: ignore
    assert "Fewer than two methods" in decision_sentence(found.row())


def test_fewer_images_than_a_board_needs_settle_nothing() -> None:
    records, manifest = simulate(SPREAD, images=64, noise=0.01)
    manifest["boards"] = [
        {**board, "min_images": 64} for board in board_rows() if board["card"]["name"] == "overall"
    ]
    found = decider(64, manifest)
    assert not found.judge(Frames(records), 3)  # type: ignore
    assert found.judge(Frames(records), 4)  # type: ignore


def test_a_random_order_changes_no_number(tmp_path: Path) -> None:
    straight = small_grid(count=7)
    mixed = small_grid(count=7, shuffled=True)
    orders = [[p for chunk in grid.chunks() for p in chunk] for grid in (straight, mixed)]
    assert orders[0] == list(range(7)) == sorted(orders[1])
    assert orders[0] != orders[1]
    assert mixed.chunks() == small_grid(count=7, shuffled=True).chunks()
    assert mixed.chunks() != small_grid(count=7, shuffled=True, seed=1).chunks()
    one, other = (
        run_in(tmp_path / str(grid.shuffled), grid).drop(columns="chunk")
        for grid in (straight, mixed)
    )
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-5)


def settings(folder: Path, **changed: Any) -> Settings:
    values: dict[str, Any] = {
        "methods": "gradcam,deconvnet,random", "metrics": "rank_accuracy", "limit": 96,
        "batch_size": 32, "device": "cpu", "leaders": 1, "until_decided": True,
        "out": folder, "command": ["xbench", "run"],
    }  # fmt: skip
    return Settings(**{**values, **changed})


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Run:
    said: list[str] = []
    run = run_grid(settings(tmp_path_factory.mktemp("decided") / "run"), notice=said.append)
    assert said == [decision_sentence(run.manifest["decision"])]
    write_all(run)
    return run


def test_a_run_stops_and_says_what_was_saved(decided: Run) -> None:
    row = decided.manifest["decision"]
    assert row["decided"]
    assert row["leaders"] == ["gradcam"]
    assert row["seen"] == decided.leaderboard().images < 96 == row["of"]
    assert decided.manifest["order"] == "shuffled"
    sentence = decision_sentence(row)
    assert sentence.startswith("The first place (gradcam) is settled at 95 % after")
    assert sentence in (decided.path / "report.html").read_text()
    assert "resume the run" not in (decided.path / "report.html").read_text()
    assert "is settled at 95 %" in (decided.path / "leaderboard.md").read_text()


def test_a_resumed_run_decides_the_same(decided: Run, tmp_path: Path) -> None:
    again = run_grid(settings(decided.path, resume=True))
    assert again.tally is not None
    assert again.tally.computed == 0
    assert again.manifest["decision"] == decided.manifest["decision"]
    with pytest.raises(StoppedError):
        run_grid(settings(tmp_path / "torn"), progress=StopAfter(8))
    resumed = run_grid(settings(tmp_path / "torn", resume=True))
    assert resumed.manifest["decision"] == decided.manifest["decision"]
    assert len(resumed.records) == len(decided.records)


def test_a_folder_in_another_order_is_another_run(decided: Run) -> None:
    with pytest.raises(RunError, match="its order is not the same"):
        run_grid(settings(decided.path, resume=True, until_decided=False))


def test_an_open_order_says_how_many_images_are_missing(tmp_path: Path) -> None:
    words = (
        "run", "--methods", "gradient,input_x_gradient,random", "--metrics", "rank_accuracy",
        "--limit", "20", "--batch-size", "32", "--until-decided", "-q",
        "--out", str(tmp_path / "r"),
    )  # fmt: skip
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "is not settled at 95 % after 20 images" in " ".join(result.stderr.split())
    assert "not settled" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"shard": "1/2"}, "--until-decided looks at the images one chunk after the other"),
        ({"devices": "cpu,cpu"}, "without --shard, --devices and --engine ray"),
        ({"engine": "ray"}, "without --shard, --devices and --engine ray"),
        ({"leaders": 0}, "--leaders takes a number"),
    ],
)
def test_it_is_refused_where_chunks_come_in_no_order(
    changed: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=expected):
        make_grid(settings(tmp_path / "run", **changed))
