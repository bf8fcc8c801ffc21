"""ImageNet (ILSVRC 2012) in the official layout, with the localization boxes as masks."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from xbench.contracts import Dataset, DatasetCard, Geometry, Source
from xbench.errors import DataError
from xbench.registry import DATASETS

from ._annotations import fit_labels, read_boxes
from ._files import Choice, Item, check_area, open_items
from ._finding import folder_of, part_of, walk_images
from ._masks import boxes_mask
from ._synsets import INDEX

_LAYOUT = (
    "ROOT/ILSVRC/Data/CLS-LOC/val/*.JPEG with ROOT/ILSVRC/Annotations/CLS-LOC/val/*.xml, or "
    "ROOT/val/<synset>/*.JPEG with boxes in ROOT/annotations/val"
)


@DATASETS.register
@dataclass(frozen=True)
class ImageNet(Dataset):
    """ImageNet images with their class, and the boxes of objects of that class as masks.

    A class comes from the synset folder of the image, else from LOC_<split>_solution.csv, else from
    the image's own boxes, else from the development kit.

    Attributes:
        root: the folder that holds ILSVRC, or val and train.
        split: "val" or "train".
        min_area, max_area: share of the input that the boxes may cover.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="imagenet",
        summary="ImageNet-1k in the official layout, localization boxes as masks.",
        paper="Russakovsky et al., ImageNet large scale visual recognition challenge, 2015",
        argument="ROOT",
        layout=_LAYOUT,
        truth="boxes around the objects of the image's class",
    )

    root: str
    split: Literal["val", "train"] = "val"
    min_area: float = 0.0
    max_area: float = 1.0

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        root = folder_of(self.root, "imagenet:ROOT", _LAYOUT)
        middle = f"CLS-LOC/{self.split}"
        images = part_of(
            root,
            (f"ILSVRC/Data/{middle}", f"Data/{middle}", self.split),
            "imagenet:ROOT",
            _LAYOUT,
        )
        boxes = _first(
            root,
            f"ILSVRC/Annotations/{middle}",
            f"Annotations/{middle}",
            f"annotations/{self.split}",
            f"bbox/{self.split}",
        )
        files = walk_images(images)
        if not files:
            raise DataError(f"'{images}' has no images; imagenet:ROOT expects {_LAYOUT}.")
        drawn = {path.stem: path for path in sorted(boxes.rglob("*.xml"))} if boxes else {}
        synsets = _synsets(root, files, drawn, self.split)
        labels, notes = fit_labels([INDEX[s] for s in synsets], 1000, classes, "ImageNet")
        if not drawn:
            notes.append("No boxes were found (Annotations/CLS-LOC), so there is no truth.")
        items = [
            Item(
                path.relative_to(images).as_posix(),
                path,
                label,
                _drawer(drawn[path.stem], synset) if path.stem in drawn else None,
            )
            for path, synset, label in zip(files, synsets, labels, strict=True)
        ]
        choice = Choice(limit, seed, check_area(self.min_area, self.max_area))
        return open_items(f"imagenet:{self.root}", items, geometry, choice, notes)


def _drawer(
    path: Path, synset: str
) -> Callable[[tuple[int, int]], Mapping[str, NDArray[np.bool_]]]:
    def draw(size: tuple[int, int]) -> Mapping[str, NDArray[np.bool_]]:
        boxes = [box.corners for box in read_boxes(path) if box.name == synset]
        return {"truth": boxes_mask(size, boxes)} if boxes else {}

    return draw


def _synsets(root: Path, files: Sequence[Path], drawn: Mapping[str, Path], split: str) -> list[str]:
    """The class of every image, by the first source that knows it."""
    if all(path.parent.name in INDEX for path in files):
        return [path.parent.name for path in files]
    table = _first(root, f"LOC_{split}_solution.csv", f"ILSVRC/LOC_{split}_solution.csv")
    known = _solution(table) if table else _devkit(root, files, split)
    found = []
    for path in files:
        synset = known.get(path.stem) or _boxed(drawn.get(path.stem))
        if synset not in INDEX:
            raise DataError(
                f"The class of {path.name} is not known: it lies in no synset folder, and there is "
                f"neither LOC_{split}_solution.csv nor a box of it nor the development kit; "
                f"imagenet:ROOT expects {_LAYOUT}."
            )
        found.append(synset)
    return found


def _boxed(path: Path | None) -> str:
    boxes = read_boxes(path) if path is not None else []
    return boxes[0].name if boxes else ""


def _solution(path: Path) -> dict[str, str]:
    with path.open(newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.reader(handle) if len(row) == 2 and row[1].strip()]
    return {name: prediction.split()[0] for name, prediction in rows}


def _devkit(root: Path, files: Sequence[Path], split: str) -> dict[str, str]:
    """Classes of validation images from the development kit's ground truth, where it is there."""
    base = _first(root, "ILSVRC2012_devkit_t12/data", "devkit/data", "data")
    if base is None or split != "val":
        return {}
    truth, meta = base / "ILSVRC2012_validation_ground_truth.txt", base / "meta.mat"
    if not truth.is_file() or not meta.is_file():
        return {}
    try:
        rows = np.atleast_1d(loadmat(str(meta), squeeze_me=True)["synsets"])
        synset = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
        numbers = [int(line) for line in truth.read_text().split()]
    except Exception as error:
        raise DataError(f"The development kit in '{base}' cannot be read ({error}).") from error
    known = {}
    for path in files:
        digits = path.stem.rpartition("_")[2]
        if digits.isdecimal() and 0 < int(digits) <= len(numbers):
            known[path.stem] = synset.get(numbers[int(digits) - 1], "")
    return known


def _first(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).exists()), None)
