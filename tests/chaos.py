"""Kill a small grid at random moments, resume it, and compare: run by `make chaos` and a test.

Python, torch and the grid are loaded once; every run is a fork of that process, so that a kill
costs no start-up. Nothing runs through the network before the forks, since autograd does not
survive one.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from grids import TIMINGS, small_grid  # beside this file

from xbench.records import Store, read_frame
from xbench.running import cells, session
from xbench.running.session import Settings, run_grid

METHODS = "gradient,gradcam,smoothgrad[n_samples=3],random"
METRICS = "deletion[steps=4],noise_stability,sparseness,iou"
TOO_LATE = 20  # draws of a moment that came after the run was done


def settings(out: Path, *, resume: bool) -> Settings:
    return Settings(out=out, resume=resume, command=["xbench", "run"])


def forked(work: Callable[[], None]) -> int:
    """The process id of a fork that does the work and ends."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


def run(out: Path, trace: Path, *, resume: bool) -> None:
    """A run that notes every piece of work as it begins."""
    attempt = cells._attempt
    descriptor = os.open(trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def noted(*arguments: Any) -> Any:
        os.write(descriptor, b"x")
        return attempt(*arguments)

    cells._attempt = noted
    run_grid(settings(out, resume=resume))


def finished(work: Callable[[], None]) -> None:
    _, status = os.waitpid(forked(work), 0)
    if status:
        raise SystemExit(f"A run that nobody disturbed ended with {status}.")


def killed(work: Callable[[], None], after: float) -> bool:
    """Whether the kill came before the end."""
    pid = forked(work)
    moment = time.monotonic() + after
    while (left := moment - time.monotonic()) > 0:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(min(left, 0.02))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def units(out: Path) -> int:
    path = out / "records.sqlite"
    if not path.exists():
        return 0
    with closing(Store(path)) as store:
        return len(store.units())


def records(out: Path) -> pd.DataFrame:
    return read_frame(out / "records.sqlite").drop(columns=TIMINGS)


class Chaos:
    """The undisturbed run, and trials against it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        whole, trace = folder / "whole", folder / "whole.trace"
        finished(lambda: run(folder / "warm", folder / "warm.trace", resume=False))
        start = time.monotonic()
        finished(lambda: run(whole, trace, resume=False))
        self.seconds = time.monotonic() - start
        self.work, self.units = trace.stat().st_size, units(whole)
        self.expected = records(whole)

    def trial(self, seed: int) -> dict[str, Any]:
        """One kill at a moment drawn from the seed, and its resume."""
        draws = random.Random(seed)
        out, trace = self.folder / "cut", self.folder / "cut.trace"
        for _ in range(TOO_LATE):
            shutil.rmtree(out, ignore_errors=True)
            trace.unlink(missing_ok=True)
            moment = draws.uniform(0, self.seconds)
            if killed(lambda: run(out, trace, resume=False), moment):
                break
            self.seconds *= 0.8  # the machine is less busy than it was
        else:
            raise SystemExit(f"No moment of seed {seed} came before the end of the run.")
        kept = units(out)
        manifest = (out / "manifest.json").exists()
        finished(lambda: run(out, trace, resume=manifest))
        return {
            "seed": seed,
            "moment": round(moment, 4),
            "kept": kept,
            "twice": trace.stat().st_size - self.work,
            "identical": self.expected.equals(records(out)),
            "told": told.read_text() if (told := out / "errors.log").exists() else "",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # threads of its own would not survive a fork
    grid = small_grid(METHODS, METRICS, count=8, chunk=2)
    session.make_grid = lambda settings: grid
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XBENCH_CACHE"] = str(Path(folder) / "cache")
        chaos = Chaos(Path(folder))
        trials = []
        for i in range(chosen.kills):
            trials.append(chaos.trial(chosen.seed + i))
            print(json.dumps(trials[-1]), flush=True)
    summary = {
        "kills": len(trials),
        "identical": sum(trial["identical"] for trial in trials),
        "most_computed_twice": max(trial["twice"] for trial in trials),
        "damaged": sum(bool(trial["told"]) for trial in trials),
        "kept_from": min(trial["kept"] for trial in trials),
        "kept_to": max(trial["kept"] for trial in trials),
        "units": chaos.units,
        "seeds": [chosen.seed, chosen.seed + chosen.kills - 1],
        "undisturbed_seconds": round(chaos.seconds, 3),
        "seconds": round(time.monotonic() - start, 1),
    }
    print(json.dumps(summary))
    if summary["identical"] < len(trials) or summary["most_computed_twice"] > 1:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
