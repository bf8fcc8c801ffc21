"""Sheets of tiles as PNG: a picture a cell, a title a column, a name a row."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from xbench.report.gallery import colored

Pixels = NDArray[np.uint8]

GAP, FONT, LINE = 6, 12, 15
_INK, _PAPER, _EMPTY = (27, 31, 36), (255, 255, 255), (232, 236, 240)


@dataclass(frozen=True)
class Tile:
    """One cell of a sheet: uint8 (H, W, 3), or a sentence why there is none; a text below."""

    picture: Pixels | str
    text: str = ""


def photo(image: Tensor) -> Pixels:
    """An image float (C, H, W) in [0, 1] as uint8 (H, W, 3)."""
    array = (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array)


def heat(values: Tensor, *, signed: bool) -> Pixels:
    """A map (H, W) in colors: diverging where it is signed, viridis else."""
    return colored(values.detach().cpu().float().numpy(), signed=signed)


def overlay(image: Tensor, values: Tensor, *, signed: bool, strength: float = 0.7) -> Pixels:
    """A map over the gray image, uint8 (H, W, 3)."""
    gray = photo(image).mean(axis=2, keepdims=True)
    mixed = strength * heat(values, signed=signed) + (1 - strength) * gray
    return np.ascontiguousarray(mixed.round().astype(np.uint8))


def masks(image: Tensor, shown: Sequence[tuple[Tensor, tuple[int, int, int]]]) -> Pixels:
    """Masks (H, W) in [0, 1], each in a color, over the gray image; later ones lie on top."""
    mixed = np.repeat(photo(image).mean(axis=2, keepdims=True), 3, axis=2) * 0.6 + 60
    for mask, color in shown:
        share = mask.detach().cpu().double().numpy()[..., None] * 0.75
        mixed = mixed * (1 - share) + np.array(color) * share
    return np.ascontiguousarray(mixed.round().astype(np.uint8))


def framed(picture: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """The picture with a red frame around a box (left, top, right, bottom)."""
    drawn = Image.fromarray(picture.copy())
    left, top, right, bottom = box
    ImageDraw.Draw(drawn).rectangle(
        (left, top, right - 1, bottom - 1), outline=(230, 30, 30), width=max(1, drawn.width // 110)
    )
    return np.asarray(drawn)


def png(picture: Pixels) -> bytes:
    """The PNG file of pixels uint8 (H, W, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def sheet(
    rows: Sequence[Sequence[Tile | None]],
    *,
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    side: int = 150,
) -> bytes:
    """Tiles in rows, as a PNG file.

    Args:
        rows: the cells; None stays white.
        columns: a title a column.
        names: a name a row, at its left.
        side: the longer side of a tile.
    """
    font = ImageFont.load_default(FONT)
    wide = max(len(row) for row in rows)
    left = 96 if any(names) else 0
    titles = [_wrapped(text, side, font) for text in columns]
    top = LINE * max((len(lines) for lines in titles), default=0) + (GAP if titles else 0)
    texts = [[_wrapped(cell.text if cell else "", side, font) for cell in row] for row in rows]
    below = [LINE * max((len(lines) for lines in row), default=0) for row in texts]
    heights = [max(1, max((_height(cell, side) for cell in row), default=1)) for row in rows]
    size = (
        left + wide * (side + GAP) + GAP,
        top + sum(heights) + sum(below) + (len(rows) + 1) * GAP + GAP,
    )
    canvas = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(canvas)
    for column, lines in enumerate(titles):
        _write(pen, (left + GAP + column * (side + GAP), 2), lines, font)
    y = top + GAP
    for number, row in enumerate(rows):
        if number < len(names):
            _write(pen, (4, y + 4), _wrapped(names[number], left - 8, font), font)
        for column, cell in enumerate(row):
            x = left + GAP + column * (side + GAP)
            if cell is not None:
                _paste(canvas, pen, cell, (x, y, side, heights[number]), font)
                _write(pen, (x, y + heights[number] + 1), texts[number][column], font)
        y += heights[number] + below[number] + GAP
    return png(np.asarray(canvas))


def columns_of(cells: Mapping[str, Tile], per_row: int) -> bytes:
    """Named tiles, so many in a row, as a PNG file."""
    tiles = [
        Tile(cell.picture, f"{name}{': ' if cell.text else ''}{cell.text}")
        for name, cell in cells.items()
    ]
    return sheet([tiles[start : start + per_row] for start in range(0, len(tiles), per_row)])


def _height(cell: Tile | None, side: int) -> int:
    if cell is None or isinstance(cell.picture, str):
        return side if cell is not None else 1
    height, width = (int(length) for length in cell.picture.shape[:2])
    return round(side * height / max(height, width))


def _paste(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    cell: Tile,
    place: tuple[int, int, int, int],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    x, y, side, height = place
    if isinstance(cell.picture, str):
        pen.rectangle((x, y, x + side - 1, y + height - 1), fill=_EMPTY)
        _write(pen, (x + 4, y + 4), _wrapped(cell.picture, side - 8, font)[: height // LINE], font)
        return
    picture = Image.fromarray(cell.picture)
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    kind = Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS
    canvas.paste(picture.resize(size, kind), (x, y))


def _wrapped(
    text: str, width: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> list[str]:
    """The text in lines that fit; a long word is cut in parts."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        joined = f"{line} {word}".strip()
        if font.getlength(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        while font.getlength(word) > width and len(word) > 1:
            cut = max(
                (n for n in range(1, len(word)) if font.getlength(word[:n]) <= width), default=1
            )
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    return [*lines, line] if line else lines


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    lines: Sequence[str],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    for number, line in enumerate(lines):
        pen.text((place[0], place[1] + number * LINE), line, fill=_INK, font=font)
