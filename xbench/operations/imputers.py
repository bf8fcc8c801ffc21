"""Imputers: what takes the place of removed pixels, by name, on the device, one image at a time.

Static imputers put a fixed picture there (a color, a blur, noise). Solved imputers look at what is
left: the mean of the neighborhood, the noisy linear equations of ROAD, inpainting. All rows of a
batch are solved together, and each row stops on its own criterion, so neighbors change nothing.
"tokens" paints nothing: a vision transformer does without the tokens of removed patches.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xbench.clocks import CLOCKS
from xbench.errors import ParameterError
from xbench.operations.pixels import fill, rows_of
from xbench.operations.solvers import (
    FOUR_NEIGHBORS,
    GRAY_LEVEL,
    ROAD_NEIGHBORS,
    inpaint_biharmonic,
    neighborhood_mean,
    solve_neighbors,
)
from xbench.operations.tokens import dropping_tokens
from xbench.streams import Streams

if TYPE_CHECKING:
    from xbench.classifier import Classifier

STATIC = ("black", "white", "gray", "mean", "blur", "blur_rise", "uniform", "gaussian")
SOLVED = ("neighborhood", "noisy_linear", "harmonic", "inpaint")
TOKENS = "tokens"
IMPUTERS = (*STATIC, *SOLVED, TOKENS)
NOISY = ("uniform", "gaussian", "noisy_linear")
ROAD_NOISE = 0.01

Solve = Callable[[Tensor, Tensor], Tensor]
Select = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Imputer:
    """An imputer bound to a batch of images.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        content: (N, C, H, W), the picture that shows where pixels were removed, or None.
        solve: maps (owner (B,), drop bool (B, 1, H, W)) to rows with dropped pixels filled and the
            others unchanged, or None.
        noise: (N, C, H, W), what `solve` adds to the dropped pixels, or None.
        tokens: whether the model drops tokens; the pixels then stay as they are.
    """

    images: Tensor
    content: Tensor | None = None
    solve: Solve | None = None
    noise: Tensor | None = None
    tokens: bool = False

    def __call__(self, owner: Tensor, drop: Tensor) -> Tensor:
        """Images with pixels removed, float32 (B, C, H, W).

        Args:
            owner: int64 (B,), the image of each row.
            drop: bool (B, 1, H, W), the pixels that are replaced.
        """
        with CLOCKS.spent("masks"):
            return self._filled(owner, drop)

    def _filled(self, owner: Tensor, drop: Tensor) -> Tensor:
        if self.solve is not None:
            return self.solve(owner, drop)
        rows = rows_of(self.images, owner)
        if self.content is None:
            return rows
        # exact at 0 and 1; `where` is far slower
        return torch.lerp(rows, rows_of(self.content, owner), drop.to(rows))


def check_imputer(name: str) -> None:
    """Refuse a name that is no imputer.

    Raises:
        ParameterError: unknown imputer; the message lists them.
    """
    if name not in IMPUTERS:
        raise ParameterError(f"There is no imputer '{name}'; use one of {', '.join(IMPUTERS)}.")


def mean_color(model: "Classifier") -> Tensor:
    """The mean color that the model was trained with, (C,) or (1,).

    It is zero for the network, so the fill "mean" is the baseline "mean" of the methods; a model
    that declares no normalization has black.
    """
    return torch.tensor(model.normalization.mean)


def make_imputer(name: str, images: Tensor, *, mean: Tensor | None, streams: Streams) -> Imputer:
    """Bind an imputer to images.

    Args:
        name: one of `IMPUTERS`.
        images: (N, C, H, W) in [0, 1].
        mean: the color of "mean", (C,); the image's own mean color if None.
        streams: draws of the noisy imputers, one picture of noise an image.

    Raises:
        ParameterError: an unknown name.
    """
    check_imputer(name)
    if name == TOKENS:
        return Imputer(images, tokens=True)
    if name in STATIC:
        return Imputer(images, content=fill(images, name, mean=mean, streams=streams))
    if name == "noisy_linear":
        noise = ROAD_NOISE * streams.normal(tuple(images.shape[1:]), "imputer").to(images)
        return Imputer(images, solve=partial(_road, images, noise), noise=noise)
    if name == "harmonic":
        return Imputer(images, solve=partial(_harmonic, images))
    by_rows = neighborhood_mean if name == "neighborhood" else inpaint_biharmonic
    return Imputer(
        images, solve=lambda owner, drop: by_rows(rows_of(images, owner).contiguous(), drop)
    )


def _road(images: Tensor, noise: Tensor, owner: Tensor, drop: Tensor) -> Tensor:
    return solve_neighbors(images, drop, ROAD_NEIGHBORS, owner=owner, noise=noise)


def _harmonic(images: Tensor, owner: Tensor, drop: Tensor) -> Tensor:
    level = GRAY_LEVEL / 4  # no noise hides what is left
    return solve_neighbors(images, drop, FOUR_NEIGHBORS, owner=owner, tolerance=level)


def imputed_logits(model: "Classifier", imputer: Imputer, count: int, select: Select) -> Tensor:
    """Logits (count, classes) of images with pixels removed, built one full batch at a time.

    Args:
        model: the classifier.
        imputer: bound to the images.
        count: number of rows.
        select: maps int64 row indices (B,) to (owner (B,), drop (B, 1, H, W)).

    Raises:
        UnsupportedError: tokens are to be dropped from a model that has none.
    """
    if imputer.tokens:
        with dropping_tokens(model, imputer.images) as mask:

            def build(index: Tensor) -> Tensor:
                owner, drop = select(index)
                mask.set(drop)
                return imputer.images[owner]

            return model.rows(count, build, like=imputer.images)
    return model.rows(count, lambda index: imputer(*select(index)), like=imputer.images)
