"""Grids that a worker process makes again: importable by name, so that they can be sent there."""

import os
import signal
from dataclasses import dataclass

import torch
from grids import Strange, chosen, small_grid
from torch import Tensor

from xbench.classifier import Classifier
from xbench.running.grid import Grid


def crash(model: Classifier, images: Tensor) -> Tensor:
    """What the system does to a process that takes all memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return images[:, 0]


@dataclass(frozen=True)
class Make:
    """Makes the same small grid here and in a worker.

    Attributes:
        crashing: with a method that kills its process.
        seed: of the grid.
        count: images.
    """

    crashing: bool = False
    seed: int = 0
    count: int = 8

    def __call__(self, device: str) -> Grid:
        """The grid; the device is always the CPU."""
        torch.set_num_threads(1)
        extra = [chosen(Strange(crash))] if self.crashing else []
        methods, metrics = "gradient,random", "deletion[steps=4],sparseness,iou"
        return small_grid(methods, metrics, count=self.count, seed=self.seed, extra=extra)
