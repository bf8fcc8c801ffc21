"""CIFAR-10 and CIFAR-100 as their authors distribute them, or as folders of images."""

import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from xbench.contracts import Dataset, DatasetCard, Geometry, Source
from xbench.errors import DataError, ParameterError
from xbench.registry import DATASETS

from ._annotations import fit_labels
from ._files import Choice, Item, open_items
from ._finding import folder_of
from .folders import ImageFolder

_SIDE = 32
_VALUES = 3 * _SIDE * _SIDE
_HEADER = f"P6 {_SIDE} {_SIDE} 255\n".encode()
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True)
class _Edition:
    classes: int
    folder: str
    batches: Mapping[str, tuple[str, ...]]
    meta: str
    labels: bytes
    names: bytes


_EDITIONS = {
    10: _Edition(
        10,
        "cifar-10-batches-py",
        {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
        "batches.meta",
        b"labels",
        b"label_names",
    ),
    100: _Edition(
        100,
        "cifar-100-python",
        {"train": ("train",), "test": ("test",)},
        "meta",
        b"fine_labels",
        b"fine_label_names",
    ),
}


@DATASETS.register
@dataclass(frozen=True)
class Cifar10(Dataset):
    """CIFAR images, 32 x 32, from the python batches or from folders of images.

    The batches are pickles; they are read by a loader that makes arrays and plain containers only.

    Attributes:
        root: the extracted archive, the folder around it, or a folder with one folder a class
            (in it, or below its folders train and test).
        split: "test" or "train".
        edition: 10 or 100 classes.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="cifar10",
        summary="CIFAR-10 (python batches, or one folder a class).",
        paper="Krizhevsky, Learning multiple layers of features from tiny images, 2009",
        argument="ROOT",
        layout="ROOT/cifar-10-batches-py/test_batch, or ROOT/test/<class>/<image>",
    )

    root: str
    split: Literal["test", "train"] = "test"
    edition: int = 10

    def __post_init__(self) -> None:
        if self.edition not in _EDITIONS:
            raise ParameterError(f"CIFAR has editions of 10 and 100 classes, not {self.edition}.")

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        edition = _EDITIONS[self.edition]
        kind = f"cifar{self.edition}:ROOT"
        layout = (
            f"ROOT/{edition.folder}/{edition.batches['test'][0]} (the extracted python version), "
            "or ROOT/test/<class>/<image>"
        )
        root = folder_of(self.root, kind, layout)
        batches = _batches(root, edition, self.split)
        if batches is None:
            return self._folders(root, geometry, limit=limit, seed=seed, layout=layout)
        items = [item for batch in batches for item in _items(batch, edition)]
        labels, notes = fit_labels(
            [item.label for item in items], edition.classes, classes, f"CIFAR-{self.edition}"
        )
        items = [replace(item, label=label) for item, label in zip(items, labels, strict=True)]
        name = f"cifar{self.edition}:{self.root}"
        source = open_items(name, items, geometry, Choice(limit, seed), notes)
        source.class_names = _class_names(batches[0].parent / edition.meta, edition)
        return source

    def _folders(
        self, root: Path, geometry: Geometry, *, limit: int | None, seed: int, layout: str
    ) -> Source:
        folder = root / self.split if (root / self.split).is_dir() else root
        found = [entry for entry in folder.iterdir() if entry.is_dir()]
        if len(found) != self.edition:
            archive = " (extract the archive first)" if any(root.glob("cifar*.tar.gz")) else ""
            raise DataError(
                f"'{self.root}' has neither CIFAR batches nor {self.edition} class folders"
                f"{archive}; cifar{self.edition}:ROOT expects {layout}."
            )
        return ImageFolder(str(folder)).open(geometry, limit=limit, seed=seed, classes=self.edition)


DATASETS.preset(
    "cifar100",
    Cifar10,
    card={
        "summary": "CIFAR-100, fine labels (python batches, or one folder a class).",
        "layout": "ROOT/cifar-100-python/test, or ROOT/test/<class>/<image>",
    },
    edition=100,
)


def _batches(root: Path, edition: _Edition, split: str) -> list[Path] | None:
    for folder in (root, root / edition.folder):
        files = [folder / name for name in edition.batches[split]]
        present = [file for file in files if file.is_file()]
        if present and len(present) < len(files):
            missing = next(file for file in files if not file.is_file())
            raise DataError(f"'{missing}' is missing; extract the whole archive.")
        if present:
            return files
    return None


def _items(batch: Path, edition: _Edition) -> list[Item]:
    content = read_batch(batch)
    data, labels = content.get(b"data"), content.get(edition.labels)
    ok = isinstance(data, np.ndarray) and data.ndim == 2 and data.dtype == np.uint8
    if not ok or data.shape[1] != _VALUES or not isinstance(labels, list):  # type: ignore[union-attr]
        raise DataError(f"'{batch}' is no CIFAR-{edition.classes} batch (data, labels).")
    assert isinstance(data, np.ndarray)
    valid = all(isinstance(label, int) and 0 <= label < edition.classes for label in labels)
    if len(labels) != len(data) or not valid:
        raise DataError(f"'{batch}' is damaged: its labels do not fit its images.")
    return [
        Item(f"{batch.name}/{index:05d}", _encoded(data, index), label)
        for index, label in enumerate(labels)
    ]


def _encoded(data: np.ndarray[Any, Any], index: int) -> Callable[[], bytes]:
    """One row (planes of red, green and blue) as a plain PPM image."""

    def encode() -> bytes:
        planes = data[index].reshape(3, _SIDE, _SIDE)
        return _HEADER + bytes(planes.transpose(1, 2, 0).tobytes())

    return encode


def _class_names(path: Path, edition: _Edition) -> list[str]:
    if not path.is_file():
        return []
    names = read_batch(path).get(edition.names)
    if not isinstance(names, list) or len(names) != edition.classes:
        raise DataError(f"'{path}' is damaged: it does not name {edition.classes} classes.")
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


class _Arrays(pickle.Unpickler):
    """Unpickles plain containers and numeric arrays; anything else is refused, nothing runs."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """The few names that arrays need."""
        if (module_name, global_name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
        return super().find_class(module_name, global_name)


def read_batch(path: Path) -> dict[bytes, Any]:
    """The dictionary of a CIFAR batch, keys as bytes, read without running code.

    Raises:
        DataError: unreadable, damaged, or more in it than arrays and plain containers.
    """
    try:
        content = _Arrays(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:
        raise DataError(f"'{path}' is no CIFAR batch ({error}).") from error
    if not isinstance(content, dict):
        raise DataError(f"'{path}' is no CIFAR batch (it holds a {type(content).__name__}).")
    return {k.encode() if isinstance(k, str) else k: v for k, v in content.items()}
