"""Occlusion: how much the score falls while a window of the image is hidden."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.cost import Cost
from xbench.errors import ParameterError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._masked import (
    BASELINES,
    OUTPUTS,
    Baseline,
    Output,
    baseline_images,
    check_choice,
    masked_scores,
)


@METHODS.register
@dataclass(frozen=True)
class Occlusion(Method):
    """R_p = mean over windows w that cover p of f(x) - f(x with w replaced by the baseline).

    Windows stand every `stride` pixels from the upper left corner; where they would not reach the
    lower or right border a last one is placed flush with it, so every pixel is covered.

    Attributes:
        window: side of the square window: pixels, or a share of the shorter side if below 1;
            0 chooses by size (32 at 224 pixels, 8 at 64 and below).
        stride: pixels, or a share of the shorter side if below 1; 0 is half the window.
        baseline: "black", "mean" (the model's mean color) or "blur".
        output: "logit" or "probability".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="occlusion",
        summary="Drop of the class score while a sliding window hides a part of the image.",
        paper="Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014",
        limitations="Sees one window at a time: evidence that stands twice in the image shows no "
        "drop; as coarse as its window; a hidden window is an image the model never met.",
        family="perturbation",
        forwards="1 + (1 + ceil(max(height - window, 0) / stride)) "
        "* (1 + ceil(max(width - window, 0) / stride))",
        baseline="mean",
    )
    window: int | float = 0
    stride: int | float = 0
    baseline: Baseline = "mean"
    output: Output = "logit"

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("stride", self.stride)):
            if value < 0 or (value > 1 and value != int(value)):
                raise ParameterError(
                    f"{name} is a whole number of pixels, a share below 1, or 0, not {value}."
                )
        check_choice(self.baseline, BASELINES, "The baseline")
        check_choice(self.output, OUTPUTS, "The output")

    def in_pixels(self, height: int, width: int) -> "Occlusion":
        """The same occlusion with window and stride in pixels, for images of this size.

        Raises:
            ParameterError: a stride above the window would leave pixels uncovered.
        """
        side = min(height, width)
        window = _pixels(self.window, side) or _default_window(side)
        window = min(window, side)
        stride = _pixels(self.stride, side) or max(1, window // 2)
        if stride > window:
            raise ParameterError(
                f"The stride ({stride} pixels) must not be above the window ({window} pixels), "
                "or pixels between windows are never hidden."
            )
        return replace(self, window=window, stride=stride)

    def cost(self, facts: Mapping[str, object]) -> Cost:
        """Model calls an image; the formula's window and stride are in pixels."""
        sized = self.in_pixels(int(str(facts["height"])), int(str(facts["width"])))
        return super(Occlusion, sized).cost(facts)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        sized = self.in_pixels(*images.shape[-2:])
        rows, columns = (
            _cover(size, int(sized.window), int(sized.stride)).to(images)
            for size in images.shape[-2:]
        )
        ny, nx = rows.shape[0], columns.shape[0]

        def keep(_: Tensor, step: Tensor) -> Tensor:
            shown = (step == ny * nx).view(-1, 1, 1)  # the last row is the whole image
            step = step.clamp(max=ny * nx - 1)
            hidden = rows[step // nx][:, :, None] * columns[step % nx][:, None, :]
            return torch.where(shown, torch.ones_like(hidden), 1 - hidden)

        fills = baseline_images(model, images, self.baseline, streams)
        scores = masked_scores(model, images, fills, targets, ny * nx + 1, keep, self.output)
        drops = (scores[:, -1:] - scores[:, :-1]).view(-1, ny, nx)
        total = torch.einsum("nyx,yh,xw->nhw", drops, rows, columns)
        return total / (rows.sum(dim=0)[:, None] * columns.sum(dim=0)[None, :])


def _pixels(value: float, side: int) -> int:
    return int(value) if value == 0 or value >= 1 else max(1, round(value * side))


def _default_window(side: int) -> int:
    """32 at 224, 8 from 32 to 64, and never more than half the side."""
    return max(1, min(side // 2, max(8, 4 * round(side / 28))))


def _cover(size: int, window: int, stride: int) -> Tensor:
    """Which of `size` places each window covers, 0 or 1, (windows, size)."""
    count = 1 + math.ceil((size - window) / stride)
    starts = (torch.arange(count) * stride).clamp(max=size - window)[:, None]
    place = torch.arange(size)[None, :]
    return ((place >= starts) & (place < starts + window)).float()
