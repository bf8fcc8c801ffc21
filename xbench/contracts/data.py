"""The contracts of image sources: geometry, samples, sources, datasets."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from xbench.contracts.cards import DatasetCard
from xbench.contracts.concepts import ConceptMasks


@dataclass(frozen=True)
class Geometry:
    """How a file becomes the classifier's input: resize the short side, crop the center, scale.

    Attributes:
        crop: height and width of the input, None to keep the file's own.
        resize: the short side before cropping, None for no resizing.
        interpolation: "bilinear", "bicubic" or "nearest".
        channels: 3, or 1 for grey models.
    """

    crop: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"
    channels: int = 3


@dataclass(frozen=True)
class Samples:
    """Images as read from a source.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,), -1 where unknown.
        ids: one stable identifier an image.
        truth: bool (N, H, W) or None.
        truth_defined: bool (N,) or None; images whose truth is known.
        extras: further masks by name.
    """

    images: Tensor
    labels: Tensor
    ids: Sequence[str]
    truth: Tensor | None = None
    truth_defined: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


class Source(ABC):
    """An opened image source: a fixed, ordered list of readable images.

    Attributes:
        name: what was asked for, as written.
        ids: stable identifiers in order, unreadable images already left out.
        labels: one class index an image, -1 where unknown.
        class_names: names by class index, empty where unknown.
        skipped: unreadable images by name, with the reason.
        digest: hash of what decides the content (files, seed, parameters).
        notes: what was assumed or left out, one sentence each.
    """

    name: str
    ids: Sequence[str]
    labels: Sequence[int]
    class_names: Sequence[str] = ()
    skipped: Mapping[str, str] = {}
    digest: str = ""
    notes: Sequence[str] = ()

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Samples:
        """The images at these positions, in this order."""

    def concepts(self, indices: Sequence[int]) -> ConceptMasks | None:
        """Masks of every concept on these images, None where the source knows none by name."""
        return None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Dataset(ABC):
    """An image source: a frozen dataclass of where and what; opening it reads no pixels."""

    card: ClassVar[DatasetCard]

    @abstractmethod
    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """The images, ready to be read.

        Args:
            geometry: how images (and masks with them) are brought to the classifier's input.
            limit: at most so many images, chosen by the seed, balanced over classes.
            seed: the seed of that choice.
            classes: how many classes the model tells apart, to map labels by themselves.

        Raises:
            DataError: nothing there, or not in the expected layout; the message shows it.
        """
