"""A thousand cells in one process: no hook, no open file, no growth of memory."""

import ctypes
import gc
import os
import sys
from pathlib import Path

import pytest
from grids import run_in
from torch import nn

from xbench.running.making import Settings, make_grid

METHODS = (
    "gradient,input_x_gradient,gradcam,smoothgrad[n_samples=2],guided_backprop,"
    "integrated_gradients[n_steps=3],occlusion[window=16,stride=16],random,edges,center_prior"
)
METRICS = "deletion[steps=3],insertion[steps=3],sparseness,noise_stability"
IMAGES = 21  # a chunk each: 21 x 10 methods x (maps and 4 metrics) = 1,050 cells
WARM = 300  # cells until libraries have loaded what they need


def resident() -> int:
    """Pages of this process in main memory, without what the C library keeps for later."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1])


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def hooks(module: nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(part, kind)) for part in module.modules() for kind in kinds)


class Watch:
    """Progress that looks at memory and files every fifty cells."""

    def __init__(self) -> None:
        self.cells = 0
        self.pages: list[int] = []
        self.files: list[int] = []

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, what: str) -> None:
        """Count, and look."""
        self.cells += 1
        if self.cells >= WARM and self.cells % 50 == 0:
            self.pages.append(resident())
            self.files.append(open_files())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux with glibc")
def test_a_thousand_cells_leave_nothing_behind(tmp_path: Path) -> None:
    asked = Settings(
        methods=METHODS, metrics=METRICS, limit=IMAGES, chunk=1, batch_size=8, device="cpu"
    )
    grid = make_grid(asked)
    before, files, watch = hooks(grid.model.module), open_files(), Watch()
    records = run_in(tmp_path, grid, watch)
    assert watch.cells >= 1000
    assert set(records["status"]) <= {"ok", "undefined"}, records["reason"].unique()
    assert hooks(grid.model.module) == before
    assert open_files() == files
    assert max(watch.files) == watch.files[0], watch.files
    growth = max(watch.pages[-3:]) / watch.pages[0] - 1
    print(
        f"{watch.cells} cells, memory {growth:+.2%} of "
        f"{watch.pages[0] * os.sysconf('SC_PAGE_SIZE') / 2**20:.0f} MiB, {open_files()} open files"
    )
    assert growth <= 0.05, watch.pages
