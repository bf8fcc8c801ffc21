"""Planted scenes: generated images whose class depends on known pixels only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from xbench.contracts import Dataset, DatasetCard, Geometry, Samples, Source
from xbench.errors import ParameterError
from xbench.registry import DATASETS
from xbench.streams import seed_of

from ._images import fit, to_pixels
from ._scenes import CLASSES, LEVELS, SIZE, Mask, Scenes, draw, keys_of, labels_of
from ._scenes_shapes import CLASS_NAMES, Bytes, Draws, Ints

_CHUNK = 64
_SPLITS = ("test", "train", "validation")


@DATASETS.register
@dataclass(frozen=True)
class Planted(Dataset):
    """Generated 64x64 scenes; the shape of one target object gives the class, nothing else does.

    A scene has a textured background, distractors (disks, bars, dots ...) whose shape, color, size
    and place are drawn without looking at the class, and one of eight shapes (ring, square,
    triangle, cross, tee, ell, cup, zigzag) at any angle. The truth is the mask of that object; the
    masks `distractors`, `others` (objects of other classes) and `watermark` come with it. Scenes
    are drawn in integer arithmetic from hashes: the same bytes on every machine.

    Attributes:
        count: number of scenes.
        level: "standard"; "clutter" (more distractors, rougher background), "crowd" (two objects
            of other classes: is the map about the class asked for?), "small", "faint", "texture"
            (loud stripes and checks on every object), "shortcut" (a watermark tells the class as
            well) or "conflict" (the watermark tells another class).
        split: "test", "train" or "validation"; no scene is in two of them.
        series: number of the series; another number, other scenes.
    """

    card: ClassVar[DatasetCard] = DatasetCard(
        name="planted",
        summary="Generated scenes; the shape of one object gives the class (8 classes).",
        layout="nothing on disk",
        truth="mask of the object that gives the class",
    )

    count: int = 1000
    level: str = "standard"
    split: str = "test"
    series: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ParameterError(f"planted[count=...] takes a positive number, not {self.count}.")
        if self.level not in LEVELS:
            raise ParameterError(
                f"planted[level=...] is one of {', '.join(LEVELS)}, not '{self.level}'."
            )
        if self.split not in _SPLITS:
            raise ParameterError(
                f"planted[split=...] is one of {', '.join(_SPLITS)}, not '{self.split}'."
            )

    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """See `Dataset.open`; for a model with another number of classes the labels are unknown."""
        return PlantedSource(self, geometry, limit, seed, known=classes in (None, CLASSES))


for _level, _summary in {
    "clutter": "Planted scenes with many distractors on a rough background.",
    "crowd": "Planted scenes with objects of three classes; the truth is the one asked for.",
    "small": "Planted scenes with small targets.",
    "faint": "Planted scenes with objects of low contrast.",
    "texture": "Planted scenes with loud patterns on every object, target or not.",
    "shortcut": "Planted scenes with a watermark that tells the class as well.",
    "conflict": "Planted scenes with a watermark that tells another class than the target.",
}.items():
    DATASETS.preset(f"planted-{_level}", Planted, card={"summary": _summary}, level=_level)


class PlantedSource(Source):
    """Opened planted scenes; they are drawn when they are read.

    Args:
        dataset: which scenes.
        geometry: the classifier's input; scenes are 64x64 before.
        limit: at most so many, balanced over classes.
        seed: decides which.
        known: whether labels mean something to the model.
    """

    def __init__(
        self, dataset: Planted, geometry: Geometry, limit: int | None, seed: int, *, known: bool
    ) -> None:
        self.name = "planted" if dataset.level == "standard" else f"planted-{dataset.level}"
        self.level = LEVELS[dataset.level]
        self.geometry = geometry
        self.series = f"xbench/planted/{dataset.level}/{dataset.split}/{dataset.series}"
        labels = labels_of(self.series, np.arange(dataset.count))
        self.indices = _choose(labels, limit, seed)
        self._labels = labels[self.indices]
        prefix = self.name
        if dataset.split != "test":
            prefix += f"-{dataset.split}"
        if dataset.series:
            prefix += f"-s{dataset.series}"
        self.ids = [f"{prefix}-{index:06d}" for index in self.indices]
        self.labels = self._labels.tolist() if known else [-1] * len(self.ids)
        self.class_names = list(CLASS_NAMES) if known else []
        self.digest = f"{seed_of(_fingerprint(), self.series, *self.ids):016x}"

    def read(self, indices: Sequence[int]) -> Samples:
        """The scenes at these positions, in this order."""
        chosen = np.asarray(indices, np.int64).reshape(-1)
        parts = [
            self._draw(chosen[start : start + _CHUNK])
            for start in range(0, max(1, len(chosen)), _CHUNK)
        ]
        masks = {
            kind: self._masks(np.concatenate([getattr(part, kind) for part in parts]))
            for kind in ("target", "distractors", "others", "watermark")
        }
        truth = masks.pop("target")
        return Samples(
            images=self._pixels(np.concatenate([part.pixels for part in parts])),
            labels=torch.tensor([self.labels[index] for index in indices], dtype=torch.int64),
            ids=[self.ids[index] for index in indices],
            truth=truth,
            truth_defined=truth.flatten(1).any(dim=1),
            extras={kind: mask for kind, mask in masks.items() if self._has(kind)},
        )

    def _draw(self, positions: Ints) -> Scenes:
        keys = keys_of(self.series, self.indices[positions])
        return draw(keys, self._labels[positions], self.level)

    def _has(self, kind: str) -> bool:
        if kind == "others":
            return self.level.others[1] > 1
        return kind != "watermark" or self.level.watermark != "none"

    @property
    def _native(self) -> bool:
        return self.geometry.crop in (None, (SIZE, SIZE)) and self.geometry.resize in (None, SIZE)

    def _pixels(self, pixels: Bytes) -> torch.Tensor:
        if self._native and self.geometry.channels == 3:
            return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div(255)
        fitted = [fit(Image.fromarray(array), self.geometry) for array in pixels]
        return torch.stack([to_pixels(image, self.geometry.channels) for image in fitted])

    def _masks(self, masks: Mask) -> torch.Tensor:
        if self._native:
            return torch.from_numpy(masks)
        pictures = [Image.fromarray(mask.astype(np.uint8) * 255) for mask in masks]
        fitted = [np.array(fit(picture, self.geometry, mask=True)) for picture in pictures]
        return torch.from_numpy(np.stack(fitted) > 127)


def _choose(labels: Ints, limit: int | None, seed: int) -> Ints:
    """Positions of at most `limit` scenes, as many of each class as of any other, in order."""
    positions = np.arange(len(labels))
    if limit is None or limit >= len(labels):
        return positions
    shuffled = np.argsort(Draws(keys_of(f"choose/{seed}", positions)).words("choose", 1)[:, 0])
    turn = np.empty_like(positions)
    for label in range(CLASSES):
        mine = shuffled[labels[shuffled] == label]
        turn[mine] = np.arange(len(mine))
    rank = np.empty_like(positions)
    rank[shuffled] = positions
    return np.sort(np.lexsort((rank, turn))[:limit])


def _fingerprint() -> int:
    """A hash of one scene of each level: a changed recipe is another data set."""
    keys = keys_of("fingerprint", [0])
    scenes = [draw(keys, np.zeros(1, np.int64), level) for level in LEVELS.values()]
    return seed_of(*(scene.pixels.tobytes().hex() for scene in scenes))
