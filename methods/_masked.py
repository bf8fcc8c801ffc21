"""What perturbation and surrogate methods share: scores of images that are partly replaced."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.errors import ParameterError
from xbench.operations.imputers import mean_color
from xbench.operations.pixels import fill, rows_of
from xbench.streams import Streams

Output = Literal["logit", "probability"]
Baseline = Literal["black", "mean", "blur"]
Keep = Callable[[Tensor, Tensor], Tensor]

BASELINES = ("black", "mean", "blur")
OUTPUTS = ("logit", "probability")


def check_choice(value: str, choices: tuple[str, ...], what: str) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ParameterError: with the choices in the message.
    """
    if value not in choices:
        raise ParameterError(
            f"{what} is {', '.join(choices[:-1])} or {choices[-1]}, not '{value}'."
        )


def check_at_least(value: float, least: float, what: str) -> None:
    """Refuse a number that is too small.

    Raises:
        ParameterError: with the limit in the message.
    """
    if not value >= least:
        raise ParameterError(f"{what} must be at least {least}, not {value}.")


def baseline_images(model: Classifier, images: Tensor, how: str, streams: Streams) -> Tensor:
    """What takes the place of removed pixels, (N, C, H, W).

    "mean" is the mean color that the model was trained with: black for a model that normalizes
    nothing, as it is for removal metrics and path methods.
    """
    return fill(images, how, mean=mean_color(model), streams=streams)


def score_of(logits: Tensor, targets: Tensor, output: str) -> Tensor:
    """The target's logit or softmax probability, one a row: (B, K) and (B,) to (B,)."""
    values = logits.softmax(dim=1) if output == "probability" else logits
    return values.gather(1, targets[:, None])[:, 0]


def masked_scores(
    model: Classifier,
    images: Tensor,
    fills: Tensor,
    targets: Tensor,
    count: int,
    keep: Keep,
    output: str,
) -> Tensor:
    """Scores of each image under `count` masks, x * keep + fill * (1 - keep).

    Args:
        model: the classifier.
        images: (N, C, H, W), what stands where keep is 1.
        fills: (N, C, H, W), what stands where keep is 0.
        targets: int64 (N,).
        count: masks an image.
        keep: maps image indices (B,) and mask indices (B,) to masks (B, H, W) in [0, 1]; it is
            asked for one batch at a time, so masks of all rows never exist at once.
        output: "logit" or "probability" of the target class.

    Returns:
        float32 (N, count); `count` forward images an image.
    """
    n = images.shape[0]

    def build(index: Tensor) -> Tensor:
        image, step = index // count, index % count
        mask = keep(image, step)[:, None].to(images)
        return torch.lerp(rows_of(fills, image), rows_of(images, image), mask)

    def read(logits: Tensor, index: Tensor) -> Tensor:
        return score_of(logits, targets[index // count], output)

    return model.rows(n * count, build, like=images, read=read).view(n, count)
