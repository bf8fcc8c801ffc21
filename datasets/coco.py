"""COCO in the official layout: instance masks of the image's main class as truth."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xbench.contracts import Dataset, DatasetCard, Geometry, Source
from xbench.errors import DataError
from xbench.registry import DATASETS

from ._annotations import fit_labels
from ._files import Choice, Item, check_area, open_items
from ._finding import folder_of, part_of
from ._regions import region

_LAYOUT = "ROOT/val2017/*.jpg and ROOT/annotations/instances_val2017.json"


@dataclass(frozen=True)
class _Object:
    category: int
    area: float
    segmentation: Any


@DATASETS.register
@dataclass(frozen=True)
class Coco(Dataset):
    """COCO images; the label is the category whose objects cover most of the image.

    The truth is all pixels of that category; `extras["others"]` has those of the others. Categories
    are numbered from 0 in the order of their ids (so there are 80 classes, not 90).

    Attributes:
        root: the folder that holds annotations and the image folders.
        split: "val2017", "train2017" ...
        category: only images that show this category, which then is the label; empty for all.
        single: leave out images that show several categories.
        min_area, max_area: share of the input that the truth may cover.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="coco",
        summary="COCO, pixels of the image's main category (polygons and run lengths).",
        paper="Lin et al., Microsoft COCO: common objects in context, 2014",
        argument="ROOT",
        layout=_LAYOUT,
        truth="pixels of the category that covers most of the image",
    )

    root: str
    split: str = "val2017"
    category: str = ""
    single: bool = False
    min_area: float = 0.0
    max_area: float = 1.0

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        root = folder_of(self.root, "coco:ROOT", _LAYOUT)
        images = part_of(root, [self.split, f"images/{self.split}"], "coco:ROOT", _LAYOUT)
        listing = f"annotations/instances_{self.split}.json"
        content = _read(part_of(root, [listing], "coco:ROOT", _LAYOUT))
        try:
            names, files, objects = _index(content)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"'{listing}' is no COCO instances file ({error!r}).") from error
        wanted = self._wanted(names)
        items = []
        for number in sorted(objects, key=lambda number: files[number]):
            main = _main(objects[number], wanted, self.single)
            if main is not None:
                masks = _drawer(objects[number], main)
                items.append(Item(files[number], images / files[number], main, masks))
        if not items:
            raise DataError(f"No image of '{listing}' shows {self.category or 'an object'}.")
        own = [item.label for item in items]
        labels, notes = fit_labels(own, len(names), classes, "COCO")
        items = [replace(item, label=label) for item, label in zip(items, labels, strict=True)]
        choice = Choice(limit, seed, check_area(self.min_area, self.max_area))
        source = open_items(f"coco:{self.root}", items, geometry, choice, notes)
        source.class_names = names
        return source

    def _wanted(self, names: Sequence[str]) -> int | None:
        if not self.category:
            return None
        if self.category not in names:
            raise DataError(f"COCO has no category '{self.category}'; it has {', '.join(names)}.")
        return names.index(self.category)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' cannot be read as JSON ({error}).") from error


def _index(content: Any) -> tuple[list[str], dict[int, str], dict[int, list[_Object]]]:
    """Category names in order, file names by image, objects by image."""
    categories = sorted(content["categories"], key=lambda category: int(category["id"]))
    place = {category["id"]: index for index, category in enumerate(categories)}
    files = {image["id"]: str(image["file_name"]) for image in content["images"]}
    objects: dict[int, list[_Object]] = {}
    for entry in content["annotations"]:
        if entry["image_id"] in files:
            one = _Object(place[entry["category_id"]], float(entry["area"]), entry["segmentation"])
            objects.setdefault(entry["image_id"], []).append(one)
    return [str(category["name"]) for category in categories], files, objects


def _main(objects: Sequence[_Object], wanted: int | None, single: bool) -> int | None:
    areas: dict[int, float] = {}
    for one in objects:
        areas[one.category] = areas.get(one.category, 0.0) + one.area
    if (single and len(areas) > 1) or (wanted is not None and wanted not in areas):
        return None
    return wanted if wanted is not None else max(sorted(areas), key=lambda key: areas[key])


def _drawer(
    objects: Sequence[_Object], main: int
) -> Callable[[tuple[int, int]], Mapping[str, NDArray[np.bool_]]]:
    def draw(size: tuple[int, int]) -> Mapping[str, NDArray[np.bool_]]:
        truth = np.zeros((size[1], size[0]), dtype=bool)
        others = np.zeros_like(truth)
        for one in objects:
            target = truth if one.category == main else others
            target |= region(one.segmentation, size)
        return {"truth": truth, "others": others & ~truth}

    return draw
