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
    figure, (axis,) = _figure(1, width=6.4, height=0.7 + 0.2 * len(names) * (0.4 + len(groups)))
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
    figure, (axis,) = _figure(1, width=side + 0.6, height=side)
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
    figure, axes = _figure(len(panels), width=2.7 * len(panels) + 0.4, height=2.7)
    for number, (axis, (name, (x, y))) in enumerate(zip(axes, panels.items(), strict=True)):
        axis.scatter(x, y, s=14, color=COLORS[0], alpha=0.7, linewidths=0)
        axis.set_xlabel(name)
        if number == 0:
            axis.set_ylabel(label)
    return _png(figure)


def lines(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], x: str, y: str) -> bytes:
    """Lines by name."""
    figure, (axis,) = _figure(1, width=6.4, height=3.2)
    for number, (name, (at, values)) in enumerate(curves.items()):
        axis.plot(at, values, color=COLORS[number % len(COLORS)], label=name)
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    if len(curves) > 1:
        axis.legend(frameon=False)
    return _png(figure)


def stacked(names: Sequence[str], groups: Mapping[str, Sequence[float]], *, label: str) -> bytes:
    """Stacked upright bars: one bar a name, one part a group."""
    figure, (axis,) = _figure(1, width=1.6 + 1.0 * len(names), height=3.4)
    base = np.zeros(len(names))
    for number, (group, values) in enumerate(groups.items()):
        axis.bar(range(len(names)), values, 0.7, base, color=COLORS[number], label=group)
        base = base + np.asarray(values, np.float64)
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_ylabel(label)
    axis.legend(frameon=False)
    return _png(figure)


def histograms(panels: Mapping[str, Array], *, label: str, mark: float | None = None) -> bytes:
    """One histogram a name, on one scale; `mark` is drawn as a line in all of them."""
    figure, axes = _figure(len(panels), width=2.5 * len(panels), height=2.4, sharey=True)
    top = max((float(values.max()) for values in panels.values() if len(values)), default=1.0)
    edges = np.linspace(0, max(top, mark or 0, 1e-6) * 1.05, 24)
    for axis, (name, values) in zip(axes, panels.items(), strict=True):
        axis.hist(values, bins=edges, color=COLORS[0])
        if mark is not None:
            axis.axvline(mark, color=COLORS[1], linewidth=1)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(label)
    axes[0].set_ylabel("units")
    return _png(figure)


def _figure(
    panels: int, *, width: float, height: float, sharey: bool = True
) -> tuple[Figure, Sequence[Any]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey=sharey)[0])


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
