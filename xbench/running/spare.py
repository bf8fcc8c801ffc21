"""The CPU as a way out where a device has no memory left for a cell."""

from dataclasses import replace

import torch
from torch import Tensor

from xbench.classifier.moving import on_device
from xbench.running.batches import Batch, SharedBank
from xbench.running.grid import Grid


def with_spare(grid: Grid) -> Grid:
    """The grid with a copy of its models on the CPU, made while there is memory for it."""
    return replace(
        grid,
        spare=replace(
            grid,
            model=on_device(grid.model, "cpu"),
            twin=None if grid.twin is None else on_device(grid.twin, "cpu"),
        ),
    )


def on_cpu(batch: Batch) -> Batch:
    """The batch in main memory, with a bank of its own: entries of the other are on the device."""

    def move(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.cpu()

    return replace(
        batch,
        images=batch.images.cpu(),
        targets=batch.targets.cpu(),
        labels=batch.labels.cpu(),
        truth=move(batch.truth),
        truth_defined=move(batch.truth_defined),
        extras={name: mask.cpu() for name, mask in batch.extras.items()},
        bank=SharedBank(batch.bank.counter),
    )


def free(device: torch.device) -> None:
    """Give back what the device's allocator keeps for later."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
