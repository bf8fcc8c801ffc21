"""Oxford-IIIT Pet in the official layout: trimaps as truth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from xbench.contracts import Dataset, DatasetCard, Geometry, Source
from xbench.errors import DataError
from xbench.registry import DATASETS

from ._annotations import fit_labels
from ._files import Choice, Item, check_area, open_items
from ._finding import folder_of, part_of
from ._masks import read_mask

_LAYOUT = "ROOT/images/*.jpg, ROOT/annotations/trimaps/*.png and ROOT/annotations/test.txt"
_BREEDS = 37


@DATASETS.register
@dataclass(frozen=True)
class Pets(Dataset):
    """37 breeds of cats and dogs; the truth is the animal, `extras["border"]` its uncertain rim.

    Attributes:
        root: the folder that holds images and annotations, or the one around it.
        split: "test" or "trainval".
        min_area, max_area: share of the input that the animal may cover.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="pets",
        summary="Oxford-IIIT Pet, the animal's pixels from the trimaps.",
        paper="Parkhi et al., Cats and dogs, 2012",
        argument="ROOT",
        layout=_LAYOUT,
        truth="pixels of the animal without its uncertain rim",
    )

    root: str
    split: Literal["test", "trainval"] = "test"
    min_area: float = 0.0
    max_area: float = 1.0

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        given = folder_of(self.root, "pets:ROOT", _LAYOUT)
        places = ("images", "oxford-iiit-pet/images")
        root = part_of(given, places, "pets:ROOT", _LAYOUT).parent
        trimaps = part_of(root, ["annotations/trimaps"], "pets:ROOT", _LAYOUT)
        listing = part_of(root, [f"annotations/{self.split}.txt"], "pets:ROOT", _LAYOUT)
        items, names = [], [""] * _BREEDS
        for line in listing.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if len(words) < 2 or not words[1].isdecimal() or not 1 <= int(words[1]) <= _BREEDS:
                raise DataError(f"'{listing}' has the line '{line}'; expected NAME CLASS ...")
            name, label = words[0], int(words[1]) - 1
            names[label] = name.rpartition("_")[0].replace("_", " ")
            image = root / "images" / f"{name}.jpg"
            items.append(Item(image.name, image, label, _drawer(trimaps / f"{name}.png")))
        if not items:
            raise DataError(f"'{listing}' lists no images; pets:ROOT expects {_LAYOUT}.")
        own = [item.label for item in items]
        labels, notes = fit_labels(own, _BREEDS, classes, "Oxford-IIIT Pet")
        items = [replace(item, label=label) for item, label in zip(items, labels, strict=True)]
        choice = Choice(limit, seed, check_area(self.min_area, self.max_area))
        source = open_items(f"pets:{self.root}", items, geometry, choice, notes)
        source.class_names = names
        return source


def _drawer(path: Path) -> Callable[[tuple[int, int]], Mapping[str, NDArray[np.bool_]]]:
    def draw(size: tuple[int, int]) -> Mapping[str, NDArray[np.bool_]]:
        values = read_mask(path)
        return {"truth": values == 1, "border": values == 3}

    return draw
