"""Batch sizes: the fastest that fits, measured once, halved when memory runs out."""

import hashlib
import importlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

resource: ModuleType | None
try:
    resource = importlib.import_module("resource")
except ImportError:  # Windows has no such account; there the time alone decides
    resource = None

CPU_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
CUDA_SIZES = (1, 4, 16, 32, 64, 128, 256, 512, 1024)
CPU_MEMORY = 0.75 * 2**30  # bytes; a batch that took so much is the largest that is tried
_SLACK = 1.02  # a batch that is so much slower than the best is as good, if it is smaller


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that a smaller batch might succeed."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    )


def cache_folder() -> Path:
    """Where measurements of this machine are kept between runs (`XBENCH_CACHE` overrides)."""
    if "XBENCH_CACHE" in os.environ:
        return Path(os.environ["XBENCH_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "xbench"


def calibration_key(
    architecture: str, shape: tuple[int, ...], mode: str, device: torch.device
) -> str:
    """What a measured batch size depends on, hashed."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()}x{torch.get_num_threads()}"
    )
    text = repr((_SLACK, architecture, shape, mode, device.type, name, torch.__version__))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def best_batch_size(step: Callable[[int], None], key: str, device: torch.device) -> int:
    """The smallest batch size within 2 % of the fastest time an image.

    The measurement is kept on disk, so that the same command on the same machine always uses the
    same batches and gives the same numbers to the last bit.

    Args:
        step: runs one batch of the given size.
        key: from `calibration_key`.
        device: where it runs.
    """
    path = cache_folder() / "batch_sizes.json"
    known = _read(path)
    if key not in known:
        known[key] = _measure(step, device)
        _write(path, {**_read(path), key: known[key]})
    return known[key]


def channels_last_is_faster(
    step: Callable[[torch.memory_format, int], None], key: str, device: torch.device
) -> bool:
    """Whether images in channels-last order pass faster; kept on disk like the batch size.

    Ties go to channels-last, which convolutions on CPUs prefer, so that noise does not decide.

    Args:
        step: runs one batch of the given order and size.
        key: from `calibration_key`.
        device: where it runs.
    """
    path = cache_folder() / "batch_sizes.json"
    known = _read(path)
    if key not in known:
        size = 64 if device.type == "cuda" else 8
        seconds = {torch.channels_last: float("inf"), torch.contiguous_format: float("inf")}
        for turn in range(4):
            for order in seconds:
                found = _timed(partial(step, order), size, device)
                seconds[order] = min(seconds[order], found if turn else float("inf"))
        slower = seconds[torch.channels_last] > 1.1 * seconds[torch.contiguous_format]
        known[key] = 0 if slower else 1
        _write(path, {**_read(path), key: known[key]})
    return known[key] == 1


def _measure(step: Callable[[int], None], device: torch.device) -> int:
    seconds: dict[int, float] = {}
    before, worse = _peak_memory(), 0
    for size in CUDA_SIZES if device.type == "cuda" else CPU_SIZES:
        try:
            times = [_timed(step, size, device) for _ in range(4 if size <= 16 else 3)]
        except Exception as error:
            if is_out_of_memory(error) and seconds:
                break
            raise
        seconds[size] = min(times[1:]) / size
        # one slow size may be noise of the machine, two in a row are the end of its caches
        worse = worse + 1 if seconds[size] > 1.25 * min(seconds.values()) else 0
        full = device.type == "cpu" and _peak_memory() - before > CPU_MEMORY
        if full or worse == 2 or times[-1] > 2.0:
            break
    best = min(seconds.values())
    return min(size for size, value in seconds.items() if value <= _SLACK * best)


def _peak_memory() -> int:
    """Bytes of main memory that this process held at its peak, 0 where nobody counts."""
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def _timed(step: Callable[[int], None], size: int, device: torch.device) -> float:
    start = time.perf_counter()
    step(size)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _read(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text())
        return {str(k): int(v) for k, v in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(path: Path, content: dict[str, int]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as handle:
            json.dump(content, handle, indent=1, sort_keys=True)
        Path(handle.name).replace(path)
    except OSError:
        return  # a read-only home costs a new measurement next time, nothing else


class BatchSizes:
    """The rows a model call for every mode and image shape.

    Args:
        fixed: what the user asked for, None to measure.
        device: where the model runs.
    """

    def __init__(self, fixed: int | None, device: torch.device) -> None:
        self._fixed = fixed
        self._device = device
        self._known: dict[tuple[object, ...], int] = {}

    def get(self, mode: str, like: Tensor, network: nn.Module) -> int:
        """Rows a call for "forward" or "backward" on images of this shape."""
        key = self._key(mode, like)
        if key not in self._known:
            self._known[key] = self._fixed or self._measured(mode, like, network)
        return self._known[key]

    def halve(self, mode: str, like: Tensor, size: int) -> int:
        """Half the size, from now on; the device's cache is given back."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        self._known[self._key(mode, like)] = size // 2
        return size // 2

    def _key(self, mode: str, like: Tensor) -> tuple[object, ...]:
        return (mode, *like.shape[1:])

    def _measured(self, mode: str, like: Tensor, network: nn.Module) -> int:
        shape = tuple(like.shape[1:])

        def step(size: int) -> None:
            rows = torch.full((size, *shape), 0.5, device=self._device)
            with torch.set_grad_enabled(mode == "backward"):
                logits = network(rows.requires_grad_(mode == "backward"))
                if mode == "backward":
                    torch.autograd.grad(logits[:, 0].sum(), rows)

        return best_batch_size(
            step, calibration_key(str(network), shape, mode, self._device), self._device
        )
