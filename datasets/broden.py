"""Broden, the broadly and densely labeled data of network dissection, in its official layout."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from xbench.contracts import Dataset, DatasetCard, Geometry, LabelName, Source
from xbench.errors import DataError
from xbench.registry import DATASETS

from ._files import Choice, Item, open_items
from ._finding import folder_of, part_of
from ._labelmaps import LabelMaps, read_color_numbers

_LAYOUT = (
    "ROOT/index.csv, ROOT/label.csv and ROOT/images as unpacked from broden1_224 (or _227, _384)"
)
_FACTS = ("image", "split", "ih", "iw", "sh", "sw")
_CATEGORY = re.compile(r"([^;()]+)\((\d+)\)")


@DATASETS.register
@dataclass(frozen=True)
class Broden(Dataset):
    """Images with objects, parts, materials, colors, scenes and textures, for network dissection.

    `index.csv` names for every image and category the labels: files whose pixels are
    red + 256 green, or plain numbers for all of the image, several of them with semicolons between.
    `label.csv` names the numbers. A concept's kind is the category in which it is labeled most.

    Attributes:
        root: the folder with index.csv.
        split: "train" or "val", "" for both.
        categories: of `color`, `object`, `part`, `material`, `scene`, `texture`, with plus signs
            between; "" for all that there are.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="broden",
        summary="Broden: objects, parts, materials, colors, scenes and textures, for dissection.",
        paper="Bau et al., Network dissection, 2017",
        argument="ROOT",
        layout=_LAYOUT,
        labels=False,
    )

    root: str
    split: str = ""
    categories: str = ""

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        root = folder_of(self.root, "broden:ROOT", _LAYOUT)
        index = part_of(root, ["index.csv"], "broden:ROOT", _LAYOUT)
        names = _label_names(part_of(root, ["label.csv"], "broden:ROOT", _LAYOUT))
        folder = part_of(root, ["images"], "broden:ROOT", _LAYOUT)
        rows = _rows(index, ("image", "split"))
        wanted = self._wanted([name for name in rows[0] if name not in _FACTS])
        items = [
            Item(row["image"], folder / row["image"], labels=_reader(folder, row, wanted))
            for row in rows
            if self.split in ("", row["split"]) and any(row.get(name) for name in wanted)
        ]
        if not items:
            raise DataError(
                f"'{index}' lists no image of split '{self.split or 'any'}' with labels of "
                f"{', '.join(wanted)}."
            )
        source = open_items(f"broden:{self.root}", items, geometry, Choice(limit, seed))
        source.label_names = {n: one for n, one in names.items() if one.kind in wanted}
        return source

    def _wanted(self, known: Sequence[str]) -> list[str]:
        wanted = [name.strip() for name in self.categories.split("+") if name.strip()]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise DataError(
                f"broden:{self.root} has no category '{unknown[0]}'; it has {', '.join(known)}."
            )
        return wanted or list(known)


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file by column name."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [{str(k): (v or "").strip() for k, v in row.items()} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise DataError(f"'{path}' cannot be read as comma-separated text ({error}).") from error
    missing = [name for name in needed if not rows or name not in rows[0]]
    if missing:
        raise DataError(f"'{path}' has no column {missing[0]}; broden:ROOT expects {_LAYOUT}.")
    return rows


def _label_names(path: Path) -> dict[int, LabelName]:
    """What each number stands for; its kind is the category that has most images with it."""
    names = {}
    for row in _rows(path, ("number", "name", "category")):
        counts = {name.strip(): int(count) for name, count in _CATEGORY.findall(row["category"])}
        if row["number"].isdecimal() and counts:
            names[int(row["number"])] = LabelName(row["name"], max(counts, key=counts.__getitem__))
    if not names:
        raise DataError(f"'{path}' names no labels; broden:ROOT expects {_LAYOUT}.")
    return names


def _reader(
    folder: Path, row: Mapping[str, str], categories: Sequence[str]
) -> Callable[[], LabelMaps]:
    """Reads the labels of one image, when they are asked for."""
    given = {name: [e for e in row.get(name, "").split(";") if e] for name in categories}

    def read() -> LabelMaps:
        entries = [entry for listed in given.values() for entry in listed]
        return LabelMaps(
            maps=[read_color_numbers(folder / entry) for entry in entries if not entry.isdecimal()],
            whole=[int(entry) for entry in entries if entry.isdecimal()],
            kinds=frozenset(name for name, listed in given.items() if listed),
        )

    return read
