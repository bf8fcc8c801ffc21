"""Parts of a run, joined again: the records of the whole, and a reason where parts do not fit."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from grids import TIMINGS, small_grid
from typer.testing import CliRunner

from xbench.cli import app
from xbench.errors import ParameterError, RunError
from xbench.running import session
from xbench.running.session import Run, Settings, open_run, run_grid
from xbench.running.sharding import merge, parse_shard

METHODS, METRICS = "gradient,random", "deletion[steps=4],sparseness,iou"


@pytest.fixture(scope="module", autouse=True)
def _small_grids() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "make_grid", small)
        yield


def small(settings: Settings) -> Any:
    shard = parse_shard(settings.shard)
    return small_grid(METHODS, METRICS, count=7, seed=settings.seed, shard=shard)


def run(out: Path, **options: Any) -> Run:
    return run_grid(Settings(out=out, command=["xbench", "run"], **options))


def records(found: Run) -> pd.DataFrame:
    return found.records.drop(columns=TIMINGS)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, _small_grids: None) -> Path:
    """The whole run, its three parts, and a part with another seed."""
    folder = tmp_path_factory.mktemp("parts")
    run(folder / "whole")
    for i in (1, 2, 3):
        run(folder / str(i), shard=f"{i}/3")
    run(folder / "seed", shard="2/3", seed=9)
    return folder


@pytest.fixture
def copies(parts: Path, tmp_path: Path) -> Path:
    shutil.copytree(parts, tmp_path / "parts")
    return tmp_path / "parts"


def test_merged_parts_are_the_whole(parts: Path, tmp_path: Path) -> None:
    sizes = [len(Run(parts / str(i)).records) for i in (1, 2, 3)]
    whole = Run(parts / "whole")
    assert sum(sizes) == len(whole.records)
    assert min(sizes) > 0
    notes = merge(tmp_path / "joined", [parts / "3", parts / "1", parts / "2"])
    assert notes == []
    joined = open_run(tmp_path / "joined")
    pd.testing.assert_frame_equal(records(whole), records(joined))
    pd.testing.assert_frame_equal(whole.curves, joined.curves)
    maps = [sorted(p.name for p in (r.path / "maps").iterdir()) for r in (whole, joined)]
    assert maps[0] == maps[1]
    again = run(tmp_path / "joined", resume=True)
    assert again.tally is not None
    assert again.tally.computed == 0


def test_missing_parts_are_named_and_computed_by_the_whole_command(
    parts: Path, tmp_path: Path
) -> None:
    (note,) = merge(tmp_path / "joined", [parts / "1", parts / "3", parts / "3"])
    assert "1 chunks of images" in note
    assert "--resume" in note
    run(tmp_path / "joined", resume=True)
    pd.testing.assert_frame_equal(records(Run(parts / "whole")), records(Run(tmp_path / "joined")))


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    def apply(manifest: dict[str, Any]) -> None:
        for path, value in values.items():
            place: Any = manifest
            *keys, last = path.split("__")
            for key in keys:
                place = place[key]
            place[last] = value

    return apply


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (change(model__weights="f" * 16), r"model \(weights\) is f+"),
        (change(dataset__digest="other"), r"dataset \(digest\)"),
        (change(xbench="9.9"), "version of xbench is 9.9"),
        (change(environment__packages__torch="1.0"), "version of torch is 1.0"),
        (change(settings__max_calls=7), "setting max_calls is 7"),
        (change(chunk=5), "chunk is 5"),
        (change(reading="sign=absolute"), "reading"),
        (lambda manifest: manifest["metrics"].pop(), "metrics"),
        (change(seed=3), "seed is 3, not 0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    copies: Path, alter: Callable[[dict[str, Any]], None], words: str
) -> None:
    path = copies / "2" / "manifest.json"
    manifest = json.loads(path.read_text())
    alter(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=words):
        merge(copies / "joined", [copies / "1", copies / "2"])
    assert not (copies / "joined").exists()


def test_another_seed_is_refused_on_the_command_line(parts: Path, tmp_path: Path) -> None:
    words = ["merge", str(tmp_path / "joined"), str(parts / "1"), str(parts / "seed")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "its seed is 9, not 0" in " ".join(result.stderr.split())


def test_records_beside_the_wrong_manifest_are_refused(copies: Path) -> None:
    shutil.copy(copies / "seed" / "records.sqlite", copies / "2" / "records.sqlite")
    with pytest.raises(RunError, match="another run than the manifest"):
        merge(copies / "joined", [copies / "1", copies / "2"])


def test_changed_values_are_refused(copies: Path) -> None:
    with closing(sqlite3.connect(copies / "2" / "records.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE records SET value = 0.5 WHERE metric = 'sparseness'")
    with pytest.raises(RunError, match="not what was written"):
        merge(copies / "joined", [copies / "1", copies / "2"])


def test_a_shard_is_resumed_as_that_shard(copies: Path) -> None:
    with pytest.raises(RunError, match="its shard is not the same"):
        run(copies / "2", shard="1/3", resume=True)


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(ParameterError, match="--shard"):
        parse_shard(text)
