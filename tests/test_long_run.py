"""A thousand cells in one process: no hook, no open file, no growth of memory."""

import gc
import os
from pathlib import Path

import pytest
from grids import run_in, small_grid
from torch import nn

METHODS = (
    "gradient,input_x_gradient,gradcam,smoothgrad[n_samples=2],guided_backprop,"
    "integrated_gradients[n_steps=3],occlusion,random,edges,center_prior"
)
METRICS = "deletion[steps=3],insertion[steps=3],sparseness,noise_stability"
WARM = 200  # cells until libraries have loaded what they need


def resident() -> int:
    """Pages of this process in main memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1])


def hooks(module: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in module.modules()
    )


class Watch:
    """Progress that looks at memory and files every hundred cells."""

    def __init__(self) -> None:
        self.cells = 0
        self.pages: list[int] = []
        self.files: list[int] = []

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, what: str) -> None:
        """Count, and look."""
        self.cells += 1
        if self.cells >= WARM and self.cells % 100 == 0:
            self.pages.append(resident())
            self.files.append(len(os.listdir("/proc/self/fd")))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_a_thousand_cells_leave_nothing_behind(tmp_path: Path) -> None:
    grid = small_grid(METHODS, METRICS, count=24, chunk=1)
    before, watch = hooks(grid.model.module), Watch()
    records = run_in(tmp_path, grid, watch)
    assert watch.cells >= 1000
    assert (records["status"] == "ok").mean() > 0.5
    assert hooks(grid.model.module) == before
    assert max(watch.files) == watch.files[0], watch.files
    growth = max(watch.pages[-3:]) / watch.pages[0] - 1
    print(f"{watch.cells} cells, memory {growth:+.2%}, {watch.files[-1]} open files")
    assert growth <= 0.05, watch.pages
