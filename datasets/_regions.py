"""COCO's two ways of writing a region: polygons and run lengths (plain or as text)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon

from xbench.errors import DataError


def region(segmentation: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels of one object, bool (H, W).

    Args:
        segmentation: a list of polygons [x0, y0, x1, y1, ...], or {"size", "counts"}.
        size: width and height.

    Raises:
        DataError: neither of the two, or of another size; the message is a reason.
    """
    if isinstance(segmentation, Mapping):
        return _from_runs(segmentation, size)
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str):
        raise DataError("an object's segmentation is neither polygons nor run lengths")
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for corners in segmentation:
        if len(corners) < 6 or len(corners) % 2:
            raise DataError("an object's polygon has fewer than three corners")
        points = np.asarray(corners, dtype=np.float64)
        # corners lie on the grid between pixels, whose centers are at half steps
        rows, columns = polygon(points[1::2] - 0.5, points[::2] - 0.5, mask.shape)
        mask[rows, columns] = True
    return mask


def _from_runs(runs: Mapping[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = runs.get("size", (0, 0))
    if (width, height) != tuple(size):
        raise DataError(f"an object's region is {width} x {height}, not {size[0]} x {size[1]}")
    counts = runs.get("counts", ())
    lengths = read_counts(counts) if isinstance(counts, str | bytes) else list(counts)
    if any(length < 0 for length in lengths) or sum(lengths) != width * height:
        raise DataError("an object's run lengths do not add up to its size")
    values = np.arange(len(lengths)) % 2 == 1  # runs of background and object in turn
    flat = np.repeat(values, np.asarray(lengths, dtype=np.int64))
    return flat.reshape(width, height).T.copy()  # runs go down the columns


def read_counts(text: str | bytes) -> list[int]:
    """Run lengths from COCO's text.

    A number is written in groups of five bits, lowest first, as characters from '0' on; the sixth
    bit says that more follow, the fifth bit of the last group is the sign; from the fourth number
    on the difference to the number two places before is written.

    >>> read_counts("05")
    [0, 5]
    """
    data = text.encode("ascii") if isinstance(text, str) else text
    lengths: list[int] = []
    position = 0
    while position < len(data):
        value, shift, more = 0, 0, True
        while more:
            if position >= len(data):
                raise DataError("an object's run lengths end in the middle")
            group = data[position] - 48
            value |= (group & 31) << shift
            more = bool(group & 32)
            position += 1
            shift += 5
        if group & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
    return lengths
