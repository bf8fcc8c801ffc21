"""Deterministic pieces of the planted scenes: hashed draws, shape templates, drawing one object.

Everything is integer arithmetic (or float64 arithmetic on integers far below 2^53, which is exact
in any order), so that the same bytes come on every machine.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Keys = npt.NDArray[np.uint64]

CLASS_NAMES: Final = ("ring", "square", "triangle", "cross", "tee", "ell", "cup", "zigzag")
DISTRACTOR_NAMES: Final = ("disk", "bar", "halfdisk", "stripes", "dots")

UNIT: Final = 127
"""Template units in one radius: templates cover [-127, 127] in steps of 2, both ways."""
GRAIN: Final = 4
"""Positions and radii are in quarter pixels."""
TURNS: Final = 256
"""Angles are in 1/256 of a turn."""

_SIDE = UNIT + 1
_ANGLE_BITS = 14
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_COS: Ints = np.array(
    [round(math.cos(2 * math.pi * k / TURNS) * (1 << _ANGLE_BITS)) for k in range(TURNS)]
)


def mix(values: Keys) -> Keys:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijective hash of 64-bit words."""
    z = values + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def word_of(text: str) -> int:
    """A 64-bit word from the SHA-256 of a text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


class Draws:
    """Random draws of B scenes, each a pure function of (scene key, tag, position).

    Args:
        keys: uint64 (B,), one a scene.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def words(self, tag: str, count: int) -> Keys:
        """Uniform 64-bit words, uint64 (B, count)."""
        start = mix(self.keys ^ np.uint64(word_of(tag)))
        return mix(start[:, None] + np.arange(count, dtype=np.uint64) * _GOLDEN)

    def integers(self, tag: str, low: int | Ints, high: int | Ints, count: int = 1) -> Ints:
        """Uniform integers low <= n < high, int64 (B, count); bounds may be (B, 1)."""
        span = np.asarray(high, np.int64) - np.asarray(low, np.int64)
        words = (self.words(tag, count) >> np.uint64(33)).astype(np.int64)
        return np.asarray(low, np.int64) + ((words * span) >> 31)

    def bytes(self, tag: str, count: int) -> Bytes:
        """Uniform bytes, uint8 (B, count)."""
        words = self.words(tag, -(-count // 8)).astype("<u8")
        return words.view(np.uint8).reshape(len(self.keys), 8 * -(-count // 8))[:, :count]


def _templates() -> npt.NDArray[np.bool_]:
    """Shapes inside the unit circle: classes first, then distractors, bool (S, 128, 128)."""
    axis = np.arange(-UNIT, UNIT + 1, 2)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    radius2 = x * x + y * y
    half_planes = np.stack([1000 * y, 866 * x - 500 * y, -866 * x - 500 * y]).max(axis=0)
    box = np.maximum(abs(x), abs(y))
    upright = abs(x) <= 24
    zigzag_diagonal = (abs(104 * x + 144 * y) <= 25 * 178) & (abs(y) <= 56)
    shapes = {
        "ring": (radius2 <= 120**2) & (radius2 >= 72**2),
        "square": (box <= 88) & (box >= 44),
        "triangle": (half_planes <= 61_000) & (half_planes >= 20_000),
        "cross": (box <= 120) & ((abs(x) <= 24) | (abs(y) <= 24)),
        "tee": ((abs(x) <= 80) & (y >= -96) & (y <= -48)) | (upright & (y >= -96) & (y <= 120)),
        "ell": ((x >= -64) & (x <= -16) & (abs(y) <= 104))
        | ((x >= -64) & (x <= 72) & (y >= 56) & (y <= 104)),
        "cup": (abs(x) <= 80) & (abs(y) <= 92) & ((abs(x) >= 36) | (y >= 48)),
        "zigzag": ((abs(x) <= 76) & (abs(y) >= 52) & (abs(y) <= 98)) | zigzag_diagonal,
        "disk": radius2 <= 120**2,
        "bar": (abs(x) <= 118) & (abs(y) <= 40),
        "halfdisk": (radius2 <= 124**2) & (y >= 0),
        "stripes": (abs(x) <= 100) & (abs(y) >= 24) & (abs(y) <= 72),
        "dots": ((abs(x) - 72) ** 2 + y * y <= 48**2),
    }
    return np.stack([shapes[name] for name in CLASS_NAMES + DISTRACTOR_NAMES])


def _bordered() -> npt.NDArray[np.uint8]:
    # One empty cell around each template, so that clipped coordinates read "outside".
    return np.pad(_templates(), ((0, 0), (1, 1), (1, 1))).astype(np.uint8)


_SHAPES = _bordered()


@dataclass(frozen=True)
class Placed:
    """One object of each of B scenes.

    Attributes:
        kind: "target", "others" or "distractors".
        shapes: template index, int64 (B,).
        x, y: center in quarter pixels, int64 (B,).
        radii: in quarter pixels, int64 (B,); 0 where there is no such object.
        angles: in 1/256 of a turn, int64 (B,).
    """

    kind: str
    shapes: Ints
    x: Ints
    y: Ints
    radii: Ints
    angles: Ints


def coverage(placed: Placed, size: int, window: int) -> Bytes:
    """How many of the four sub-pixels of each pixel an object covers.

    Args:
        placed: the objects.
        size: height and width of the scene.
        window: pixels either side of the center that are looked at.

    Returns:
        uint8 (B, size, size) from 0 to 4.
    """
    x, y, radii, angles = placed.x, placed.y, placed.radii, placed.angles
    batch = len(radii)
    scale = np.maximum(radii, 1)
    cos = ((_COS[angles] * (_SIDE // 2)) // scale).astype(np.int32)
    sin = ((_COS[(angles - TURNS // 4) % TURNS] * (_SIDE // 2)) // scale).astype(np.int32)
    top, left = y // GRAIN - window, x // GRAIN - window
    sub = np.arange(4 * window, dtype=np.int32) * 2 + 1  # sub-pixel centers, in quarter pixels
    dy = (sub[None] + (top * GRAIN - y).astype(np.int32)[:, None])[:, :, None]
    dx = (sub[None] + (left * GRAIN - x).astype(np.int32)[:, None])[:, None, :]
    cos, sin = cos[:, None, None], sin[:, None, None]
    u = ((cos * dx + sin * dy) >> _ANGLE_BITS) + (_SIDE // 2 + 1)
    v = ((cos * dy - sin * dx) >> _ANGLE_BITS) + (_SIDE // 2 + 1)
    np.clip(u, 0, _SIDE + 1, out=u)
    np.clip(v, 0, _SIDE + 1, out=v)
    start = (placed.shapes * (_SIDE + 2) ** 2).astype(np.int32)[:, None, None]
    hits = _SHAPES.reshape(-1)[start + v * (_SIDE + 2) + u]
    counts = hits[:, 0::2, 0::2] + hits[:, 1::2, 0::2] + hits[:, 0::2, 1::2] + hits[:, 1::2, 1::2]
    counts *= (radii > 0)[:, None, None]
    canvas = np.zeros((batch, size + 2 * window, size + 2 * window), np.uint8)
    rows = (top + window)[:, None, None] + np.arange(2 * window)[:, None]
    columns = (left + window)[:, None, None] + np.arange(2 * window)
    canvas[np.arange(batch)[:, None, None], rows, columns] = counts
    return canvas[:, window : window + size, window : window + size]
