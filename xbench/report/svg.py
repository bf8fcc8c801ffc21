"""The parts of charts as SVG text: scales, ticks, axes; colors are CSS classes of the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLORS = 8
DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""Okabe and Ito (2008) have eight colors; dashes tell further lines apart, labels tell all."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn in every chart: color class, dash, and whether it is shown at first."""

    color: str
    dash: str
    shown: bool


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover a range.

    >>> ticks(0.0, 0.93)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if not span > 0:
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 2.5, 5, 10) if power * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that cover a positive range, the ends included.

    >>> log_ticks(2.0, 300.0)
    [1.0, 10.0, 100.0, 1000.0]
    """
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    return [10.0**power for power in range(first, max(last, first + 1) + 1)]


def short(value: float) -> str:
    """A number on an axis.

    >>> [short(0.25), short(10.0), short(-0.0), short(20000.0)]
    ['0.25', '10', '0', '20,000']
    """
    return f"{value:,.10g}" if value else "0"


@dataclass(frozen=True)
class Axes:
    """A plotting area and its scales.

    Attributes:
        width, height: of the whole picture.
        left, right, top, bottom: margins.
        x, y: ends of the scales; `y` may run downwards.
        log_x: whether x is logarithmic.
    """

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]
    log_x: bool = False

    def at_x(self, value: float) -> float:
        """Where an x value is."""
        low, high = self.x
        if self.log_x:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def at_y(self, value: float) -> float:
        """Where a y value is."""
        low, high = self.y
        return self.top + (1 - (value - low) / (high - low)) * (
            self.height - self.top - self.bottom
        )

    def grid(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> list[str]:
        """Grid lines with their numbers."""
        end_x, end_y = self.width - self.right, self.height - self.bottom
        parts = []
        for value in y_ticks:
            y = self.at_y(value)
            parts.append(
                f'<line class="grid" x1="{self.left:g}" x2="{end_x:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text x="{self.left - 6:g}" y="{y + 4:.1f}" text-anchor="end">{short(value)}'
                "</text>"
            )
        for value in x_ticks:
            x = self.at_x(value)
            parts.append(
                f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{end_y:g}" y2="{end_y + 4:g}"/>'
                f'<text x="{x:.1f}" y="{end_y + 16:g}" text-anchor="middle">{short(value)}</text>'
            )
        return parts

    def titles(self, x_label: str, y_label: str) -> list[str]:
        """The titles of both axes."""
        middle_x = (self.left + self.width - self.right) / 2
        middle_y = (self.top + self.height - self.bottom) / 2
        return [
            f'<text x="{middle_x:g}" y="{self.height - 6:g}" text-anchor="middle">'
            f"{escape(x_label)}</text>",
            f'<text x="12" y="{middle_y:g}" text-anchor="middle" '
            f'transform="rotate(-90 12 {middle_y:g})">{escape(y_label)}</text>',
        ]


def picture(width: float, height: float, label: str, parts: Sequence[str], kind: str = "") -> str:
    """A whole SVG element with a description for screen readers."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{escape(label)}" class="chart {kind}">{"".join(parts)}</svg>'
    )


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Label positions pushed apart to keep a gap, in the order given, within low and high.

    >>> spread([10.0, 12.0, 50.0], 10.0, 0.0, 100.0)
    [10.0, 20.0, 50.0]
    """
    gap = min(gap, (high - low) / max(1, len(places)))
    order = sorted(range(len(places)), key=lambda i: places[i])
    placed = [0.0] * len(places)
    last = low - gap
    for count, index in enumerate(order):
        room = high - gap * (len(order) - 1 - count)
        last = min(max(places[index], last + gap), room)
        placed[index] = last
    return placed


def clip(text: str, length: int) -> str:
    """Text cut to a length, with an ellipsis where it was."""
    return text if len(text) <= length else text[: length - 1] + "…"
