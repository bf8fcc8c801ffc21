"""Galleries as PNG: the image, its top probabilities, and maps of methods for the top classes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Array = NDArray[np.float32]


def gallery_png(
    image: Array,
    bars: Sequence[tuple[str, float]],
    classes: Sequence[str],
    maps: Mapping[str, Sequence[Array | str]],
    signed: Mapping[str, bool],
) -> bytes:
    """One page: image and bar chart above, then a row a class and a column a method.

    Args:
        image: (H, W, C) in [0, 1].
        bars: class name and probability, most probable first.
        classes: the explained classes, one row each.
        maps: method to one map (H, W) a class, or the sentence why there is none.
        signed: whether a method's map is drawn with a diverging palette.

    Returns:
        the PNG file's bytes.
    """
    columns = max(len(maps), 3)
    figure = Figure(figsize=(2.1 * columns + 1.0, 3.4 + 2.3 * len(classes)), layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(2, 1, height_ratios=[3.4, 2.3 * len(classes)])
    head, body = parts
    left, right = head.subplots(1, 2, width_ratios=[1, 2])
    _show(left, image, "input")
    names = [f"{name[:34]}" for name, _ in bars][::-1]
    values = [value for _, value in bars][::-1]
    right.barh(range(len(bars)), values, color="#0072B2")
    right.set_yticks(range(len(bars)), names, fontsize=7)
    right.set_xlim(0, 1)
    right.set_xlabel("probability", fontsize=8)
    right.tick_params(axis="x", labelsize=7)
    grid = body.subplots(len(classes), len(maps), squeeze=False)
    for column, (method, found) in enumerate(maps.items()):
        for row, name in enumerate(classes):
            axis = grid[row][column]
            _draw(axis, image, found[row], signed[method])
            if row == 0:
                axis.set_title(method, fontsize=8)
            if column == 0:
                axis.set_ylabel(name[:26], fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _draw(axis: Any, image: Array, found: "Array | str", signed: bool) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if isinstance(found, str):
        axis.text(0.5, 0.5, found, fontsize=6, wrap=True, ha="center", va="center")
        return
    top = float(np.percentile(np.abs(found), 99)) or 1.0
    gray = image.mean(axis=2)
    axis.imshow(gray, cmap="gray", vmin=0, vmax=1)
    if signed and found.min() < 0:
        axis.imshow(found, cmap="PuOr_r", vmin=-top, vmax=top, alpha=0.75)
    else:
        low = float(found.min())
        axis.imshow(found, cmap="viridis", vmin=low, vmax=max(top, low + 1e-12), alpha=0.75)


def _show(axis: Any, image: Array, title: str) -> None:
    axis.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
