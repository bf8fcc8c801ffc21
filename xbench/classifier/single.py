"""Backward hooks over batch normalizations, on batches of one image."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def right_with_hooks(module: nn.Module) -> Iterator[None]:
    """Gradients are right inside although modules have full backward hooks.

    Such a hook hands on its module's output as a view, and the view of a single image in
    channels-last order has another stride for the batch. In evaluation mode torch's
    normalization reads a gradient that comes in the other order by that stride, and returns a
    wrong one. Here it gets a copy with ordinary strides. It takes no full backward hook itself,
    whose view would come behind this one.

    Args:
        module: whose batch normalizations are meant.
    """
    norms = (child for child in module.modules() if isinstance(child, nn.BatchNorm2d))
    handles = [norm.register_forward_pre_hook(_ordinary) for norm in norms]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _ordinary(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    x = given[0]
    if len(x) > 1 or x.stride(0) == x[0].numel():
        return None
    last = x.is_contiguous(memory_format=torch.channels_last)
    order = torch.channels_last if last else torch.contiguous_format
    return (x.clone(memory_format=order), *given[1:])
