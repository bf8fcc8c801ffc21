"""The order of an image in memory that makes a network fastest, found by trying it."""

import torch
from torch import Tensor, nn

from xbench.classifier.batching import (
    calibration_key,
    channels_last_is_faster,
    is_out_of_memory,
)
from xbench.classifier.network import Network


def settle_memory_format(network: Network, like: Tensor) -> None:
    """Put a network into channels-last order where that works, agrees and is faster; once.

    Args:
        network: its weights and the order of its inputs are changed in place; values stay.
        like: any images of the right shape (N, C, H, W), on the network's device.
    """
    if network.memory_format is None:
        network.memory_format = torch.contiguous_format
        if any(isinstance(child, nn.Conv2d) for child in network.modules()):
            with network.counter.paused():
                _settle(network, like)


def _settle(network: Network, like: Tensor) -> None:
    shape, device = tuple(like.shape[1:]), like.device
    expected = _logits(network, like[:1])
    try:
        _change(network, torch.channels_last)
        _forward_and_back(network, like[:1].expand(2, *shape))
        agrees = torch.allclose(_logits(network, like[:1]), expected, rtol=1e-3, atol=1e-3)
    except RuntimeError:  # a module that calls view() on what is no longer contiguous
        agrees = False

    def step(order: torch.memory_format, size: int) -> None:
        _change(network, order)
        _forward_and_back(network, torch.full((size, *shape), 0.5, device=device))

    faster = False
    if agrees:
        key = calibration_key(str(network), shape, "memory format", device)
        try:
            faster = channels_last_is_faster(step, key, device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    _change(network, torch.channels_last if faster else torch.contiguous_format)


def _change(network: Network, order: torch.memory_format) -> None:
    network.memory_format = order
    network.to(memory_format=order)


@torch.no_grad()
def _logits(network: Network, images: Tensor) -> Tensor:
    return network(images).float()


def _forward_and_back(network: Network, images: Tensor) -> None:
    rows = images.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        torch.autograd.grad(network(rows)[:, 0].sum(), rows)
