"""Throughput of one and two Ray workers, each on a core of its own, on cells of a fixed cost.

Run from the root, with Ray installed and nothing else running:
`OMP_NUM_THREADS=1 .venv/bin/python benchmarks/scaling`. It prints a table in Markdown, and exits
with 1 where two workers do less than 1.7 times the work of one, or write other records.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pandas as pd
import ray
import torch

from xbench import __version__
from xbench.records import Store
from xbench.running.folder import identity_of
from xbench.running.making import Remake, Settings
from xbench.running.manifest import build
from xbench.running.maps import MapCache
from xbench.running.ray_workers import ray_workers
from xbench.running.workers import execute_on

CATALOGUE = Path(__file__).resolve().parent / "busy.py"
ENOUGH = 1.7
TIMINGS = ["seconds", "peak_mb"]


class Clock:
    """Progress that notes when each unit was finished."""

    def __init__(self) -> None:
        self.begun = 0.0
        self.moments: list[float] = []

    def start(self, total: int, done: int) -> None:
        """All workers have loaded the model by now."""
        self.begun = time.monotonic()

    def step(self, what: str) -> None:
        """A unit is finished and written."""
        self.moments.append(time.monotonic() - self.begun)


def run(make: Remake, workers: int, folder: Path) -> tuple[float, pd.DataFrame]:
    """Seconds from all workers being ready to the last record, and the records."""
    folder.mkdir()
    grid, clock = make("cpu"), Clock()
    identity = identity_of(build(grid, []))
    crew = ray_workers(make, "cpu", identity, address=None, count=workers)
    for worker in crew:
        worker.start()
    with closing(Store(folder / "records.sqlite")) as store:
        execute_on(crew, grid, store, MapCache(folder / "maps"), progress=clock)
        return clock.moments[-1], store.frame().drop(columns=TIMINGS)


def processor() -> str:
    """The name of the processor, as the system says it."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=24, help="cells of a fixed cost")
    parser.add_argument("--rounds", type=int, default=1500, help="MiB hashed by each")
    parser.add_argument("--repeats", type=int, default=3, help="measurements; the median counts")
    asked = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
    )
    settings = Settings(
        methods=f"busy[rounds={asked.rounds}]",
        metrics="sparseness",
        limit=asked.cells,
        chunk=1,
        batch_size=4,
        device="cpu",
    )
    make = Remake(settings, (CATALOGUE,))
    seconds: dict[int, list[float]] = {1: [], 2: []}
    frames = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(asked.repeats):
            for workers in seconds:
                took, frame = run(make, workers, Path(folder) / f"{workers}-{repeat}")
                seconds[workers].append(took)
                frames.append(frame)
    ray.shutdown()
    rates = {
        workers: asked.cells / sorted(took)[len(took) // 2] for workers, took in seconds.items()
    }
    print("| workers | cells a second | times one |\n|---|---|---|")
    for workers, rate in rates.items():
        print(f"| {workers} | {rate:.2f} | {rate / rates[1]:.2f} |")
    same = all(frame.equals(frames[0]) for frame in frames)
    print(
        f"\n{asked.cells} cells of {asked.rounds} MiB hashed each, median of {asked.repeats}; "
        f"{processor()}, {cores} cores, Python {platform.python_version()}, torch "
        f"{torch.__version__}, Ray {ray.__version__}, xbench {__version__}. All records the "
        f"same: {'yes' if same else 'NO'}."
    )
    return 0 if same and rates[2] / rates[1] >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main())
