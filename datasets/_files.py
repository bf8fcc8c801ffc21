"""Sources made of image files: finding, choosing, checking and reading them."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xbench.contracts import ConceptMasks, Geometry, LabelName, Samples, Source
from xbench.errors import DataError
from xbench.streams import seed_of

from ._images import (
    check_image,
    decode,
    fit,
    fitted_size,
    open_image,
    orientation,
    to_pixels,
)
from ._labelmaps import LabelMaps, joined, read_labels
from ._masks import fit_mask

Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class Item:
    """One image of a source.

    Attributes:
        id: stable identifier, for files the path below the root with forward slashes.
        file: the image file, or a call that returns an encoded image.
        label: class index, -1 where unknown.
        masks: from the stored width and height to bool masks (H, W) by name; the one called
            "truth" is the truth, the others become extras. None, or no "truth": no truth known.
        labels: maps of label numbers, see `LabelMaps`; None where there are none.
    """

    id: str
    file: Path | Callable[[], bytes]
    label: int = -1
    masks: Callable[[tuple[int, int]], Masks] | None = None
    labels: Callable[[], LabelMaps] | None = None

    def data(self) -> bytes:
        """The encoded image.

        Raises:
            DataError: the file cannot be read; the message is a reason without its name.
        """
        if callable(self.file):
            return self.file()
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise DataError(error.strerror or str(error)) from error


@dataclass(frozen=True)
class Choice:
    """Which images of a source are wanted.

    Attributes:
        limit: at most so many, balanced over classes; None for all.
        seed: decides which.
        area: smallest and largest share of the input that the truth may cover; images outside,
            or without a truth, are left out. None to keep all.
    """

    limit: int | None
    seed: int
    area: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Checked:
    digest: str = ""
    size: tuple[int, int] = (0, 0)
    problem: str = ""
    unwanted: bool = False


class FileSource(Source):
    """An opened source of image files; every one of them has been decoded once.

    Attributes:
        notes: what was assumed or left out, one sentence each.
        label_names: what the numbers of the label maps stand for; set by sources that have some.
    """

    label_names: Mapping[int, LabelName] = {}

    def __init__(
        self, name: str, items: Sequence[Item], geometry: Geometry, notes: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.items = list(items)
        self.geometry = geometry
        self.ids = [item.id for item in self.items]
        self.labels = [item.label for item in self.items]
        self.notes = list(notes)

    def read(self, indices: Sequence[int]) -> Samples:
        """The images at these positions, in this order.

        Raises:
            DataError: a file changed or vanished since the source was opened.
        """
        items = [self.items[index] for index in indices]
        with _pool() as pool:
            read = list(pool.map(self._read, items))
        names = sorted({name for _, masks in read for name in masks})
        shape = read[0][0].shape[1:] if read else (0, 0)
        stacks = {
            name: torch.stack(
                [masks.get(name, torch.zeros(shape, dtype=torch.bool)) for _, masks in read]
            )
            for name in names
        }
        with_truth = any(item.masks is not None for item in self.items)
        truth = stacks.pop("truth", torch.zeros((len(items), *shape), dtype=torch.bool))
        pixels = [image.numpy() for image, _ in read]
        none = np.zeros((0, self.geometry.channels, 0, 0), dtype=np.float32)
        return Samples(
            images=torch.from_numpy(np.stack(pixels) if pixels else none),
            labels=torch.tensor([item.label for item in items], dtype=torch.int64),
            ids=[item.id for item in items],
            truth=truth if with_truth else None,
            truth_defined=truth.flatten(1).any(dim=1) if with_truth else None,
            extras=stacks,
        )

    def concepts(self, indices: Sequence[int]) -> ConceptMasks | None:
        """See `Source.concepts`.

        Raises:
            DataError: a label map cannot be read.
        """
        items = [self.items[index] for index in indices]
        wanted = [(item.id, item.data, item.labels) for item in items if item.labels is not None]
        if not self.label_names or len(wanted) < len(items):
            return None
        with _pool() as pool:
            read = list(
                pool.map(lambda one: read_labels(one[0], one[1], one[2], self.geometry), wanted)
            )
        return joined(read, self.label_names)

    def _read(self, item: Item) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            data = item.data()
            image = to_pixels(fit(decode(data), self.geometry), self.geometry.channels)
            return image, masks_of(item, data, self.geometry)
        except DataError as error:
            raise DataError(f"{item.id} could be read before and cannot now: {error}.") from error


def masks_of(item: Item, data: bytes, geometry: Geometry) -> dict[str, Tensor]:
    """The masks of an image as they lie over the classifier's input, bool (H, W) by name."""
    if item.masks is None:
        return {}
    header = open_image(data)
    return {
        name: fit_mask(mask, header.size, orientation(header), geometry)
        for name, mask in item.masks(header.size).items()
    }


