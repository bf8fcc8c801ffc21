"""The network with its normalization inside, counting every image that passes through it."""

import copy
import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from xbench.classifier.folding import Folded, fold, is_watched
from xbench.classifier.precision import Compiled, casting, widened
from xbench.clocks import CLOCKS
from xbench.cost import Cost
from xbench.errors import ModelError


@dataclass(frozen=True)
class Normalization:
    """Per-channel mean and standard deviation, applied to pixels in [0, 1]."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass
class Counter:
    """Images that went forward and backward through the network, and rows through its tail."""

    forwards: int = 0
    backwards: int = 0
    tails: int = 0
    _marks: list["Counter"] = field(default_factory=list)

    def read(self) -> Cost:
        """The counts so far."""
        return Cost(self.forwards, self.backwards, self.tails)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Calls inside are not counted (probes, calibration)."""
        before = (self.forwards, self.backwards, self.tails)
        try:
            yield
        finally:
            self.forwards, self.backwards, self.tails = before


class Network(nn.Module):
    """Pixels in [0, 1] to logits: normalization, then the user's module.

    Backward passes are counted by a hook on the logits, so whoever differentiates (this package,
    captum, grad-cam) is counted alike.
    """

    def __init__(self, module: nn.Module, normalization: Normalization, counter: Counter) -> None:
        super().__init__()
        self.memory_format: torch.memory_format | None = None  # None: not yet chosen
        self.precision = "float32"
        self.compiled: Compiled | None = None
        self._folded: Folded | None = None
        self._tried = False
        self.module = module
        self.counter = counter
        shape = (1, -1, 1, 1)
        self.register_buffer("mean", torch.tensor(normalization.mean).view(shape), False)
        self.register_buffer("std", torch.tensor(normalization.std).view(shape), False)

    def normalize(self, images: Tensor) -> Tensor:
        """What the user's module expects: (images - mean) / std."""
        normalized = images - self.get_buffer("mean")
        if normalized.requires_grad:
            normalized = normalized / self.get_buffer("std")
        else:
            normalized /= self.get_buffer("std")  # memory is what this step costs
        return normalized.contiguous(memory_format=self.memory_format or torch.contiguous_format)

    def __call__(self, images: Tensor) -> Tensor:
        """See `forward`."""
        logits: Tensor = super().__call__(images)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float32 (N, K), of images float32 (N, C, H, W) in [0, 1]."""
        self.counter.forwards += images.shape[0]
        start = time.perf_counter()
        normalized = self.normalize(images)
        network = self._fastest(normalized)
        with casting(self.precision, images.device.type):
            if self.compiled is not None and not is_watched(self.module):
                logits = self.compiled(network, normalized)
            else:
                logits = network(normalized)
        timed = images.device.type == "cpu"  # elsewhere the call returns before the work is done
        if timed:
            CLOCKS.add("forward", time.perf_counter() - start)
        if not isinstance(logits, Tensor):
            logits = getattr(logits, "logits", logits)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise ModelError(
                "The model's output is not a matrix of logits (images x classes); "
                "wrap it in a function that returns one."
            )
        logits = widened(logits)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)
            if timed and normalized.requires_grad:
                _time_backward(logits, normalized)
        return logits

    def extra_repr(self) -> str:
        """The precision, where it is not float32; measured batch sizes are kept by it."""
        return "" if self.precision == "float32" else self.precision

    def take_settings(self, other: "Network") -> None:
        """Run as another network does: counter, order in memory, precision, and its mean."""
        self.counter = other.counter
        self.memory_format, self.precision = other.memory_format, other.precision
        self.get_buffer("mean").copy_(other.get_buffer("mean"))  # see shifted.py

    def take_folding(self, other: "Network") -> None:
        """Fold as a network was folded of whose module this one's is a copy."""
        if other._folded is not None and not is_watched(self.module):
            self._tried, self._folded = True, other._folded.twin(self.module)

    def _fastest(self, normalized: Tensor) -> nn.Module:
        """The module, or what gives the same with normalizations folded; see `folding`."""
        if not self._tried and not is_watched(self.module):
            self._tried = True
            self._folded = fold(self.module, normalized[:1].detach())
        folded = self._folded.get() if self._folded is not None else None
        return self.module if folded is None else folded

    def _count_backward(self, gradient: Tensor) -> None:
        self.counter.backwards += gradient.shape[0]


def _time_backward(logits: Tensor, normalized: Tensor) -> None:
    """Book the time from the gradient of the logits to that of the input."""
    begun: list[float] = []

    def start(_: Tensor) -> None:
        begun.append(time.perf_counter())

    def end(_: Tensor) -> None:
        if begun:
            CLOCKS.add("backward", time.perf_counter() - begun.pop())

    logits.register_hook(start)
    normalized.register_hook(end)


def target_logit(logits: Tensor, targets: Tensor) -> Tensor:
    """The raw score of each row's target class, (B,)."""
    return logits.gather(1, targets[:, None])[:, 0]


def private_copy(module: nn.Module) -> nn.Module:
    """A deep copy of a user's module.

    Raises:
        ModelError: it cannot be copied.
    """
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise ModelError(
            f"The model cannot be copied ({type(error).__name__}: {error}); detach tensors that "
            "are kept as attributes, or pass a function that builds it."
        ) from error


def fingerprint(module: nn.Module, normalization: Normalization, precision: str = "float32") -> str:
    """SHA-256 over parameters, buffers, normalization and precision, 16 hexadecimal digits."""
    digest = hashlib.sha256(repr(normalization).encode())
    digest.update(b"" if precision == "float32" else precision.encode())
    for key, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
