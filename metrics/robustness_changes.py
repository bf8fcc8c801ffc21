"""Stability under changes that a camera, a codec or a resize makes."""

import io
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.pixels import gaussian_blur
from xbench.registry import METRICS
from xbench.streams import Streams

from ._inputs import check_share
from ._stability import Perturbation, stability

KINDS = ("jpeg", "brightness", "blur", "shift")
_QUALITIES = (90, 70, 50, 30)
_FACTORS = (1.1, 0.9, 1.2, 0.8)
_SIGMAS = (0.5, 1.0, 1.5, 2.0)
_MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))


@METRICS.register
@dataclass(frozen=True)
class ChangeStability(Metric):
    """Agreement of the maps of an image and of four harmlessly changed copies.

    The value is the mean signed Spearman correlation, the curves have one point a copy:

    - "jpeg": JPEG compression of quality 90, 70, 50, 30;
    - "brightness": pixels times 1.1, 0.9, 1.2, 0.8, clipped to [0, 1];
    - "blur": Gaussian blur of sigma 0.5, 1, 1.5, 2 pixels;
    - "shift": content moved by one pixel right, down, left, up, the border repeated. The map must
      move along: maps are compared place by place of the content, without the row or column that
      left the frame.

    Attributes:
        kind: which change.
        top: share of pixels whose overlap is measured; chance is top / (2 - top).
    """

    kind: str = "jpeg"
    top: float = 0.1

    card: ClassVar[MetricCard] = MetricCard(
        name="jpeg_stability",
        summary="Signed Spearman of the maps of an image and of its JPEG copies.",
        paper="Alvarez-Melis & Jaakkola 2018; changes after Hendrycks & Dietterich 2019",
        limitations="A prior that ignores the image is perfectly stable.",
        property="robustness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model", "explain"),
        forwards="5",
        shared="5",
        explains="4",
        invariances=("monotone", "scale", "shift"),
        chance="0 for a map drawn anew at each call",
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        check_share("top", self.top)
        if self.kind not in KINDS:
            raise ParameterError(f"kind is {', '.join(KINDS)}, not '{self.kind}'.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Mean signed Spearman over the copies; higher is better."""
        copies = _copies(self.kind, case.images)
        return stability(case, copies, len(copies), self.top, streams)


METRICS.preset(
    "brightness_stability",
    ChangeStability,
    card={"summary": "Signed Spearman of the maps of an image and of brighter and darker copies."},
    kind="brightness",
)
METRICS.preset(
    "blur_stability",
    ChangeStability,
    card={"summary": "Signed Spearman of the maps of an image and of slightly blurred copies."},
    kind="blur",
)
METRICS.preset(
    "shift_stability",
    ChangeStability,
    card={
        "summary": "Signed Spearman of the maps of an image and of copies moved by one pixel.",
        "limitations": (
            "A prior is almost perfectly stable. Noise that a method adds does not move along, so "
            "averages over noisy copies lose; strides of the network show as left against up."
        ),
    },
    kind="shift",
)


def _copies(kind: str, images: Tensor) -> list[Perturbation]:
    if kind == "jpeg":
        return [Perturbation(f"jpeg {q}", partial(jpeg, images, q)) for q in _QUALITIES]
    if kind == "brightness":
        return [
            Perturbation(f"brightness {f}", partial(torch.clamp, f * images, 0, 1))
            for f in _FACTORS
        ]
    if kind == "blur":
        return [Perturbation(f"blur {s}", partial(gaussian_blur, images, s)) for s in _SIGMAS]
    return [
        Perturbation(f"shift {m}", partial(shift, images, *m), partial(_align, *m)) for m in _MOVES
    ]


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Images (N, C, H, W) in [0, 1] after JPEG compression, C 3 or 1; values are 8 bit."""
    found = []
    for image in images:
        array = (image.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        buffer = io.BytesIO()
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(
            buffer, format="JPEG", quality=quality
        )
        decoded = np.array(Image.open(buffer), dtype=np.float32) / 255
        found.append(torch.from_numpy(decoded.reshape(array.shape)).permute(2, 0, 1))
    return torch.stack(found).to(images)


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """Images (N, C, H, W) with their content moved, the border repeated.

    >>> shift(torch.tensor([[[[1.0, 2.0, 3.0]]]]), 0, 1).flatten().tolist()
    [1.0, 1.0, 2.0]
    """
    height, width = images.shape[-2:]
    margins = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    padded = F.pad(images, margins, mode="replicate")
    top, left = max(-down, 0), max(-right, 0)
    return padded[..., top : top + height, left : left + width]


def _align(down: int, right: int, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    def window(maps: Tensor, rows: int, columns: int) -> Tensor:
        height, width = maps.shape[-2:]
        return maps[
            :,
            max(rows, 0) : height + min(rows, 0),
            max(columns, 0) : width + min(columns, 0),
        ]

    return window(first, -down, -right), window(second, down, right)
