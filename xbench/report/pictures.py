"""Galleries as PNG: the image, its top probabilities, and maps of methods for the top classes."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xbench.errors import ParameterError

Array = NDArray[np.float32]

SCALES = ("own", "shared")


@dataclass(frozen=True)
class Look:
    """How maps are drawn.

    Attributes:
        scale: "own" gives every map a scale of its own; "shared" one scale a method, so that the
            classes of an image can be compared.
        reading: how the maps were read, "" as they are; it is named on the page.
    """

    scale: str = "own"
    reading: str = ""

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ParameterError(f"scale is {' or '.join(SCALES)}, not '{self.scale}'.")

    @property
    def words(self) -> str:
        """The scale in words."""
        return "one color scale a method" if self.scale == "shared" else "one color scale a map"


def gallery_file(
    image: Array,
    bars: Sequence[tuple[str, float]],
    classes: Sequence[str],
    found: tuple[Mapping[str, Sequence[Any]], Mapping[str, bool]],
    look: Look,
    kind: str = "png",
) -> bytes:
    """One page: image and bar chart above, then a row a class and a column a method.

    Args:
        image: (H, W, C) in [0, 1].
        bars: class name and probability, most probable first.
        classes: the explained classes, one row each.
        found: by method one map (H, W) a class, or the sentence why there is none; and whether it
            is drawn with a diverging palette.
        look: scale and reading.
        kind: "png" or "pdf".

    Returns:
        the file's bytes.
    """
    maps, signed = found
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
    for column, (method, drawn) in enumerate(maps.items()):
        top = _top([one for one in drawn if not isinstance(one, str)])
        for row, name in enumerate(classes):
            axis = grid[row][column]
            _draw(axis, image, drawn[row], signed[method], top if look.scale == "shared" else 0.0)
            if row == 0:
                axis.set_title(method, fontsize=8)
            if column == 0:
                axis.set_ylabel(name[:26], fontsize=8)
    figure.supxlabel(f"Maps read {look.reading or 'as they are'}, {look.words}", fontsize=8)
    buffer = io.BytesIO()
    unnamed = {"Software": None} if kind == "png" else {"Creator": None, "CreationDate": None}
    figure.savefig(buffer, format=kind, dpi=110, metadata=unnamed)
    return buffer.getvalue()


def _top(found: Sequence[Array]) -> float:
    """The 99th percentile of the magnitudes of all maps of a method."""
    return float(np.percentile(np.abs(np.stack(found)), 99)) if found else 0.0


def _draw(axis: Any, image: Array, found: "Array | str", signed: bool, shared: float) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    if isinstance(found, str):
        axis.text(0.5, 0.5, found, fontsize=6, wrap=True, ha="center", va="center")
        return
    top = shared or _top([found]) or 1.0
    gray = image.mean(axis=2)
    axis.imshow(gray, cmap="gray", vmin=0, vmax=1)
    if signed and found.min() < 0:
        axis.imshow(found, cmap="PuOr_r", vmin=-top, vmax=top, alpha=0.75)
    else:
        low = min(0.0, float(found.min())) if shared else float(found.min())
        axis.imshow(found, cmap="viridis", vmin=low, vmax=max(top, low + 1e-12), alpha=0.75)


def _show(axis: Any, image: Array, title: str) -> None:
    axis.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
