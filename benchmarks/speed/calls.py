"""The limit: the time of one image through the plain network, as fast as a user could make it."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.classifier.folding import fold
from xbench.classifier.tail import build_tail
from xbench.cost import Cost

SIZES = (4, 8, 16, 32)
TAIL_SIZES = (16, 32, 64, 128)
ORDERS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
BURST = (3, 12)  # batches that one measurement of the limit takes, at least and at most


class Pixels(nn.Module):
    """A copy of a classifier's network from pixels in [0, 1], in one order in memory.

    This is what peers get: normalization, then the module as torchvision builds it.

    Args:
        model: whose network is meant.
        order: in memory.
        own: take the network itself instead of a copy.
    """

    def __init__(self, model: Classifier, order: torch.memory_format, *, own: bool = False) -> None:
        super().__init__()
        self.order = order
        module = model.module if own else copy.deepcopy(model.module)
        self.network = module.to(memory_format=order).eval().requires_grad_(True)
        self.register_buffer("mean", model.network.get_buffer("mean").clone())
        self.register_buffer("std", model.network.get_buffer("std").clone())
        self.eval()  # which some peers insist on, of the outermost module, too

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (N, K) of pixels (N, C, H, W)."""
        normalized = (pixels - self.get_buffer("mean")) / self.get_buffer("std")
        return self.network(normalized.contiguous(memory_format=self.order))

    def layer(self, name: str) -> nn.Module:
        """A layer by its dotted name in the classifier's module."""
        return self.network.get_submodule(name)


@dataclass(frozen=True)
class Best:
    """The fastest way to make one kind of call.

    Attributes:
        seconds: an image, when it was chosen.
        size: images a batch.
        order: name of the order in memory.
        step: makes one call.
    """

    seconds: float
    size: int
    order: str
    step: Callable[[], object]


class Calls:
    """Times of plain calls: forward, forward with backward, and the network's tail.

    Args:
        model: whose network is meant.
        images: (N, C, H, W), for shape and device.
        layers: where tails begin.
        sizes: batch sizes that are tried.

    Attributes:
        best: the fastest way for "forward", "backward" (a forward with its backward) and for the
            tail behind each layer, by the layer's name.
        tried: seconds an image by kind, order and batch size, for the page.
    """

    def __init__(
        self,
        model: Classifier,
        images: Tensor,
        layers: tuple[str, ...],
        sizes: tuple[int, ...] = SIZES,
    ) -> None:
        self.device = model.device
        self.tried: dict[tuple[str, str, int], float] = {}
        self.best: dict[str, Best] = {}
        normalized = model.network.normalize(images).contiguous()
        module = copy.deepcopy(model.module).eval().requires_grad_(False)
        folded = fold(module, normalized[:1], pack=False)
        self.folded = folded is not None
        network = module if folded is None else folded.get() or module
        for name, order in ORDERS.items():
            one = copy.deepcopy(network).to(memory_format=order)
            rows = normalized.contiguous(memory_format=order)
            for size in sizes:
                batch = _repeat(rows, size).contiguous(memory_format=order)
                self._try("forward", name, size, _forward(one, batch))
                self._try("backward", name, size, _backward(one, batch))
        self.order = ORDERS[self.best["forward"].order]
        for layer in layers:
            self._tail(module, normalized, layer)

    def _tail(self, module: nn.Module, normalized: Tensor, layer: str) -> None:
        tail = build_tail(module, layer, normalized[:1])
        if tail is None:
            return
        kept: list[Tensor] = []
        stop = module.get_submodule(layer)
        handle = stop.register_forward_hook(lambda _, __, output: kept.append(output))
        with torch.no_grad():
            module(normalized[:1])
        handle.remove()
        for size in TAIL_SIZES:
            self._try(layer, "contiguous", size, _forward(tail, _repeat(kept[0], size)))

    def _try(self, kind: str, order: str, size: int, step: Callable[[], object]) -> None:
        step()
        seconds = min(self._timed(step) for _ in range(3)) / size
        self.tried[kind, order, size] = seconds
        if kind not in self.best or seconds < self.best[kind].seconds:
            self.best[kind] = Best(seconds, size, order, step)

    def _timed(self, step: Callable[[], object]) -> float:
        start = time.perf_counter()
        step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def limit(self, cost: Cost, layer: str) -> float:
        """Seconds that so many calls take in plain batches of the best size, measured now.

        Args:
            cost: forwards, backwards, and passes of the tail.
            layer: behind which the tail begins.
        """
        rows = {
            "forward": cost.forwards - cost.backwards,
            "backward": cost.backwards,
            layer: cost.tails,
        }
        return sum(count * self._now(kind, count) for kind, count in rows.items() if count > 0)

    def _now(self, kind: str, count: float) -> float:
        """Seconds an image, from a third of the batches that so many images are."""
        best = self.best[kind]
        batches = min(max(BURST[0], round(count / best.size / 3)), BURST[1])
        return sum(self._timed(best.step) for _ in range(batches)) / (batches * best.size)


def _repeat(rows: Tensor, size: int) -> Tensor:
    return rows[torch.arange(size, device=rows.device) % len(rows)].clone()


def _forward(network: nn.Module, batch: Tensor) -> Callable[[], object]:
    def step() -> object:
        with torch.no_grad():
            return network(batch)

    return step


def _backward(network: nn.Module, batch: Tensor) -> Callable[[], object]:
    def step() -> object:
        rows = batch.detach().requires_grad_(True)
        return torch.autograd.grad(network(rows)[:, 0].sum(), rows)

    return step
