"""Plots of probes as PNG: bars before and after, a matrix, points, lines, histograms."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.float64]

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b4c9a", "#8a7a00")
"""After Okabe and Ito 2008, as in the report."""


def bars(names: Sequence[str], groups: Mapping[str, Sequence[float]], *, label: str) -> bytes:
    """Horizontal bars, one group of them a name; the first name on top."""
    figure, ((axis,),) = _figure(
        1, 1, width=6.4, height=0.7 + 0.2 * len(names) * (0.4 + len(groups))
    )
    places = np.arange(len(names))[::-1]
    width = 0.8 / len(groups)
    for number, (group, values) in enumerate(groups.items()):
        offset = 0.4 - width * (number + 0.5)
        axis.barh(places + offset, values, width, color=COLORS[number], label=group)
    axis.set_yticks(places, [name[:40] for name in names])
    axis.set_xlabel(label)
    if len(groups) > 1:
        axis.legend(frameon=False)
    return _png(figure)


def matrix(names: Sequence[str], values: Array, *, label: str) -> bytes:
    """A square matrix of numbers in [0, 1] with its names; NaN stays white."""
    side = 2.2 + 0.5 * len(names)
    figure, ((axis,),) = _figure(1, 1, width=side + 0.6, height=side)
    drawn = axis.imshow(values, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=50, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            if np.isfinite(value):
                ink = "white" if value > 0.6 else "black"
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=8)
    figure.colorbar(drawn, ax=axis, shrink=0.7, label=label)
    return _png(figure)


def points(panels: Mapping[str, tuple[Array, Array]], *, label: str) -> bytes:
    """Point clouds side by side, one a name of the horizontal axis, with one vertical axis."""
    figure, (axes,) = _figure(1, len(panels), width=2.7 * len(panels) + 0.4, height=2.7)
    for number, (axis, (name, (x, y))) in enumerate(zip(axes, panels.items(), strict=True)):
        axis.scatter(x, y, s=14, color=COLORS[0], alpha=0.7, linewidths=0)
        axis.set_xlabel(name.replace("[", "\n["))  # parameters on a line of their own
        if number == 0:
            axis.set_ylabel(label)
    return _png(figure)


def lines(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> bytes:
    """Lines by name."""
    figure, ((axis,),) = _figure(1, 1, width=6.4, height=3.2)
    for number, (name, (at, values)) in enumerate(curves.items()):
        axis.plot(at, values, color=COLORS[number % len(COLORS)], label=name)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if len(curves) > 1:
        axis.legend(frameon=False)
    return _png(figure)


def stacked(
    panels: Mapping[str, tuple[Sequence[str], Mapping[str, Sequence[float]]]],
    *,
    label: str,
    colors: Mapping[str, str] | None = None,
) -> bytes:
    """Stacked upright bars, panels side by side on one scale.

    Args:
        panels: by title, the names of the bars and their parts by name, a value a bar.
        label: of the vertical axis.
        colors: of parts by name; the others take theirs in order.
    """
    bars_in_all = sum(len(names) for names, _ in panels.values())
    width = 1.4 * len(panels) + 0.55 * bars_in_all + 1.6
    figure, (axes,) = _figure(1, len(panels), width=width, height=3.6)
    known = list(dict.fromkeys(part for _, parts in panels.values() for part in parts))
    ink = {name: COLORS[place % len(COLORS)] for place, name in enumerate(known)}
    ink |= {name: color for name, color in (colors or {}).items() if name in ink}
    for axis, (title, (names, parts)) in zip(axes, panels.items(), strict=True):
        base = np.zeros(len(names))
        for part, values in parts.items():
            drawn = dict(color=ink[part], edgecolor="#57606a", linewidth=0.4)
            axis.bar(range(len(names)), values, 0.7, base, label=part, **drawn)
            base = base + np.asarray(values, np.float64)
        short = [name[-24:] for name in names]
        axis.set_xticks(range(len(names)), short, rotation=40, ha="right", rotation_mode="anchor")
        axis.set_title(title[-40:], fontsize=9)
    axes[0].set_ylabel(label)
    handles = {
        text: handle
        for axis in axes
        for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(
            handles.values(), handles.keys(), frameon=False, loc="outside right upper", fontsize=8
        )
    return _png(figure)


def histograms(
    rows: Mapping[str, Mapping[str, tuple[Array, float | None]]], *, label: str
) -> bytes:
    """Histograms on one scale: a row of panels a name, and in each panel a mark as a line.

    Args:
        rows: by the row's name, the panels by title: their values and where to draw a line.
        label: of the horizontal axis.
    """
    wide = max(len(row) for row in rows.values())
    figure, axes = _figure(len(rows), wide, width=2.5 * wide, height=0.4 + 2.1 * len(rows))
    panels = [panel for row in rows.values() for panel in row.values()]
    marks = [mark for _, mark in panels if mark is not None and np.isfinite(mark)]
    ends = [float(end(v)) for v, _ in panels for end in (np.min, np.max) if len(v)] + marks
    low, high = min([0.0, *ends]), max([1e-6, *ends])
    edges = np.linspace(low, high + 0.05 * (high - low), 24)
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        for axis in line[len(row) :]:
            axis.set_axis_off()
        for axis, (title, (values, mark)) in zip(line, row.items(), strict=False):
            axis.hist(values, bins=edges, color=COLORS[0])
            if mark is not None and np.isfinite(mark):
                axis.axvline(mark, color=COLORS[1], linewidth=1)
            axis.set_title(title[-32:], fontsize=9)
        line[0].set_ylabel(f"units of {name[-24:]}" if len(rows) > 1 else "units")
    for axis in axes[-1]:
        axis.set_xlabel(label)
    return _png(figure)


def _figure(
    rows: int, columns: int, *, width: float, height: float
) -> tuple[Figure, Sequence[Sequence[Any]]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row")
    return figure, [list(row) for row in axes]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
