"""What methods with one value a pixel and channel have in common: pooling, rows, means of rows."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method
from xbench.errors import ParameterError
from xbench.operations.pixels import Pooling, pool_channels
from xbench.streams import Streams


@dataclass(frozen=True)
class PixelMethod(Method):
    """A method that says something of every channel of every pixel.

    Attributes:
        pooling: how channels become one value: "sum" keeps the sign (and completeness), "mean" is
            the sum / C, "abs_sum", "max_abs" and "l2" give magnitudes.
    """

    pooling: Pooling = "sum"

    def __post_init__(self) -> None:
        require(
            self.pooling in get_args(Pooling),
            f"pooling is one of {', '.join(get_args(Pooling))}, not '{self.pooling}'.",
        )

    @abstractmethod
    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Signed attributions before pooling, float32 (N, C, H, W)."""

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Attributions, pooled over channels, float32 (N, H, W)."""
        return pool_channels(
            self.attribute(model, images, targets, streams=streams), self.pooling
        ).float()


def require(condition: bool, sentence: str) -> None:
    """Refuse hyper-parameters.

    Raises:
        ParameterError: the condition does not hold; the message is the sentence.
    """
    if not condition:
        raise ParameterError(sentence)


def gather(count: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An accumulator of sums, float64 zeros (count, *shape)."""
    return torch.zeros(count, *shape, dtype=torch.float64, device=like.device)


def add_rows(totals: Tensor, owners: Tensor, values: Tensor) -> None:
    """Add rows to the total of the image that owns them, in the order of the rows.

    Args:
        totals: (N, ...), changed.
        owners: int64 (B,).
        values: (B, ...).
    """
    found, counts = owners.unique_consecutive(return_counts=True)
    for owner, rows in zip(found.tolist(), values.split(counts.tolist()), strict=True):
        totals[owner] += rows.sum(dim=0, dtype=totals.dtype)


def row_blocks(model: Classifier, count: int, like: Tensor) -> Iterator[Tensor]:
    """Indices of `count` rows in blocks that a backward pass has room for, int64 (B,)."""
    blocks = -(-count // model.size("backward", like))  # of one size: a small last one is slow
    yield from torch.arange(count, device=model.device).tensor_split(max(blocks, 1))
