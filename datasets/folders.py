"""Folders of images: any folder, or one folder a class."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from xbench.contracts import Dataset, DatasetCard, Geometry, Source
from xbench.errors import DataError
from xbench.registry import DATASETS

from ._files import Choice, Item, open_items
from ._finding import folder_of, walk_images
from ._images import SUFFIXES
from ._synsets import INDEX

_SYNSET = re.compile(r"n\d{8}")


@DATASETS.register
@dataclass(frozen=True)
class Images(Dataset):
    """Any folder of images, searched with its subfolders, or one image; the classes are unknown.

    What is explained is each image's most probable class.

    Attributes:
        path: the folder, or one image file.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="images",
        summary="Any folder of images; explained is the model's own prediction.",
        argument="DIR",
        layout="a folder with image files (jpg, png, webp ...), in subfolders or not",
        labels=False,
    )

    path: str

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        given = Path(self.path).expanduser()
        if given.is_file() and given.suffix.lower() in SUFFIXES:
            items = [Item(given.name, given)]
        else:
            root = folder_of(self.path, "images:DIR", self.card.layout)
            items = [Item(path.relative_to(root).as_posix(), path) for path in walk_images(root)]
        if not items:
            raise DataError(_no_images(self.path, "images:DIR", self.card.layout))
        return open_items(f"images:{self.path}", items, geometry, Choice(limit, seed))


@DATASETS.register
@dataclass(frozen=True)
class ImageFolder(Dataset):
    """One folder a class; classes are numbered by the sorted names of their folders.

    Where all folders carry ImageNet synset ids (n01440764) and the model tells 1000 classes
    apart, each gets its own ImageNet index, whichever folders are there. Any other folders must be
    as many as the model's classes, or be listed in a file.

    Attributes:
        path: the folder of class folders.
        classes: a text file with one folder name a line, in the order of the class indices; empty
            for the sorted order.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="imagefolder",
        summary="One folder a class, numbered in sorted order; ImageNet synsets get their index.",
        argument="DIR",
        layout="DIR/<class>/<image>, one folder a class, for example DIR/cat/1.jpg",
    )

    path: str
    classes: str = ""

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        root = folder_of(self.path, "imagefolder:DIR", self.card.layout)
        folders = sorted(
            entry.name
            for entry in root.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        )
        found = {name: walk_images(root / name) for name in folders}
        names = [name for name in folders if found[name]]
        if not names:
            if walk_images(root):
                raise DataError(
                    f"'{self.path}' has images, but no class folders; imagefolder:DIR expects "
                    f"{self.card.layout} (or use images:{self.path})."
                )
            raise DataError(_no_images(self.path, "imagefolder:DIR", self.card.layout))
        indices, notes = self._indices(names, classes)
        items = [
            Item(path.relative_to(root).as_posix(), path, indices[name])
            for name in names
            for path in found[name]
        ]
        source = open_items(f"imagefolder:{self.path}", items, geometry, Choice(limit, seed), notes)
        source.class_names = [] if _are_synsets(names) else _by_index(indices)
        return source

    def _indices(
        self, names: Sequence[str], classes: int | None
    ) -> tuple[dict[str, int], list[str]]:
        if self.classes:
            order = _listed(Path(self.classes).expanduser())
            unknown = [name for name in names if name not in order]
            if unknown:
                raise DataError(f"The folder '{unknown[0]}' is not listed in {self.classes}.")
            return {name: index for index, name in enumerate(order)}, []
        if _are_synsets(names) and classes in (None, 1000):
            strange = [name for name in names if name not in INDEX]
            if strange and classes == 1000:
                raise DataError(
                    f"The folder '{strange[0]}' is none of the 1000 ImageNet classes; move it away."
                )
            if not strange:
                note = f"{len(names)} synset folders mapped to their ImageNet class indices."
                return {name: INDEX[name] for name in names}, [note]
        if classes is not None and len(names) != classes:
            raise DataError(
                f"'{self.path}' has {len(names)} class folders with images, the model tells "
                f"{classes} classes apart; list the folders in the order of the classes in a text "
                f"file and write imagefolder:{self.path}[classes=FILE], or use images:{self.path}."
            )
        return {name: index for index, name in enumerate(names)}, []


def _are_synsets(names: Sequence[str]) -> bool:
    return all(_SYNSET.fullmatch(name) for name in names)


def _by_index(indices: dict[str, int]) -> list[str]:
    return [name for name, _ in sorted(indices.items(), key=lambda pair: pair[1])]


def _listed(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The list of classes {path} cannot be read ({error}).") from error
    return [line for line in lines if line]


def _no_images(path: str, kind: str, layout: str) -> str:
    return f"'{path}' has no images; {kind} expects {layout}."