def open_items(
    name: str,
    items: Sequence[Item],
    geometry: Geometry,
    choice: Choice,
    notes: Sequence[str] = (),
) -> FileSource:
    """Choose among the items, decode each chosen one once, and leave out what cannot be read.

    An unreadable image is replaced by the next one of its class, so a limit is met where the
    folder allows it.

    Args:
        name: what was asked for, as written.
        items: every image there is, in a stable order.
        geometry: what the classifier wants.
        choice: which images are wanted.
        notes: what the source has to say of itself.

    Raises:
        DataError: no image can be read, or sizes differ where the model fixes none.
    """
    if choice.limit is not None and choice.limit < 1:
        raise DataError(f"A limit of {choice.limit} images leaves nothing; give at least 1.")
    checked: dict[int, _Checked] = {}
    left = list(range(len(items)))
    chosen: list[int] = []
    with _pool() as pool:
        while True:
            chosen = balanced([(items[i].id, items[i].label) for i in left], choice)
            chosen = [left[position] for position in chosen]
            new = [index for index in chosen if index not in checked]
            results = pool.map(lambda index: _check(items[index], geometry, choice), new)
            checked.update(zip(new, results, strict=True))
            bad = {i for i in new if checked[i].problem or checked[i].unwanted}
            if not bad:
                break
            left = [index for index in left if index not in bad]
    skipped = {items[i].id: c.problem for i, c in sorted(checked.items()) if c.problem}
    if not chosen:
        raise DataError(_nothing_left(name, skipped, checked, choice))
    source = FileSource(name, [items[index] for index in chosen], geometry, notes)
    source.skipped = skipped
    _one_size(source, [checked[index] for index in chosen])
    rows = [(items[i].id, items[i].label, checked[i].digest) for i in chosen]
    source.digest = hashlib.sha256(repr((geometry, choice.area, rows)).encode()).hexdigest()[:16]
    return source


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


def _nothing_left(
    name: str, skipped: Mapping[str, str], checked: Mapping[int, _Checked], choice: Choice
) -> str:
    if any(entry.unwanted for entry in checked.values()) and choice.area is not None:
        low, high = choice.area
        return f"No image of {name} has a truth that covers {low:g} to {high:g} of the input."
    first, reason = next(iter(skipped.items()), ("", ""))
    return f"None of the {len(skipped)} images of {name} can be read; {first}: {reason}."


def _check(item: Item, geometry: Geometry, choice: Choice) -> _Checked:
    try:
        data = item.data()
        size = fitted_size(check_image(data), geometry)
        masks = masks_of(item, data, geometry)
    except DataError as error:
        return _Checked(problem=str(error))
    unwanted = False
    if choice.area is not None:
        truth = masks.get("truth")
        share = 0.0 if truth is None else float(truth.float().mean())
        unwanted = share == 0 or not choice.area[0] <= share <= choice.area[1]
    digest = hashlib.sha256(data)
    for key, mask in sorted(masks.items()):
        digest.update(key.encode() + np.packbits(mask.numpy()).tobytes())
    return _Checked(digest.hexdigest(), size, unwanted=unwanted)


def _one_size(source: FileSource, checked: Sequence[_Checked]) -> None:
    by_size = {entry.size: name for name, entry in zip(source.ids, checked, strict=True)}
    if len(by_size) > 1:
        (first, one), (second, two) = list(by_size.items())[:2]
        raise DataError(
            f"The images of {source.name} differ in size ({one} is {first[0]} x {first[1]}, {two} "
            f"is {second[0]} x {second[1]}) and the model fixes none; give its input size."
        )


def balanced(images: Sequence[tuple[str, int]], choice: Choice) -> list[int]:
    """Positions of at most `limit` images, as evenly over the classes as they allow, in order.

    Which image of a class comes first depends on the seed and on its id alone, so a larger limit
    keeps the images of a smaller one, and adding files elsewhere changes nothing.

    Args:
        images: (id, label) of each.
        choice: limit and seed.
    """
    if choice.limit is None or len(images) <= choice.limit:
        return list(range(len(images)))
    classes: dict[int, list[int]] = {}
    for position, (_, label) in enumerate(images):
        classes.setdefault(label, []).append(position)
    ranked: list[tuple[int, int, int]] = []
    for label, members in classes.items():
        members.sort(key=lambda position: seed_of(choice.seed, "choice", images[position][0]))
        turn = seed_of(choice.seed, "class", label)
        ranked += [(place, turn, position) for place, position in enumerate(members)]
    return sorted(position for _, _, position in sorted(ranked)[: choice.limit])


def check_area(low: float, high: float) -> tuple[float, float] | None:
    """The range of object sizes that two parameters ask for, None where they exclude nothing.

    Raises:
        DataError: not 0 <= low <= high <= 1.
    """
    if not 0 <= low <= high <= 1:
        raise DataError(f"Object sizes are shares of the input: 0 <= {low} <= {high} <= 1 is not.")
    return None if (low, high) == (0, 1) else (low, high)
