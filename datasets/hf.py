"""Image classification data sets of the Hugging Face hub, where the library is installed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from xbench.contracts import Dataset, DatasetCard, Geometry, Source
from xbench.errors import DataError
from xbench.optional import optional
from xbench.registry import DATASETS

from ._annotations import fit_labels
from ._files import Choice, Item, open_items

_library = optional("datasets", "install it with `pip install datasets`")


@DATASETS.register
@dataclass(frozen=True)
class Hub(Dataset):
    """A data set by its name on the hub, or a local folder that the library can load.

    Attributes:
        name: for example "ylecun/mnist", or a folder.
        split: "test", "validation", "train" ...
        image, label: columns; empty for the first image and the first class column.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="hf",
        summary="An image data set of the Hugging Face hub (needs datasets).",
        argument="NAME",
        layout="a data set with a column of images and, where known, one of classes",
    )

    name: str
    split: str = "test"
    image: str = ""
    label: str = ""

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        if _library.reason is not None:
            raise DataError(f"hf:{self.name} needs the datasets library: {_library.reason}")
        table = self._load()
        image = self._column(table, self.image, "Image")
        if image is None:
            raise DataError(f"hf:{self.name} has no column of images; it has {_columns(table)}.")
        label = self._column(table, self.label, "ClassLabel")
        names = list(getattr(table.features[label], "names", [])) if label else []
        raw = table.cast_column(image, _library.Image(decode=False))
        labels = [-1] * len(raw) if label is None else _integers(raw[label], label)
        own = len(names) or max(labels, default=-1) + 1
        fitted, notes = fit_labels(labels, own, classes, self.name)
        items = [
            Item(f"{self.split}/{index:07d}", _encoded(raw, index, image))
            for index in range(len(raw))
        ]
        items = [replace(item, label=value) for item, value in zip(items, fitted, strict=True)]
        if not items:
            raise DataError(f"hf:{self.name} has no images in its split {self.split}.")
        source = open_items(f"hf:{self.name}", items, geometry, Choice(limit, seed), notes)
        source.class_names = names
        return source

    def _load(self) -> Any:
        try:
            return _library.load_dataset(self.name, split=self.split)
        except Exception as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"hf:{self.name} cannot be loaded ({first}).") from error

    def _column(self, table: Any, asked: str, kind: str) -> str | None:
        if asked and asked not in table.features:
            raise DataError(f"hf:{self.name} has no column '{asked}'; it has {_columns(table)}.")
        found = (name for name, value in table.features.items() if type(value).__name__ == kind)
        return asked or next(found, None)


def _columns(table: Any) -> str:
    return ", ".join(table.features)


def _integers(values: Sequence[Any], column: str) -> list[int]:
    if not all(isinstance(value, int) for value in values):
        raise DataError(f"The column '{column}' does not hold class indices.")
    return [int(value) for value in values]


def _encoded(table: Any, index: int, column: str) -> Callable[[], bytes]:
    def read() -> bytes:
        value = table[index][column]
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        try:
            return Path(value["path"]).read_bytes()
        except (OSError, TypeError) as error:
            raise DataError(f"no image data ({error})") from error

    return read
