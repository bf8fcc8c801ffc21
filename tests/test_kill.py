"""A run that is killed outright, and resumed, has the records of an undisturbed one."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from grids import TIMINGS

from xbench.records import Store, read_frame

WORDS = (
    "run", "--methods", "gradient,gradcam,smoothgrad[n_samples=5],random", "--metrics",
    "deletion,noise_stability,sparseness,iou", "--limit", "40", "--batch-size", "16", "-q",
)  # fmt: skip


def start(out: Path, *words: str) -> subprocess.Popen[bytes]:
    code = "from xbench.cli import main; main()"
    command = [sys.executable, "-c", code, *WORDS, "--out", str(out), *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors.decode()


def units(out: Path) -> int:
    if not (out / "records.sqlite").exists():
        return 0
    store = Store(out / "records.sqlite")
    try:
        return len(store.units())
    finally:
        store.close()


def test_kill_and_resume(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finished(start(whole))
    process = start(cut)
    deadline = time.monotonic() + 120
    while units(cut) < 6:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = units(cut)
    assert done < units(whole)
    finished(start(cut, "--resume"))
    expected = read_frame(whole / "records.sqlite").drop(columns=TIMINGS)
    found = read_frame(cut / "records.sqlite").drop(columns=TIMINGS)
    pd.testing.assert_frame_equal(expected, found)
    shutil.rmtree(tmp_path)
