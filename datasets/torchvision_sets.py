"""Image classification data sets that torchvision reads."""

import inspect
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from xbench.contracts import Dataset, DatasetCard, Geometry, Source
from xbench.errors import DataError
from xbench.models.built import nearest
from xbench.optional import optional
from xbench.registry import DATASETS

from ._annotations import fit_labels
from ._files import Choice, Item, open_items

_library = optional("torchvision.datasets")
_LABELS = ("targets", "labels", "_labels", "y")
_SAMPLES = ("samples", "_samples", "imgs")


@DATASETS.register
@dataclass(frozen=True)
class Torchvision(Dataset):
    """A data set of `torchvision.datasets`, already on disk.

    Attributes:
        name: the class, for example "Flowers102".
        root: the folder that torchvision calls root.
        split: handed on as `split`, or as `train` where the class asks for that.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="torchvision",
        summary="A data set of torchvision.datasets, for example Flowers102.",
        argument="NAME",
        layout="torchvision:NAME[root=DIR,split=test], DIR being what torchvision calls root",
    )

    name: str
    root: str = "."
    split: str = "test"

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        table = self._load()
        label = f"torchvision:{self.name}"
        labels = _labels(table, label)
        names = [str(name) for name in getattr(table, "classes", [])]
        own = max(len(names), max(labels, default=-1) + 1)
        fitted, notes = fit_labels(labels, own, classes, self.name)
        items = [
            Item(f"{self.split}/{index:07d}", _encoded(table, index))
            for index in range(len(labels))
        ]
        items = [replace(item, label=value) for item, value in zip(items, fitted, strict=True)]
        if not items:
            raise DataError(f"{label} has no images in its split {self.split}.")
        source = open_items(label, items, geometry, Choice(limit, seed), notes)
        source.class_names = names
        return source

    def _load(self) -> Any:
        known = _library.__all__
        if self.name not in known:
            hint = nearest(self.name, known)
            raise DataError(f"torchvision has no data set '{self.name}'.{hint}")
        factory = getattr(_library, self.name)
        accepted = inspect.signature(factory).parameters
        options: dict[str, Any] = {}
        if "root" in accepted:
            options["root"] = str(Path(self.root).expanduser())
        if "train" in accepted:
            options["train"] = self.split == "train"
        elif "split" in accepted:
            options["split"] = self.split
        try:
            return factory(**options)
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"torchvision:{self.name} cannot be read from '{self.root}' ({first}); download "
                f"it with torchvision.datasets.{self.name}(root=..., download=True) and write "
                f"torchvision:{self.name}[root=DIR]."
            ) from error


def _labels(table: Any, name: str) -> list[int]:
    """The label of every image, without decoding images where the data set keeps them apart."""
    for attribute in _LABELS:
        values = getattr(table, attribute, None)
        if values is not None and len(values) == len(table):
            return _integers(values, name)
    for attribute in _SAMPLES:
        values = getattr(table, attribute, None)
        if values is not None and len(values) == len(table):
            return _integers([value[1] for value in values], name)
    return _integers([table[index][1] for index in range(len(table))], name)


def _integers(values: Sequence[Any] | torch.Tensor, name: str) -> list[int]:
    plain = values.tolist() if isinstance(values, torch.Tensor) else list(values)
    try:
        return [int(value) for value in plain]
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} has no class indices; it is not for classification.") from error


def _encoded(table: Any, index: int) -> Callable[[], bytes]:
    def encode() -> bytes:
        try:
            image = table[index][0]
        except Exception as error:
            raise DataError(str(error)) from error
        if not isinstance(image, Image.Image):
            raise DataError(f"a {type(image).__name__} instead of an image")
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    return encode
