"""Peak memory of whole runs in processes of their own: few images against many."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHILD = """
import atexit, pathlib, resource, sys

def tell(path=sys.argv.pop(1)):
    try:
        rows = open("/proc/self/status").read().splitlines()
        peak = next(int(row.split()[1]) / 1024 for row in rows if row.startswith("VmHWM"))
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    pathlib.Path(path).write_text(str(peak))

atexit.register(tell)
from xbench.cli import main
main()
"""
"""Runs xbench and tells its own peak: what the system says of a child starts at its parent's."""
METHODS = "gradient,gradcam,random"
METRICS = "deletion,insertion,road,pointing_game,mass_accuracy,rank_accuracy,sparseness"


@dataclass(frozen=True)
class Peaks:
    """Peak resident memory in MiB of a run of few and of one of many images."""

    few: int
    many: int
    few_mb: float
    many_mb: float

    @property
    def ratio(self) -> float:
        """Many / few."""
        return self.many_mb / self.few_mb


def peak_mb(images: int, *options: str) -> float:
    """The peak of `xbench run` on so many planted scenes, with its tables and its report, in MiB.

    Raises:
        RuntimeError: the run failed; the message ends with its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        told, log = Path(folder) / "peak", Path(folder) / "log"
        command = [sys.executable, "-c", CHILD, str(told), "run"]
        command += ["--dataset", f"planted[count={images}]", "--limit", str(images)]
        command += ["--methods", METHODS, "--metrics", METRICS, "--device", "cpu"]
        command += ["--batch-size", "32", "--out", str(Path(folder) / "run"), *options]
        with log.open("w") as output:
            ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        if ended.returncode != 0:
            raise RuntimeError(f"the run of {images} images failed: {log.read_text()[-400:]}")
        return float(told.read_text())


def measure(few: int = 200, many: int = 2000) -> Peaks:
    """Both peaks."""
    return Peaks(few, many, peak_mb(few), peak_mb(many))
