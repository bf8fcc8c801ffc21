"""Masks: read from files, drawn from boxes, brought to the classifier's input with their image."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from xbench.contracts import Geometry
from xbench.errors import DataError

from ._images import fit, open_image, reason_of, upright


def fit_mask(
    mask: NDArray[np.bool_], stored: tuple[int, int], turn: int, geometry: Geometry
) -> Tensor:
    """A mask as it lies over the classifier's input, bool (H, W).

    Args:
        mask: bool (H, W), in the pixels of the file as stored (it turns with the image), or, where
            only that fits, of the upright image.
        stored: width and height of the file as stored.
        turn: the file's EXIF orientation.
        geometry: what the classifier wants.

    Raises:
        DataError: the mask has another size than the image.
    """
    size = (mask.shape[1], mask.shape[0])
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    if size == stored:
        picture = upright(picture, turn)
    elif not (turn >= 5 and size == stored[::-1]):
        raise DataError(
            f"its mask has {size[0]} x {size[1]} pixels, the image {stored[0]} x {stored[1]}"
        )
    return torch.from_numpy(np.array(fit(picture, geometry, mask=True)) > 127)


def read_mask(path: Path) -> NDArray[np.int64]:
    """A mask file's values (H, W): palette or grey indices as stored, never mapped to colors.

    Raises:
        DataError: no such image, or one with several channels that differ; the message is a reason.
    """
    try:
        values = np.array(open_image(path.read_bytes()))
    except OSError as error:
        raise DataError(f"its mask {path.name}: {error.strerror or reason_of(error)}") from error
    except Exception as error:
        raise DataError(f"its mask {path.name}: {reason_of(error)}") from error
    if values.ndim == 3:
        if (values[..., :3] != values[..., :1]).any():
            raise DataError(f"its mask {path.name} is in color; masks have one value a pixel")
        values = values[..., 0]
    return values.astype(np.int64)


def boxes_mask(size: tuple[int, int], boxes: Iterable[Sequence[float]]) -> NDArray[np.bool_]:
    """The pixels inside any of the boxes, bool (H, W).

    Args:
        size: width and height.
        boxes: (left, top, right, bottom) in pixels, right and bottom exclusive.
    """
    mask: NDArray[Any] = np.zeros((size[1], size[0]), dtype=bool)
    for left, top, right, bottom in boxes:
        columns = slice(max(0, round(left)), max(0, round(right)))
        mask[max(0, round(top)) : max(0, round(bottom)), columns] = True
    return mask
