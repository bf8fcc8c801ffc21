"""Edits of an image: occlude, blur or recolor a box, paste a shape."""

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from xbench.errors import ParameterError
from xbench.operations.pixels import blur_sigma, gaussian_blur

Box = tuple[int, int, int, int]
Kind = Literal["occlude", "blur", "recolor", "paste"]
SHAPES = ("disk", "square", "ring", "triangle", "cross")
COLORS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.2),
    "blue": (0.1, 0.25, 0.9),
    "yellow": (0.95, 0.85, 0.1),
    "magenta": (0.85, 0.1, 0.8),
    "cyan": (0.1, 0.8, 0.85),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "gray": (0.5, 0.5, 0.5),
}
_STRONGER = 1.5


@dataclass(frozen=True)
class Edit:
    """One edit.

    Attributes:
        kind: "occlude" puts the model's mean color there, "blur" blurs, "recolor" tints and keeps
            brightness, "paste" draws a shape over the box.
        box: left, top, right, bottom in pixels; right and bottom are outside.
        shape: of "paste".
        color: of "recolor" and "paste".
    """

    kind: Kind
    box: Box
    shape: str = "disk"
    color: str = "red"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ParameterError(f"An edit is {', '.join(get_args(Kind))}, not '{self.kind}'.")
        if self.shape not in SHAPES:
            raise ParameterError(
                f"There is no shape '{self.shape}' to paste; there are {', '.join(SHAPES)}."
            )
        if self.color not in COLORS:
            raise ParameterError(
                f"There is no color '{self.color}'; there are {', '.join(COLORS)}."
            )

    def mask(self, height: int, width: int) -> Tensor:
        """The pixels that change, bool (H, W)."""
        left, top, right, bottom = self.box
        mask = torch.zeros(height, width, dtype=torch.bool)
        inside = torch.ones(bottom - top, right - left, dtype=torch.bool)
        mask[top:bottom, left:right] = (
            _shape(self.shape, inside) if self.kind == "paste" else inside
        )
        return mask

    def apply(self, image: Tensor, mean: Tensor) -> Tensor:
        """The edited image (C, H, W) in [0, 1].

        Args:
            image: (C, H, W) in [0, 1].
            mean: the model's mean color, (C,) or (1,).
        """
        mask = self.mask(image.shape[1], image.shape[2]).to(image.device)
        return torch.where(mask, self._content(image, mean), image)

    def _content(self, image: Tensor, mean: Tensor) -> Tensor:
        if self.kind == "occlude":
            return mean.to(image).view(-1, 1, 1).expand_as(image)
        if self.kind == "blur":
            return gaussian_blur(image[None], blur_sigma(image[None]))[0]
        color = torch.tensor(COLORS[self.color]).to(image)
        if image.shape[0] == 1:
            color = color.mean().view(1)
        if self.kind == "paste":
            return color.view(-1, 1, 1).expand_as(image)
        return (image.mean(dim=0, keepdim=True) * color.view(-1, 1, 1) * _STRONGER).clamp(0, 1)

    def moved(self, box: Box) -> "Edit":
        """The same edit of another box."""
        return replace(self, box=box)


def _shape(name: str, inside: Tensor) -> Tensor:
    """A shape that fills a box, bool (h, w)."""
    height, width = inside.shape
    y = (torch.arange(height) + 0.5)[:, None] / height * 2 - 1
    x = (torch.arange(width) + 0.5)[None] / width * 2 - 1
    radius = x.square() + y.square()
    if name == "disk":
        return radius <= 1
    if name == "ring":
        return (radius <= 1) & (radius >= 0.3)
    if name == "triangle":
        return x.abs() <= (y + 1) / 2
    if name == "cross":
        return (x.abs() <= 0.34) | (y.abs() <= 0.34)
    return inside


def read_box(text: str, height: int, width: int) -> Box:
    """A box of the image: `LEFT,TOP,RIGHT,BOTTOM` in pixels, or in shares if none is above 1.

    Raises:
        ParameterError: four numbers are missing, or the box is empty or outside.

    >>> read_box("0.25,0.5,0.75,1", 64, 64)
    (16, 32, 48, 64)
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != 4 or not all(map(math.isfinite, values)):
        raise ParameterError(
            f"A box is LEFT,TOP,RIGHT,BOTTOM in pixels, for example 10,10,40,40, not '{text}'."
        )
    if max(values) <= 1:
        values = [value * side for value, side in zip(values, (width, height) * 2, strict=True)]
    left, top, right, bottom = (round(value) for value in values)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ParameterError(
            f"The box {text} does not lie in the image: the model sees {width} x {height} pixels, "
            "and left is smaller than right, top smaller than bottom."
        )
    return left, top, right, bottom


def read_paste(text: str, height: int, width: int) -> tuple[str, Box]:
    """A shape and its box: `disk` (in the middle) or `disk:LEFT,TOP,RIGHT,BOTTOM`."""
    shape, _, box = text.partition(":")
    return shape.strip(), read_box(box or "0.35,0.35,0.65,0.65", height, width)


def random_boxes(count: int, height: int, width: int, generator: torch.Generator) -> list[Box]:
    """Boxes with sides of an eighth to a third of the image, anywhere in it."""
    boxes = []
    for size_y, size_x, y, x in torch.rand(count, 4, generator=generator).tolist():
        high = max(1, round(height * (1 / 8 + size_y * (1 / 3 - 1 / 8))))
        wide = max(1, round(width * (1 / 8 + size_x * (1 / 3 - 1 / 8))))
        top, left = round(y * (height - high)), round(x * (width - wide))
        boxes.append((left, top, left + wide, top + high))
    return boxes
