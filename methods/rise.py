"""RISE: random soft masks, weighted by the score of what they leave visible."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._masked import (
    BASELINES,
    OUTPUTS,
    Baseline,
    Output,
    baseline_images,
    check_at_least,
    check_choice,
    masked_scores,
)


@METHODS.register
@dataclass(frozen=True)
class Rise(Method):
    """S = 1 / (N p) sum_i f(x * M_i) (M_i - mean of the masks).

    A mask M_i is a binary s x s grid, 1 with probability p, bilinearly enlarged to (s + 1) cells
    of ceil(H / s) x ceil(W / s) pixels and cropped to H x W at a random offset inside a cell.
    Masks are drawn once an image, so methods and calls that use them meet the same ones.

    Attributes:
        n_masks: N; 2000 at 224 pixels, where 500 already show the same picture with more grain.
        s: cells of the grid along each side.
        p: probability that a cell is visible.
        baseline: what stands where the mask is 0; "mean" is what multiplying a normalized image
            by the mask does, as the authors do.
        output: "probability", as the authors, or "logit".
        centered: subtract the mean mask, which removes the pattern of pixels that happened to be
            visible more often and sets "no influence" to 0; False is the paper's own sum.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="rise",
        summary="Average of random smooth masks, weighted by the score of the masked image.",
        paper="Petsiuk et al., RISE: Randomized Input Sampling for Explanation, 2018",
        limitations="Grainy with few masks; no finer than its grid; expensive; masks are images "
        "that the model never met.",
        family="perturbation",
        stochastic=True,
        forwards="n_masks",
        baseline="mean",
    )
    n_masks: int = 2000
    s: int = 7
    p: float = 0.5
    baseline: Baseline = "mean"
    output: Output = "probability"
    centered: bool = True

    def __post_init__(self) -> None:
        check_at_least(self.n_masks, 1, "n_masks")
        check_at_least(self.s, 1, "s")
        if not 0 < self.p < 1:
            raise ParameterError(f"p is a probability between 0 and 1, not {self.p}.")
        check_choice(self.baseline, BASELINES, "The baseline")
        check_choice(self.output, OUTPUTS, "The output")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        height, width = images.shape[-2:]
        masks = RiseMasks.draw(self.n_masks, self.s, self.p, (height, width), streams).to(images)
        fills = baseline_images(model, images, self.baseline, streams)
        scores = masked_scores(
            model, images, fills, targets, self.n_masks, masks.build, self.output
        )
        if self.centered:  # sum (f_i - mean f) M_i is the same as sum f_i (M_i - mean M)
            scores = scores - scores.mean(dim=1, keepdim=True)
        return masks.weighted_sum(scores) / (self.n_masks * self.p)


METHODS.preset(
    "rise_plain",
    Rise,
    card={
        "summary": "RISE as published: the mean mask is not subtracted.",
        "signed": False,
        "limitations": "Pixels that happened to be visible more often look relevant; no zero.",
    },
    centered=False,
)


@dataclass(frozen=True)
class RiseMasks:
    """Random masks of N images, kept as grids and offsets, enlarged when asked for.

    Enlarging is linear and separable, so a mask is U_y[dy] @ grid @ U_x[dx]^T with one matrix for
    each offset; a weighted sum of all masks needs no mask at all.

    Attributes:
        grids: (N, n_masks, s, s), 0 or 1.
        dy, dx: int64 (N, n_masks), offsets in pixels.
        up_y, up_x: (offsets, H, s) and (offsets, W, s).
    """

    grids: Tensor
    dy: Tensor
    dx: Tensor
    up_y: Tensor
    up_x: Tensor

    @staticmethod
    def draw(
        n_masks: int, s: int, p: float, size: tuple[int, int], streams: Streams
    ) -> "RiseMasks":
        """Masks of every image of the streams, from the draws that all methods share."""
        shared = streams.shared()
        cells = [math.ceil(side / s) for side in size]
        return RiseMasks(
            grids=(shared.uniform((n_masks, s, s), "rise", "grid", s) < p).float(),
            dy=shared.integers(cells[0], (n_masks,), "rise", "dy", s),
            dx=shared.integers(cells[1], (n_masks,), "rise", "dx", s),
            up_y=_enlarge(s, cells[0], size[0]),
            up_x=_enlarge(s, cells[1], size[1]),
        )

    def to(self, like: Tensor) -> "RiseMasks":
        """The same masks on the device of `like`."""
        device = like.device
        return RiseMasks(
            self.grids.to(device),
            self.dy.to(device),
            self.dx.to(device),
            self.up_y.to(device),
            self.up_x.to(device),
        )

    def build(self, image: Tensor, step: Tensor) -> Tensor:
        """Masks (B, H, W) of these images and mask numbers, int64 (B,) both."""
        rows = self.up_y[self.dy[image, step]]
        columns = self.up_x[self.dx[image, step]]
        return rows @ self.grids[image, step] @ columns.transpose(1, 2)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """sum_i w_i M_i for each image, (N, n_masks) to (N, H, W)."""
        (oy, height, s), (ox, width, _) = self.up_y.shape, self.up_x.shape
        flat_y = self.up_y.permute(1, 0, 2).reshape(height, oy * s)
        flat_x = self.up_x.permute(1, 0, 2).reshape(width, ox * s)
        maps = []
        for grid, dy, dx, weight in zip(self.grids, self.dy, self.dx, weights, strict=True):
            # by matrix product, since adding at indices is not reproducible on a GPU
            place = F.one_hot(dy * ox + dx, oy * ox).to(weight.dtype)
            table = place.T @ (grid * weight.view(-1, 1, 1)).flatten(1)
            table = table.view(oy, ox, s, s).permute(0, 2, 1, 3).reshape(oy * s, ox * s)
            maps.append(flat_y @ table @ flat_x.T)
        return torch.stack(maps)


def _enlarge(s: int, cell: int, size: int) -> Tensor:
    """The enlargement of s cells to (s + 1) * cell, cropped at each offset: (cell, size, s)."""
    grown = F.interpolate(
        torch.eye(s)[None], size=(s + 1) * cell, mode="linear", align_corners=False
    )[0].T
    return torch.stack([grown[offset : offset + size] for offset in range(cell)])
