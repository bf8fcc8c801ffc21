"""Runs on Ray: the same records, lost workers and a lost driver; skipped where Ray is absent.

How throughput grows with workers is measured by `benchmarks/scaling`.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from grids import TIMINGS, run_in
from remakes import Make

from xbench.errors import RunError
from xbench.records import Store
from xbench.running.folder import identity_of
from xbench.running.manifest import build
from xbench.running.maps import MapCache
from xbench.running.ray_workers import RayWorker, ray_workers
from xbench.running.workers import execute_on

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ray = pytest.importorskip("ray")

HERE = str(Path(__file__).parent)


make = Make(count=10)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    paths = os.pathsep.join([HERE, os.environ.get("PYTHONPATH", "")])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return run_in(tmp_path_factory.mktemp("whole"), make("cpu"))


class Killing:
    """Progress that kills a worker after some units."""

    def __init__(self, workers: list[RayWorker], after: int | None) -> None:
        self.workers, self.after, self.steps = workers, after, 0

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, what: str) -> None:
        """Count, and kill."""
        self.steps += 1
        if self.steps == self.after:
            pid = next(worker.pid for worker in self.workers if worker.pid)
            os.kill(pid, signal.SIGKILL)


def on_ray(folder: Path, count: int, kill_after: int | None = None) -> tuple[pd.DataFrame, Killing]:
    folder.mkdir(exist_ok=True)
    grid = make("cpu")
    identity = identity_of(build(grid, []))
    workers = ray_workers(make, "cpu", identity, address=None, count=count)
    for worker in workers:
        worker.start()
    progress = Killing(workers, kill_after)
    with closing(Store(folder / "records.sqlite")) as store:
        execute_on(workers, grid, store, MapCache(folder / "maps"), progress=progress)
        return store.frame().drop(columns=TIMINGS), progress


@pytest.mark.parametrize("kill_after", [None, 9])
def test_the_records_are_those_of_one_process(
    whole: pd.DataFrame, tmp_path: Path, kill_after: int | None
) -> None:
    frame, progress = on_ray(tmp_path / "run", 2, kill_after)
    pd.testing.assert_frame_equal(whole, frame)
    assert progress.steps == len(list(make("cpu").units()))
    maps = [path.name for path in (tmp_path / "run" / "maps").iterdir()]
    assert len(maps) == 2 * 5 + 5  # methods x chunks, and the thumbnails of each chunk


def test_more_workers_than_there_is_room_for() -> None:
    with pytest.raises(RunError, match="room for 2 workers, not 9"):
        ray_workers(make, "cpu", "", address=None, count=9)


def test_a_killed_driver_is_followed_by_a_resume(whole: pd.DataFrame, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {HERE!r}); from pathlib import Path\n"
        "import ray, test_ray\n"
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,\n"
        f"    runtime_env={{'env_vars': {{'PYTHONPATH': {HERE!r}, 'OMP_NUM_THREADS': '1'}}}})\n"
        f"test_ray.on_ray(Path({str(tmp_path / 'run')!r}), 2)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code])
    path = tmp_path / "run" / "records.sqlite"
    deadline = time.monotonic() + 300
    done = 0
    while done < 4:
        assert driver.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.1)
        if path.exists():
            with closing(Store(path)) as store:
                done = len(store.units())
    driver.kill()
    driver.wait()
    with closing(Store(path)) as store:
        kept = len(store.units())
    frame, progress = on_ray(tmp_path / "run", 2)
    pd.testing.assert_frame_equal(whole, frame)
    assert progress.steps == len(list(make("cpu").units())) - kept
