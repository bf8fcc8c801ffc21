"""Twenty kills at random moments; `make chaos` does two hundred. See chaos.py beside this file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def chaos(kills: int, seed: int) -> dict[str, object]:
    script = Path(__file__).parent / "chaos.py"
    command = [sys.executable, str(script), "--kills", str(kills), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.stdout, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, (done.stdout, done.stderr)
    return dict(summary)


def check(summary: dict[str, object], kills: int) -> None:
    assert summary["identical"] == summary["kills"] == kills
    assert summary["most_computed_twice"] in (0, 1)
    assert summary["damaged"] == 0
    assert summary["kept_from"] != summary["kept_to"], "the kills came at one and the same moment"


def test_twenty_kills_and_resumes() -> None:
    check(chaos(20, seed=1000), 20)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_two_hundred_kills_and_resumes() -> None:
    check(chaos(200, seed=0), 200)
