"""A table of images: a CSV file with path, label and mask."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xbench.contracts import Dataset, DatasetCard, Geometry, Source
from xbench.errors import DataError
from xbench.registry import DATASETS

from ._files import Choice, Item, check_area, open_items
from ._masks import read_mask
from ._synsets import INDEX

_DIGITS = 9  # of a class index; more are no index
_LAYOUT = (
    "a first line with the column names path and, where known, label and mask, then one image a "
    "line; paths are relative to the table"
)


@DATASETS.register
@dataclass(frozen=True)
class Table(Dataset):
    """Images listed in a CSV file.

    Labels are class indices, ImageNet synset ids (for a model of 1000 classes), or names, which are
    numbered in sorted order. Masks are grey or palette images of the same size as their image.

    Attributes:
        file: the CSV file, separated by commas, semicolons or tabs.
        value: the mask's value that counts as truth, None for every value but zero.
        min_area, max_area: share of the input that the truth may cover.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="table",
        summary="A CSV file of path, label and mask.",
        argument="FILE.csv",
        layout=_LAYOUT,
        truth="the mask files, where given",
    )

    file: str
    value: int | None = None
    min_area: float = 0.0
    max_area: float = 1.0

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        path = Path(self.file).expanduser()
        rows = _rows(path)
        labels, names = _labels([row.get("label", "") for row in rows], self.file, classes)
        masked = any(row.get("mask") for row in rows)
        items = [
            Item(
                Path(row["path"]).as_posix(),
                path.parent / row["path"],
                label,
                _drawer(path.parent, row.get("mask", ""), self.value) if masked else None,
            )
            for row, label in zip(rows, labels, strict=True)
        ]
        _no_twice([item.id for item in items], self.file)
        choice = Choice(limit, seed, check_area(self.min_area, self.max_area))
        source = open_items(f"table:{self.file}", items, geometry, choice)
        source.class_names = names
        return source


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise DataError(f"There is no table '{path}'; table:FILE.csv expects {_LAYOUT}.")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The table '{path}' cannot be read as UTF-8 text ({error}).") from error
    if any("\0" in line for line in lines):
        raise DataError(f"The table '{path}' has zero bytes in it, so it is no text.")
    first = lines[0] if lines else ""
    delimiter = next((mark for mark in ("\t", ";") if mark in first), ",")
    header = [name.strip().lower() for name in first.split(delimiter)]
    if "path" not in header:
        raise DataError(f"The table '{path}' has no column path; table:FILE.csv expects {_LAYOUT}.")
    reader = csv.reader(lines[1:], delimiter=delimiter)
    rows = []
    for number, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        if not row.get("path"):
            raise DataError(f"Row {number} of the table '{path}' has no path.")
        rows.append(row)
    if not rows:
        raise DataError(f"The table '{path}' lists no images; table:FILE.csv expects {_LAYOUT}.")
    return rows


def _labels(
    texts: Sequence[str], file: str, classes: int | None
) -> tuple[list[int], Sequence[str]]:
    given = [text for text in texts if text]
    if all(text.isdecimal() for text in given):
        longest = max(given, key=len, default="")
        if len(longest) > _DIGITS:
            raise DataError(
                f"The table '{file}' has the label {longest[:20]}; labels are class indices from 0 "
                "or names of classes."
            )
        labels = [int(text) if text else -1 for text in texts]
        if classes is not None and max(labels, default=-1) >= classes:
            raise DataError(
                f"The table '{file}' has the label {max(labels)}; the model tells {classes} "
                "classes apart, numbered from 0."
            )
        return labels, ()
    if classes in (None, 1000) and all(text in INDEX for text in given):
        return [INDEX.get(text, -1) for text in texts], ()
    names = sorted(set(given))
    if classes is not None and len(names) != classes:
        raise DataError(
            f"The table '{file}' has {len(names)} names of classes, the model tells {classes} "
            "classes apart; write class indices instead of names."
        )
    place = {name: index for index, name in enumerate(names)}
    return [place.get(text, -1) for text in texts], names


def _no_twice(ids: Sequence[str], file: str) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise DataError(f"The table '{file}' lists {name} twice.")
        seen.add(name)


def _drawer(
    folder: Path, name: str, value: int | None
) -> Callable[[tuple[int, int]], Mapping[str, NDArray[np.bool_]]]:
    def draw(size: tuple[int, int]) -> Mapping[str, NDArray[np.bool_]]:
        if not name:
            return {}
        values = read_mask(folder / name)
        return {"truth": values != 0 if value is None else values == value}

    return draw
