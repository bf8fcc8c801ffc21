"""busy: a map of a fixed cost that keeps one core busy; the yardstick of `benchmarks/scaling`."""

import fcntl
import functools
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.registry import METHODS
from xbench.streams import Streams

_CLAIMS = Path(tempfile.gettempdir()) / "xbench-scaling"


@METHODS.register
@dataclass(frozen=True)
class Busy(Method):
    """Hashes a block of memory a fixed number of times for a chunk of images, on one core.

    Attributes:
        rounds: of 1 MiB each.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="busy",
        summary="Brightness, after work of a fixed cost on one core.",
        limitations="It explains nothing; it measures how a run scales.",
        family="control",
        signed=False,
        class_agnostic=True,
        forwards="0",
        backwards="0",
    )
    rounds: int = 400

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """The mean of the channels."""
        pin()
        digest, block = hashlib.sha256(), bytes(2**20)
        for _ in range(self.rounds):
            digest.update(block)
        assert digest.digest()
        return images.mean(dim=1)


@functools.cache
def pin() -> IO[str]:
    """Bind this thread to a core that no other such process has; free again when it ends."""
    _CLAIMS.mkdir(exist_ok=True)
    for core in sorted(os.sched_getaffinity(0)):
        claim = (_CLAIMS / f"core-{core}").open("w")
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            claim.close()
            continue
        os.sched_setaffinity(0, {core})
        return claim
    raise RuntimeError("More workers than cores; a worker needs one of its own.")
