"""PASCAL VOC in the official layout: segmentations or boxes as truth."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from xbench.contracts import Dataset, DatasetCard, Geometry, LabelName, Source
from xbench.errors import DataError
from xbench.registry import DATASETS

from ._annotations import fit_labels, read_boxes
from ._files import Choice, Item, check_area, open_items
from ._finding import folder_of, part_of
from ._labelmaps import LabelMaps
from ._masks import boxes_mask, read_mask

CLASSES = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
_LAYOUT = (
    "ROOT/VOCdevkit/VOC2012 with JPEGImages, Annotations, ImageSets and, for segmentations, "
    "SegmentationClass"
)
_VOID = 255


@DATASETS.register
@dataclass(frozen=True)
class Voc(Dataset):
    """PASCAL VOC images; the label is the class that covers most of the image.

    The truth is all pixels (or boxes) of that class; `extras["others"]` has those of the others.

    Attributes:
        root: the folder that holds VOCdevkit, or VOCdevkit, or one of its years.
        split: name of a list in ImageSets: "val", "train", "trainval" or "test".
        masks: "segmentation" for the pixels of objects, "boxes" for their boxes.
        year: the edition.
        single: leave out images that show several classes.
        min_area, max_area: share of the input that the truth may cover.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="voc",
        summary="PASCAL VOC, segmentations or boxes of the image's main class.",
        paper="Everingham et al., The PASCAL visual object classes challenge, 2010",
        argument="ROOT",
        layout=_LAYOUT,
        truth="pixels (or boxes) of the class that covers most of the image",
    )

    root: str
    split: str = "val"
    masks: Literal["segmentation", "boxes"] = "segmentation"
    year: str = "2012"
    single: bool = False
    min_area: float = 0.0
    max_area: float = 1.0

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`."""
        given = folder_of(self.root, "voc:ROOT", _LAYOUT)
        year = f"VOC{self.year}"
        places = (f"VOCdevkit/{year}/JPEGImages", f"{year}/JPEGImages", "JPEGImages")
        root = part_of(given, places, "voc:ROOT", _LAYOUT).parent
        segmented = self.masks == "segmentation"
        listing = f"ImageSets/{'Segmentation' if segmented else 'Main'}/{self.split}.txt"
        names = part_of(root, [listing], "voc:ROOT", _LAYOUT).read_text().split()
        folder = "SegmentationClass" if segmented else "Annotations"
        truths = part_of(root, [folder], "voc:ROOT", _LAYOUT)
        read = _segmentation if segmented else _boxes
        items, unread, own = [], {}, []
        for name in names:
            path = truths / f"{name}.{'png' if segmented else 'xml'}"
            try:
                areas = _areas(read(path))
            except DataError as error:
                unread[f"{name}.jpg"] = str(error)
                continue
            if not areas or (self.single and len(areas) > 1):
                continue
            main = max(areas, key=lambda index: areas[index])
            own.append(main)
            image = root / "JPEGImages" / f"{name}.jpg"
            known = _labels_reader(path) if segmented else None
            items.append(Item(image.name, image, main, _drawer(path, read, main), known))
        if not items:
            raise DataError(f"No image of '{listing}' has an object of a known class.")
        labels, notes = fit_labels(own, len(CLASSES), classes, "PASCAL VOC")
        items = [replace(item, label=label) for item, label in zip(items, labels, strict=True)]
        choice = Choice(limit, seed, check_area(self.min_area, self.max_area))
        source = open_items(f"voc:{self.root}", items, geometry, choice, notes)
        source.skipped = {**source.skipped, **unread}
        source.class_names = CLASSES
        source.label_names = {n: LabelName(name, "object") for n, name in enumerate(CLASSES, 1)}
        return source


Layers = Mapping[int, NDArray[np.bool_]]


def _segmentation(path: Path, size: tuple[int, int] | None = None) -> Layers:
    """The pixels of each class in a segmentation; the values are class index plus one."""
    values = read_mask(path)
    present = [int(value) for value in np.unique(values) if 0 < value < _VOID]
    if any(value > len(CLASSES) for value in present):
        raise DataError(f"its mask {path.name} has class numbers that VOC has not")
    return {value - 1: values == value for value in present}


def _boxes(path: Path, size: tuple[int, int] | None = None) -> Layers:
    """The boxes of each class; corners count from one and are inclusive."""
    boxes = [box for box in read_boxes(path) if box.name in CLASSES and not box.difficult]
    corners = [(box.corners[0] - 1, box.corners[1] - 1, *box.corners[2:]) for box in boxes]
    if size is None:
        size = (
            int(max((corner[2] for corner in corners), default=0)),
            int(max((corner[3] for corner in corners), default=0)),
        )
    by_class: dict[int, list[tuple[float, float, float, float]]] = {}
    for box, corner in zip(boxes, corners, strict=True):
        by_class.setdefault(CLASSES.index(box.name), []).append(corner)
    return {index: boxes_mask(size, found) for index, found in by_class.items()}


def _areas(layers: Layers) -> dict[int, int]:
    return {index: int(mask.sum()) for index, mask in layers.items() if mask.any()}


def _labels_reader(path: Path) -> Callable[[], LabelMaps]:
    """Reads the pixels of all classes of a segmentation, when they are asked for."""

    def read() -> LabelMaps:
        values = read_mask(path)
        numbers = np.where(values < _VOID, values, 0).astype(np.int32)
        return LabelMaps(maps=[numbers], kinds=frozenset(["object"]))

    return read


def _drawer(
    path: Path, read: Callable[[Path, tuple[int, int] | None], Layers], main: int
) -> Callable[[tuple[int, int]], Mapping[str, NDArray[np.bool_]]]:
    def draw(size: tuple[int, int]) -> Mapping[str, NDArray[np.bool_]]:
        layers = read(path, size)
        others = np.zeros_like(layers[main])
        for index, mask in layers.items():
            if index != main:
                others |= mask
        return {"truth": layers[main], "others": others & ~layers[main]}

    return draw
