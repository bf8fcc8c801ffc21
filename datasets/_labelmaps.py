"""Maps of label numbers: read from files, brought to the classifier's input with their image."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xbench.contracts import ConceptMasks, Geometry, LabelName
from xbench.errors import DataError

from ._images import fit, open_image, orientation, reason_of, upright

Numbers = NDArray[np.int32]
_LARGEST = 32767


@dataclass(frozen=True)
class LabelMaps:
    """What is labeled on one image.

    Attributes:
        maps: label numbers (H, W), 0 where there is none; of the size of the file, or smaller.
        whole: label numbers that stand for all of the image.
        kinds: the kinds of concepts that were labeled on it.
    """

    maps: Sequence[Numbers] = ()
    whole: Sequence[int] = ()
    kinds: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class FittedLabels:
    """The same as it lies over the classifier's input: int16 (L, H, W)."""

    maps: Tensor
    whole: Sequence[int]
    kinds: frozenset[str]


def read_color_numbers(path: Path) -> Numbers:
    """A label file's numbers (H, W): red plus 256 times green of an 8-bit image.

    Raises:
        DataError: no such image, or of another kind; the message is a reason.
    """
    try:
        image = open_image(path.read_bytes())
        colored = image.mode in ("RGB", "RGBA", "P")
        values = np.array(image.convert("RGB")).astype(np.int32)
    except OSError as error:
        raise DataError(
            f"its label file {path.name}: {error.strerror or reason_of(error)}"
        ) from error
    except Exception as error:
        raise DataError(f"its label file {path.name}: {reason_of(error)}") from error
    if not colored:
        raise DataError(f"its label file {path.name} has no red and green channel of 8 bits")
    numbers: Numbers = values[..., 0] + 256 * values[..., 1]
    if numbers.size and int(numbers.max()) > _LARGEST:
        raise DataError(f"its label file {path.name} has numbers above {_LARGEST}")
    return numbers


def read_labels(
    name: str, data: Callable[[], bytes], labels: Callable[[], LabelMaps], geometry: Geometry
) -> FittedLabels:
    """The labels of one image as they lie over the classifier's input.

    Args:
        name: of the image, for messages.
        data: reads the encoded image.
        labels: reads its labels; maps of another size are brought to that of the image.
        geometry: what the classifier wants.

    Raises:
        DataError: one of them cannot be read.
    """
    try:
        header = open_image(data())
        found, turn = labels(), orientation(header)
        planes = []
        for numbers in [np.zeros((1, 1), np.int32), *found.maps]:
            picture = Image.fromarray(numbers).resize(header.size, Image.Resampling.NEAREST)
            fitted = fit(upright(picture, turn), geometry, mask=True)
            planes.append(torch.from_numpy(np.array(fitted).astype(np.int16)))
    except DataError as error:
        raise DataError(f"{name}: {error}.") from error
    return FittedLabels(torch.stack(planes[1:] or planes), found.whole, found.kinds)


def joined(found: Sequence[FittedLabels], names: Mapping[int, LabelName]) -> ConceptMasks:
    """The label maps of several images of one size; missing ones are empty.

    Raises:
        DataError: there is no image.
    """
    if not found:
        raise DataError("There is no image to read concepts from.")
    height, width = found[0].maps.shape[1:]
    deep = max(1, *(len(one.maps) for one in found))
    wide = max(1, *(len(one.whole) for one in found))
    maps = torch.zeros(len(found), deep, height, width, dtype=torch.int16)
    whole = torch.zeros(len(found), wide, dtype=torch.int16)
    for row, one in enumerate(found):
        maps[row, : len(one.maps)] = one.maps
        whole[row, : len(one.whole)] = torch.tensor(list(one.whole), dtype=torch.int16)
    known = {
        kind: torch.tensor([kind in one.kinds for one in found])
        for kind in sorted({label.kind for label in names.values()})
    }
    return ConceptMasks(maps, whole, names, known)
