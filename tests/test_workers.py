"""Several processes on one run: the same records, and lost workers cost their units in flight."""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from grids import TIMINGS, StopAfter, run_in
from remakes import Make

from xbench.errors import ParameterError, RunError
from xbench.records import Store
from xbench.running.folder import identity_of
from xbench.running.making import Settings, engine
from xbench.running.manifest import build
from xbench.running.maps import MapCache
from xbench.running.processes import ProcessWorker, process_workers
from xbench.running.workers import execute_on


class Counting:
    """Progress that counts units, and kills a worker after some."""

    def __init__(self, workers: list[ProcessWorker], kill_after: int | None = None) -> None:
        self.workers, self.kill_after = workers, kill_after
        self.steps: Counter[str] = Counter()

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, what: str) -> None:
        """Count, and kill."""
        self.steps[what] += 1
        if self.kill_after == self.steps.total():
            pid = next(worker.pid for worker in self.workers if worker.begun)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)


def run_with(
    folder: Path, make: Make, kill_after: int | None = None
) -> tuple[pd.DataFrame, Counting, list[str]]:
    folder.mkdir(exist_ok=True)
    grid = make("cpu")
    workers = process_workers(make, "cpu,cpu", folder / "maps", identity_of(build(grid, [])))
    progress, logged = Counting(workers, kill_after), list[str]()
    with closing(Store(folder / "records.sqlite")) as store:
        cache = MapCache(folder / "maps")
        execute_on(workers, grid, store, cache, progress=progress, log=logged.append)
        frame = store.frame().drop(columns=TIMINGS)
    return frame, progress, logged


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return run_in(tmp_path_factory.mktemp("whole"), Make()("cpu"))


def test_two_workers_give_the_records_of_one_and_a_lost_one_costs_little(
    whole: pd.DataFrame, tmp_path: Path
) -> None:
    frame, progress, logged = run_with(tmp_path / "run", Make(), kill_after=5)
    pd.testing.assert_frame_equal(whole, frame)
    units = len(list(Make()("cpu").units()))
    assert progress.steps.total() == units, "a unit was written twice"
    assert len(logged) == 1
    assert "ended by signal 9" in logged[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_unit_that_kills_its_workers_is_an_error_of_its_own(tmp_path: Path) -> None:
    whole = run_in(tmp_path / "whole", Make(count=4)("cpu"))
    frame, _, logged = run_with(tmp_path / "run", Make(crashing=True, count=4))
    assert len(logged) <= 6, "each worker that is lost takes seconds"
    mine = (frame["method"] == "strange") | (frame["other"] == "strange")
    explained = frame[mine & (frame["metric"] == "explain")]
    assert set(explained["status"]) == {"error"}
    assert explained["reason"].str.contains("workers were lost over it").all()
    others = frame[~mine].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, others)


def test_a_worker_with_other_data_is_refused(tmp_path: Path) -> None:
    workers = process_workers(Make(seed=1), "cpu", tmp_path / "maps", "of another run")
    with (
        closing(Store(tmp_path / "records.sqlite")) as store,
        pytest.raises(RunError, match="another model, data or protocol"),
    ):
        execute_on(workers, Make()("cpu"), store, MapCache(tmp_path / "maps"))


def test_an_interruption_ends_the_workers(whole: pd.DataFrame, tmp_path: Path) -> None:
    make = Make()
    grid = make("cpu")
    identity = identity_of(build(grid, []))
    workers = process_workers(make, "cpu", tmp_path / "maps", identity)
    cache = MapCache(tmp_path / "maps")
    with (
        closing(Store(tmp_path / "records.sqlite")) as store,
        pytest.raises(KeyboardInterrupt),
    ):
        execute_on(workers, grid, store, cache, progress=StopAfter(3))
    pid = workers[0].pid
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    pd.testing.assert_frame_equal(whole, run_in(tmp_path, grid))
    deadline = time.monotonic() + 10
    while threading.active_count() > 1 and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"devices": "cpu,,cpu"}, "--devices"),
        ({"devices": "cpu", "engine": "ray"}, "--devices is for this machine"),
        ({"devices": "cpu", "model": None}, "by name"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    grid = Make()("cpu")
    if "model" in options:
        options = {**options, "model": grid.model}
    with pytest.raises(ParameterError, match=words):
        engine(Settings(**options), grid, MapCache(tmp_path))


def test_files_of_workers_stay_in_the_folder(tmp_path: Path) -> None:
    cache = MapCache(tmp_path / "maps")
    for name in ("../x.safetensors", "/etc/x.safetensors", "x", "a/b.safetensors", ".safetensors"):
        with pytest.raises(RunError, match="strange name"):
            cache.accept(name, b"")
    cache.accept("images-000001.safetensors", b"content")
    assert [p.name for p in (tmp_path / "maps").iterdir()] == ["images-000001.safetensors"]
