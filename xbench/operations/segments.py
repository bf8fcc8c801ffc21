"""Segmentations by name: one integer a pixel, computed once an image and kept."""

import hashlib
import math
from collections import OrderedDict
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from xbench.errors import ParameterError
from xbench.optional import optional

_segmentation = optional("skimage.segmentation", "install it with `pip install scikit-image`")

SEGMENTATIONS = ("slic", "grid", "quickshift", "felzenszwalb")


class _Memo:
    """The last segmentations, by what decides them; methods and metrics meet the same ones."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = Lock()

    def get(self, key: str) -> np.ndarray | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: str, value: np.ndarray) -> None:
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > self._limit:
                self._kept.popitem(last=False)


_MEMO = _Memo(limit=512)


def check_segmentation(how: str, n_segments: int) -> None:
    """Refuse an unknown segmentation or a number of segments below one.

    Raises:
        ParameterError: with the names that exist.
    """
    if how not in SEGMENTATIONS:
        raise ParameterError(
            f"Images are segmented by {', '.join(SEGMENTATIONS[:-1])} or {SEGMENTATIONS[-1]}, "
            f"not '{how}'."
        )
    if n_segments < 1:
        raise ParameterError(f"n_segments must be at least 1, not {n_segments}.")


def segment(images: Tensor, how: str = "slic", n_segments: int = 50) -> Tensor:
    """Segments of each image, numbered from 0 without gaps.

    Args:
        images: float32 (N, C, H, W) in [0, 1].
        how: "slic" (Achanta 2012), "grid" (cells as equal as can be), "quickshift" (Vedaldi 2008,
            with the settings of LIME's authors) or "felzenszwalb" (2004).
        n_segments: never more than so many. slic aims at the number, the grid has
            floor(sqrt(n_segments)) rows, the other two find their own number; where it is above,
            the smallest segments are merged into the neighbor with the longest common border.

    Returns:
        int64 (N, H, W) on the images' device; image i has `segments[i].max() + 1` segments.

    Raises:
        ParameterError: an unknown name.
    """
    check_segmentation(how, n_segments)
    if how == "grid":
        one = torch.from_numpy(_grid(images.shape[2], images.shape[3], n_segments))
        return one.expand(images.shape[0], -1, -1).to(images.device).contiguous()
    pixels = images.detach().permute(0, 2, 3, 1).cpu().numpy()
    found = [_cached(pixels[i], how, n_segments) for i in range(images.shape[0])]
    return torch.from_numpy(np.stack(found)).to(images.device)


def segment_counts(segments: Tensor) -> list[int]:
    """Number of segments of each image, from (N, H, W)."""
    return [int(value) + 1 for value in segments.flatten(1).amax(dim=1)]


def segment_means(values: Tensor, segments: Tensor) -> Tensor:
    """Each pixel replaced by the mean of its segment, channel by channel, (N, C, H, W).

    Args:
        values: (N, C, H, W).
        segments: int64 (N, H, W).
    """
    n, channels = values.shape[:2]
    # on the CPU, since adding at indices is not reproducible on a GPU
    index = segments.cpu().flatten(1)[:, None].expand(-1, channels, -1)
    flat = values.detach().cpu().flatten(2).double()
    total = torch.zeros(n, channels, int(segments.max()) + 1, dtype=flat.dtype)
    area = torch.zeros_like(total).scatter_add_(2, index, torch.ones_like(flat))
    total.scatter_add_(2, index, flat)
    means = (total / area.clamp(min=1)).gather(2, index)
    return means.view_as(values).to(values)


def paint(values: Tensor, segments: Tensor) -> Tensor:
    """One value a segment as a map: (N, S) and (N, H, W) to (N, H, W)."""
    return values.gather(1, segments.flatten(1)).view(segments.shape)


def _cached(pixels: np.ndarray, how: str, n_segments: int) -> np.ndarray:
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    key = f"{digest} {pixels.shape} {how} {n_segments}"
    found = _MEMO.get(key)
    if found is None:
        found = _compute(pixels, how, n_segments).astype(np.int32)
        _MEMO.put(key, found)
    return found.astype(np.int64)


def _compute(pixels: np.ndarray, how: str, n_segments: int) -> np.ndarray:
    color = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    color = color.astype(np.float64)
    if how == "slic":
        # smoothing and keeping small segments bring the number close to what is asked for
        raw = _segmentation.slic(
            color, n_segments=n_segments, sigma=1.0, min_size_factor=0.2, start_label=0
        )
    elif how == "quickshift":
        raw = _segmentation.quickshift(color, kernel_size=4, max_dist=200, ratio=0.2, rng=0)
    else:
        least = max(1, color.shape[0] * color.shape[1] // 1000)
        raw = _segmentation.felzenszwalb(color, scale=100, sigma=0.5, min_size=least)
    labels = np.unique(raw, return_inverse=True)[1].reshape(raw.shape)
    return _merge(labels, n_segments)


def _merge(labels: np.ndarray, most: int) -> np.ndarray:
    """Merge the smallest segment into its closest neighbor until there are at most `most`."""
    count = int(labels.max()) + 1
    if count <= most:
        return labels
    border = np.zeros((count, count), dtype=np.int64)
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        np.add.at(border, (one.ravel(), other.ravel()), 1)
    border = border + border.T
    np.fill_diagonal(border, 0)
    area = np.bincount(labels.ravel(), minlength=count).astype(np.float64)
    owner = np.arange(count)
    for _ in range(count - most):
        small = int(area.argmin())
        into = int(border[small].argmax())
        owner[owner == small] = into
        area[into] += area[small]
        area[small] = np.inf
        border[into] += border[small]
        border[:, into] += border[:, small]
        border[small] = border[:, small] = 0
        border[into, into] = 0
    return np.unique(owner[labels], return_inverse=True)[1].reshape(labels.shape)


def _grid(height: int, width: int, n_segments: int) -> np.ndarray:
    """floor(sqrt(n)) rows of as many columns as fit: 7 x 7 for 49 and 50, 2 x 4 for 8."""
    side = math.isqrt(n_segments)
    rows, columns = min(side, height), min(n_segments // side, width)
    y = np.arange(height) * rows // height
    x = np.arange(width) * columns // width
    return (y[:, None] * columns + x[None, :]).astype(np.int64)
