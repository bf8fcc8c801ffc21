"""Figures as SVG text: curves and heat maps; color-blind safe, readable in light and dark."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Okabe and Ito (2008)
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999", "#B8A800")
_DASHES = ("", "6 3", "2 2", "8 2 2 2")


def line_chart(
    series: Mapping[str, Array],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x: Sequence[float] | None = None,
) -> str:
    """A chart of one line a method, labels at the right end.

    Args:
        series: name to values (K,).
        title: what it shows, also for screen readers.
        x_label, y_label: axis titles.
        x: positions (K,), default 0 to 1.
    """
    width, height, left, right, top, bottom = 760, 340, 52, 190, 16, 40
    if not series:
        return ""
    every = np.concatenate([values[np.isfinite(values)] for values in series.values()])
    if len(every) == 0:
        return ""
    low, high = float(min(every.min(), 0.0)), float(max(every.max(), low_span(every)))
    span = high - low or 1.0

    def place(i: int, value: float, count: int) -> tuple[float, float]:
        at = (x[i] if x is not None else i / max(1, count - 1)) if count > 1 else 0.0
        return (
            left + at * (width - left - right),
            top + (1 - (value - low) / span) * (height - top - bottom),
        )

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}" '
        'class="chart">'
    ]
    for step in range(5):
        value = low + span * step / 4
        _, y = place(0, value, 2)
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>'
        )
    ends: list[tuple[float, str, str]] = []
    for number, (name, values) in enumerate(series.items()):
        color, dash = PALETTE[number % 8], _DASHES[number // 8 % 4]
        points = [place(i, float(v), len(values)) for i, v in enumerate(values) if np.isfinite(v)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8" '
            f'stroke-dasharray="{dash}" data-method="{escape(name)}"><title>{escape(name)}</title>'
            "</polyline>"
        )
        if points:
            ends.append((points[-1][1], name, color))
    parts += _labels(ends, width - right + 8, top, height - bottom)
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 6}" text-anchor="middle">'
        f'{escape(x_label)}</text><text x="12" y="{height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {height / 2})">{escape(y_label)}</text></svg>'
    )
    return "".join(parts)


def low_span(values: Array) -> float:
    """The largest value, or a little above zero for all-zero series."""
    return float(values.max()) if values.max() > 0 else 0.1


def _labels(ends: list[tuple[float, str, str]], x: float, top: float, bottom: float) -> list[str]:
    """Direct labels, pushed apart so that none covers another."""
    ends = sorted(ends)
    gap = min(13.0, (bottom - top) / max(1, len(ends)))
    placed: list[str] = []
    last = top - gap
    room = bottom
    for number, (y, name, color) in enumerate(ends):
        y = max(y, last + gap)
        y = min(y, room - gap * (len(ends) - 1 - number))
        last = y
        placed.append(
            f'<text x="{x:.1f}" y="{y + 4:.1f}" fill="{color}" class="label">'
            f"{escape(name[:28])}</text>"
        )
    return placed


def heat_map(names: Sequence[str], values: Array, *, title: str) -> str:
    """A square matrix with its numbers; blank where undefined."""
    cell, left, top = 34, 170, 150
    side = cell * len(names)
    parts = [
        f'<svg viewBox="0 0 {left + side + 10} {top + side + 10}" role="img" '
        f'aria-label="{escape(title)}" class="chart heat">'
    ]
    finite = values[np.isfinite(values)]
    high = float(finite.max()) if len(finite) else 1.0
    for i, name in enumerate(names):
        y = top + i * cell
        parts.append(
            f'<text x="{left - 6}" y="{y + 21}" text-anchor="end">{escape(name[:24])}</text>'
            f'<text transform="translate({left + i * cell + 21} {top - 6}) rotate(-60)">'
            f"{escape(name[:24])}</text>"
        )
        for j in range(len(names)):
            value = values[i, j]
            if not np.isfinite(value):
                continue
            share = max(0.0, min(1.0, value / high if high else 0.0))
            ink = "#fff" if share > 0.55 else "#111"
            parts.append(
                f'<rect x="{left + j * cell}" y="{y}" width="{cell - 1}" height="{cell - 1}" '
                f'fill="{_blue(share)}"/><text x="{left + j * cell + cell / 2}" y="{y + 21}" '
                f'text-anchor="middle" fill="{ink}" class="small">{value:.2f}</text>'
            )
    parts.append("</svg>")
    return "".join(parts)


def _blue(share: float) -> str:
    light, dark = (237, 244, 250), (0, 71, 125)
    mixed = (round(a + (b - a) * share) for a, b in zip(light, dark, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
