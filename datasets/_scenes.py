"""Planted scenes: recipes of the difficulty levels, and the drawing of a batch of scenes.

A scene is a textured background, distractors, objects of other classes (some levels), one target
object whose shape alone gives the class, and (some levels) a watermark. Each scene depends on its
own key alone; colors, sizes, places and angles are drawn without looking at the class.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ._scenes_shapes import (
    CLASS_NAMES,
    DISTRACTOR_NAMES,
    GRAIN,
    TURNS,
    Bytes,
    Draws,
    Ints,
    Keys,
    Placed,
    coverage,
    mix,
    word_of,
)

SIZE: Final = 64
CLASSES: Final = len(CLASS_NAMES)
Mask = npt.NDArray[np.bool_]
Shorts = npt.NDArray[np.int16]

_KINDS: Final = ("target", "distractors", "others")

_DISTRACTOR_RADIUS = (16, 37)  # quarter pixels
_CHROMA = 28  # how far an object's color channels are off its grey
_PLACES = 8  # candidate places of an object; it is left out if all of them are taken
_MARK_SIDE, _MARK_MARGIN = 10, 2
_MARK_DARK, _MARK_LIGHT = 35, 220
_OCTAVES = ((16, 4), (8, 3), (4, 1))  # cell size in pixels and weight, of 8
_X, _Y = np.arange(SIZE)[None, :], np.arange(SIZE)[:, None]


@dataclass(frozen=True)
class Level:
    """What a scene of one difficulty consists of; ranges are [low, high).

    Attributes:
        distractors: how many distractor objects are tried.
        others: how many objects of other classes are tried.
        target: radius of the target (and of others), quarter pixels.
        contrast: brightness difference between an object and the background, of 255.
        relief: amplitude of the background texture, of 255.
        pattern: amplitude of the stripes and checks on objects, of 255.
        watermark: "none", "label" (tells the class), "conflict" (tells another class).
    """

    distractors: tuple[int, int] = (2, 5)
    others: tuple[int, int] = (0, 1)
    target: tuple[int, int] = (40, 61)
    contrast: tuple[int, int] = (70, 116)
    relief: tuple[int, int] = (16, 49)
    pattern: tuple[int, int] = (0, 1)
    watermark: str = "none"


LEVELS: Final[dict[str, Level]] = {
    "standard": Level(),
    "clutter": Level(distractors=(7, 11), relief=(48, 81)),
    "crowd": Level(distractors=(0, 3), others=(2, 3), target=(36, 49)),
    "small": Level(target=(26, 37)),
    "faint": Level(contrast=(26, 41), relief=(8, 21)),
    "texture": Level(pattern=(48, 73)),
    "shortcut": Level(watermark="label"),
    "conflict": Level(watermark="conflict"),
}


@dataclass(frozen=True)
class Scenes:
    """A batch of drawn scenes.

    Attributes:
        pixels: uint8 (B, 64, 64, 3).
        target, distractors, others, watermark: bool (B, 64, 64), pixels that the thing touches.
        marks: int64 (B,), the class that the watermark tells, -1 without one.
    """

    pixels: Bytes
    target: Mask
    distractors: Mask
    others: Mask
    watermark: Mask
    marks: Ints


def keys_of(name: str, indices: npt.ArrayLike) -> Keys:
    """The keys of scenes: a hash of the series' name and each scene's index, uint64 (B,)."""
    return mix(mix(np.asarray(indices, np.uint64)) ^ np.uint64(word_of(name)))


def labels_of(name: str, indices: npt.ArrayLike) -> Ints:
    """The classes of scenes, int64 (B,): each block of 8 holds every class, in a hashed order."""
    index = np.asarray(indices, np.int64)
    order = Draws(keys_of(name + "/labels", index // CLASSES)).words("order", CLASSES)
    shuffled: Ints = np.argsort(order, axis=1, kind="stable")
    chosen: Ints = shuffled[np.arange(len(index)), index % CLASSES]
    return chosen


def draw(keys: Keys, labels: Ints, level: Level) -> Scenes:
    """Draw scenes.

    Args:
        keys: uint64 (B,).
        labels: int64 (B,), the class of each target.
        level: the recipe.
    """
    draws = Draws(keys)
    gray, pixels = _background(draws, level)
    objects = _objects(draws, labels, level)
    masks = {kind: np.zeros((len(keys), SIZE, SIZE), bool) for kind in _KINDS}
    for slot, one in enumerate(objects):
        window = level.target[1] // GRAIN + 2
        covered = coverage(one, SIZE, window)
        _paint(pixels, covered, _surface(draws, gray, level, slot))
        masks[one.kind] |= covered > 0
    grain = draws.bytes("grain", SIZE * SIZE * 3).reshape(pixels.shape).astype(np.int16)
    pixels += ((grain * 13) >> 8) - 6
    np.clip(pixels, 0, 255, out=pixels)
    marks = np.full(len(keys), -1, np.int64)
    watermark = np.zeros((len(keys), SIZE, SIZE), bool)
    if level.watermark != "none":
        marks = labels
        if level.watermark == "conflict":
            marks = (labels + draws.integers("mark", 1, CLASSES)[:, 0]) % CLASSES
        watermark = _stamp(pixels, marks, objects[0])
    return Scenes(
        pixels.astype(np.uint8),
        **{kind: mask & ~watermark for kind, mask in masks.items()},
        watermark=watermark,
        marks=marks,
    )


def _upsampler(cell: int) -> npt.NDArray[np.float32]:
    """Bilinear interpolation from cell corners to pixels, times 2 * cell: (64, 64 / cell + 1)."""
    at, part = np.divmod(2 * np.arange(SIZE) + 1, 2 * cell)
    matrix = np.zeros((SIZE, SIZE // cell + 1), np.float32)
    matrix[np.arange(SIZE), at] = 2 * cell - part
    matrix[np.arange(SIZE), at + 1] = part
    return matrix


_UPSAMPLERS = {cell: _upsampler(cell) for cell, _ in _OCTAVES}


def _background(draws: Draws, level: Level) -> tuple[Ints, Shorts]:
    """The mean grey of each background (B,) and its pixels, int16 (B, 64, 64, 3)."""
    batch = len(draws.keys)
    texture = np.zeros((batch, SIZE, SIZE), np.int32)
    for cell, weight in _OCTAVES:
        matrix = _UPSAMPLERS[cell]
        side = matrix.shape[1]
        corners = draws.bytes(f"cell{cell}", side * side).astype(np.float32) - 128
        # Integers far below 2^24: exact in float32, whatever the order of summation.
        values = matrix @ corners.reshape(batch, side, side) @ matrix.T
        texture += (values.astype(np.int32) // (2 * cell) ** 2) * weight
    base = draws.integers("base", 64, 192, 3)
    tint = draws.integers("tint", 64, 193, 3)
    relief = draws.integers("relief", *level.relief)
    swing = (relief * tint).astype(np.int32)[:, None, None, :]
    pixels = base[:, None, None, :] + ((texture[..., None] * swing) >> 17)
    return base.sum(axis=1) // 3, pixels.astype(np.int16)


def _objects(draws: Draws, labels: Ints, level: Level) -> list[Placed]:
    """Target, others and distractors of a batch, in places where none touches another."""
    batch = len(labels)
    kinds = ["target"] + ["others"] * (level.others[1] - 1)
    kinds += ["distractors"] * (level.distractors[1] - 1)
    wanted = {"target": np.ones(batch, np.int64)}
    wanted["others"] = draws.integers("nothers", *level.others)[:, 0]
    wanted["distractors"] = draws.integers("ndistr", *level.distractors)[:, 0]
    found: list[Placed] = []
    for slot, kind in enumerate(kinds):
        span = _DISTRACTOR_RADIUS if kind == "distractors" else level.target
        radii = draws.integers(f"{slot}r", *span)[:, 0]
        radii = np.where(wanted[kind] > 0, radii, 0)
        wanted[kind] -= 1
        x, y, free = _place(draws, slot, radii, found)
        shapes = labels
        if kind == "others":
            shapes = (labels + draws.integers(f"{slot}shape", 1, CLASSES)[:, 0]) % CLASSES
        elif kind == "distractors":
            shapes = CLASSES + draws.integers(f"{slot}shape", 0, len(DISTRACTOR_NAMES))[:, 0]
        angles = draws.integers(f"{slot}turn", 0, TURNS)[:, 0]
        found.append(Placed(kind, shapes, x, y, np.where(free, radii, 0), angles))
    return found


def _place(draws: Draws, slot: int, radii: Ints, taken: list[Placed]) -> tuple[Ints, Ints, Mask]:
    """A center for each object, and whether one of the candidates was free."""
    room = radii[:, None] + GRAIN
    x = draws.integers(f"{slot}x", room, SIZE * GRAIN - room, _PLACES)
    y = draws.integers(f"{slot}y", room, SIZE * GRAIN - room, _PLACES)
    free = np.ones(x.shape, bool)
    for other in taken:
        reach = (room[:, 0] + other.radii)[:, None]
        apart = (x - other.x[:, None]) ** 2 + (y - other.y[:, None]) ** 2 >= reach**2
        free &= apart | (other.radii == 0)[:, None]
    first = free.argmax(axis=1)
    rows = np.arange(len(radii))
    return x[rows, first], y[rows, first], free[rows, first]


def _surface(draws: Draws, gray: Ints, level: Level, slot: int) -> Shorts:
    """The color of an object at every pixel, int16 (B, 64 or 1, 64 or 1, 3)."""
    contrast = draws.integers(f"{slot}light", *level.contrast)[:, 0]
    up = draws.integers(f"{slot}sign", 0, 2)[:, 0] == 1
    up = np.where(gray + contrast > 245, False, np.where(gray - contrast < 10, True, up))
    light = gray + np.where(up, contrast, -contrast)
    color = light[:, None] + draws.integers(f"{slot}color", -_CHROMA, _CHROMA + 1, 3)
    surface = color[:, None, None, :]
    if level.pattern[1] > 1:
        swing = draws.integers(f"{slot}swing", *level.pattern)[:, 0]
        half = draws.integers(f"{slot}half", 2, 4)[:, 0]
        a, b = draws.integers(f"{slot}a", -1, 2)[:, 0], draws.integers(f"{slot}b", 0, 2)[:, 0]
        b = np.where((a == 0) & (b == 0), 1, b)
        phase = (a[:, None, None] * _X + b[:, None, None] * _Y) // half[:, None, None] % 2
        surface = surface + (swing[:, None, None] * (phase - (phase == 0)) // 2)[..., None]
    short: Shorts = surface.astype(np.int16)
    return short


def _paint(pixels: Shorts, covered: Bytes, surface: Shorts) -> None:
    """Lay an object over the pixels, in place, blending at its border."""
    rows, tops, lefts = np.nonzero(covered)
    share = covered[rows, tops, lefts].astype(np.int16)[:, None]
    color = surface[rows, 0, 0] if surface.shape[1] == 1 else surface[rows, tops, lefts]
    under = pixels[rows, tops, lefts]
    pixels[rows, tops, lefts] = (under * (4 - share) + color * share + 2) >> 2


def _mark_codes() -> Bytes:
    """Eight 10x10 marks: rows of a Hadamard matrix as 4x4 cells of 2x2 pixels in a dark frame."""
    order = np.arange(16)
    bits = np.array([3, 5, 6, 7, 9, 10, 13, 14])[:, None] & order
    parity = (bits ^ (bits >> 1) ^ (bits >> 2) ^ (bits >> 3)) & 1
    cells = np.kron(parity.reshape(-1, 4, 4), np.ones((1, 2, 2), np.int64))
    framed = np.pad(cells, ((0, 0), (1, 1), (1, 1)))
    return np.where(framed == 1, _MARK_LIGHT, _MARK_DARK).astype(np.uint8)


_MARKS = _mark_codes()


def _stamp(pixels: Shorts, marks: Ints, target: Placed) -> Mask:
    """Write the watermarks into the corner farthest from each target, in place; their mask."""
    far = SIZE - _MARK_MARGIN - _MARK_SIDE
    top = np.where(target.y < SIZE * GRAIN // 2, far, _MARK_MARGIN)
    left = np.where(target.x < SIZE * GRAIN // 2, far, _MARK_MARGIN)
    rows = np.arange(len(marks))[:, None, None]
    tops = top[:, None, None] + np.arange(_MARK_SIDE)[:, None]
    lefts = left[:, None, None] + np.arange(_MARK_SIDE)
    pixels[rows, tops, lefts] = _MARKS[marks][..., None]
    mask = np.zeros(pixels.shape[:3], bool)
    mask[rows, tops, lefts] = True
    return mask
