"""Peak memory of whole runs in processes of their own: few images against many."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

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
        command = [sys.executable, "-c", "from xbench.cli import main; main()", "run"]
        command += ["--dataset", f"planted[count={images}]", "--limit", str(images)]
        command += ["--methods", METHODS, "--metrics", METRICS, "--device", "cpu"]
        command += ["--batch-size", "32", "--out", str(Path(folder) / "run"), *options]
        log = Path(folder) / "log"
        with log.open("w") as output:
            child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise RuntimeError(f"the run of {images} images failed: {log.read_text()[-400:]}")
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


def measure(few: int = 200, many: int = 2000) -> Peaks:
    """Both peaks."""
    return Peaks(few, many, peak_mb(few), peak_mb(many))
