"""Random draws that depend on identity alone: (run seed, image, scope, repetition, tag).

Neither batch size, order, sharding nor resume changes a number, and no global random state is
read or changed. Draws are made on the CPU and moved, so every device sees the same ones.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

Tag = str | int | float


def seed_of(*parts: Tag) -> int:
    """A 63-bit seed from the SHA-256 of the parts.

    >>> seed_of("a", 1) == seed_of("a", 1) != seed_of("a", 2)
    True
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class Streams:
    """One stream of random numbers an image.

    Attributes:
        seed: the seed of the run.
        image_ids: one identifier an image, in the order of the batch.
        scope: who draws (a method or metric name), so that two of them never share draws.
        repetition: which repetition of a stochastic measurement this is.
        call: which call of the same explanation this is. Ordinary draws ignore it, so that a
            stochastic method sees common random numbers on an image and on its perturbed copy;
            draws made through `fresh()` do not.
    """

    seed: int
    image_ids: Sequence[str]
    scope: str = ""
    repetition: int = 0
    call: str = ""

    def __len__(self) -> int:
        return len(self.image_ids)

    def scoped(self, scope: str) -> "Streams":
        """The same images, drawing under another name."""
        return replace(self, scope=scope)

    def shared(self) -> "Streams":
        """Draws that all methods and metrics have in common (random subsets, masks)."""
        return replace(self, scope="shared", call="")

    def called(self, call: str) -> "Streams":
        """The streams of one more call of the same explanation, see `call`."""
        return replace(self, call=call)

    def fresh(self) -> "Streams":
        """Streams that differ from call to call: for controls that must be re-seeded."""
        return replace(self, scope=f"{self.scope}\x1e{self.call}", call="")

    def select(self, indices: Sequence[int] | Tensor) -> "Streams":
        """The streams of some of the images (indices may repeat)."""
        return replace(self, image_ids=[self.image_ids[int(index)] for index in indices])

    def seed_for(self, image: int, *tag: Tag) -> int:
        """The seed of one draw for one image of the batch."""
        return seed_of(self.seed, self.image_ids[image], self.scope, self.repetition, *tag)

    def generator(self, image: int, *tag: Tag) -> torch.Generator:
        """A CPU generator for one draw for one image."""
        return torch.Generator().manual_seed(self.seed_for(image, *tag))

    def numpy(self, image: int, *tag: Tag) -> np.random.Generator:
        """A numpy generator for one draw for one image, for libraries that want one."""
        return np.random.default_rng(self.seed_for(image, *tag))

    def common(self, *tag: Tag) -> torch.Generator:
        """A CPU generator that does not depend on the image, for draws about the model."""
        return torch.Generator().manual_seed(seed_of(self.seed, self.scope, self.repetition, *tag))

    def normal(self, shape: Sequence[int], *tag: Tag) -> Tensor:
        """Standard normal draws, float32 (N, *shape), on the CPU."""
        return torch.stack(
            [torch.randn(*shape, generator=self.generator(i, *tag)) for i in range(len(self))]
        )

    def uniform(self, shape: Sequence[int], *tag: Tag) -> Tensor:
        """Uniform draws in [0, 1), float32 (N, *shape), on the CPU."""
        return torch.stack(
            [torch.rand(*shape, generator=self.generator(i, *tag)) for i in range(len(self))]
        )

    def integers(self, high: int, shape: Sequence[int], *tag: Tag) -> Tensor:
        """Integers in [0, high), int64 (N, *shape), on the CPU."""
        return torch.stack(
            [
                torch.randint(high, tuple(shape), generator=self.generator(i, *tag))
                for i in range(len(self))
            ]
        )

    def permutation(self, size: int, *tag: Tag) -> Tensor:
        """One permutation of range(size) an image, int64 (N, size), on the CPU."""
        return torch.stack(
            [torch.randperm(size, generator=self.generator(i, *tag)) for i in range(len(self))]
        )
