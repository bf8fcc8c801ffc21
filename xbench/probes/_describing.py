"""CLIP-Dissect (Oikarinen and Weng 2023): the word whose images a unit is active on."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
import torch
from torch import Tensor

from xbench.classifier import Classifier, Layer
from xbench.errors import ParameterError

Similarity = Literal["softwpmi", "wpmi", "correlation"]
FIRST, LAST = 0.998, 0.97
"""Probability that the image on which a unit is active most, and that of rank `top`, count."""
LARGEST_SHARE = 0.2
LEVEL, DRAWS = 0.95, 400
_ROOM = 2**23  # numbers held at a time


@dataclass(frozen=True)
class Matching:
    """How activations are compared with words.

    Attributes:
        similarity: "softwpmi", "wpmi", or "correlation" over all images.
        top: images on which a unit is active most that count, a fifth of them all at most.
        sharpness: `a`, by which cosines are multiplied before the softmax over the words.
        weight: lambda, how much a word that fits all units is held against it.
    """

    similarity: str = "softwpmi"
    top: int = 100
    sharpness: float = 10.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.similarity not in get_args(Similarity):
            raise ParameterError(
                f"similarity is {', '.join(get_args(Similarity))}, not '{self.similarity}'."
            )
        if self.top < 1 or self.sharpness <= 0 or self.weight < 0:
            raise ParameterError(
                "top is at least 1, sharpness above 0, and weight is not negative."
            )

    def counted(self, images: int) -> int:
        """How many images count of so many."""
        return max(1, min(self.top, math.ceil(LARGEST_SHARE * images)))


def similarities(cosines: Tensor, activations: Tensor, how: Matching) -> Tensor:
    """How well each word describes each unit, float32 (C, M); higher is better.

    With P the cosines of images and words, `p(t|x) = softmax(a P_x)_t`, B_k the images on which
    unit k is active most, and `p(x in B_k)` falling linearly over them and zero elsewhere:

    - softwpmi: `log E[p(t|B_k)] - lambda log p(t)` with
      `E[p(t|B_k)] = prod_x (1 + p(x in B_k) (p(t|x) - 1))`;
    - wpmi: the same with `p(t|B_k) = prod_{x in B_k} p(t|x)`;
    - correlation: Pearson's, of a unit's activations with a column of P over all images.

    `p(t)` is the mean of the first term over all units.

    Args:
        cosines: P, float32 (N, M).
        activations: a number an image and unit, float32 (N, C).
        how: which of them, and its parameters.
    """
    if how.similarity == "correlation":
        return _standardized(activations).T @ _standardized(cosines)
    top = how.counted(len(cosines))
    order = activations.sort(dim=0, descending=True, stable=True).indices[:top]
    logs = torch.log_softmax(how.sharpness * cosines, dim=1)
    count = torch.linspace(FIRST, LAST, top + 1)[:-1, None]  # the last step is not taken
    chunk = max(1, _ROOM // (top * cosines.shape[1]))
    parts = []
    for start in range(0, order.shape[1], chunk):
        inside = logs[order[:, start : start + chunk].T]  # (c, top, M)
        if how.similarity == "softwpmi":
            inside = torch.log1p(count * torch.expm1(inside))
        parts.append(inside.sum(dim=1))
    joint = torch.cat(parts)
    prior = joint.logsumexp(dim=0) - math.log(len(joint))
    found: Tensor = joint - how.weight * prior
    return found


def _standardized(columns: Tensor) -> Tensor:
    centered = columns - columns.mean(dim=0)
    found: Tensor = centered / centered.norm(dim=0).clamp(min=1e-12)
    return found


def summaries(
    model: Classifier, layer: Layer, images: Tensor, told: Callable[[int], None], chunk: int = 32
) -> Tensor:
    """The mean over space of every unit, float32 (N, C) on the CPU."""
    parts = []
    for start in range(0, len(images), chunk):
        part = images[start : start + chunk].to(model.device)
        parts.append(model.activations(part, layer).mean(dim=(2, 3)).cpu())
        told(min(start + chunk, len(images)))
    return torch.cat(parts)


def describe(
    cosines: Tensor, activations: Tensor, words: list[str], how: Matching, chance: float
) -> pd.DataFrame:
    """The best and second best word of every unit, and whether the best one is better than chance.

    Similarities compare units with each other (with a weight of 1 none is above the logarithm of
    their number), so whether a word fits at all is read from its lift: by how many standard
    deviations its cosine is higher on the unit's top images than on all of them.

    Args:
        cosines: (N, M).
        activations: (N, C).
        words: M of them, at least two.
        how: the similarity.
        chance: see `chance_lift`.

    Returns:
        one record a unit that is not constant: unit, concept, similarity, second,
        second_similarity, lift, chance, described, and under `top` the positions of its top images.
    """
    moving = activations.amax(dim=0) > activations.amin(dim=0)
    kept = activations[:, moving]
    if kept.shape[1] == 0:
        return pd.DataFrame()
    best = similarities(cosines, kept, how).topk(2, dim=1)
    order = kept.sort(dim=0, descending=True, stable=True).indices[: how.counted(len(kept))]
    values = best.values.double()
    lift = _deviations(cosines)[order, best.indices[None, :, 0]].mean(dim=0).double()
    return pd.DataFrame(
        {
            "unit": moving.nonzero()[:, 0].tolist(),
            "concept": [words[int(index)] for index in best.indices[:, 0]],
            "similarity": values[:, 0].numpy(),
            "second": [words[int(index)] for index in best.indices[:, 1]],
            "second_similarity": values[:, 1].numpy(),
            "lift": lift.numpy(),
            "chance": chance,
            "described": (lift > chance).numpy(),
            "top": order.T.tolist(),
        }
    )


def chance_lift(cosines: Tensor, how: Matching, generator: torch.Generator) -> float:
    """The largest lift of any word on as many images drawn at random, in 95 % of the draws.

    So at most one in twenty units that answer to nothing is called described.
    """
    deviations, top = _deviations(cosines), how.counted(len(cosines))
    best = [
        deviations[torch.randperm(len(cosines), generator=generator)[:top]].mean(dim=0).max()
        for _ in range(DRAWS)
    ]
    return float(torch.stack(best).double().quantile(LEVEL))


def _deviations(cosines: Tensor) -> Tensor:
    """Cosines in standard deviations from their word's mean over the images."""
    centered: Tensor = cosines - cosines.mean(dim=0)
    return centered / centered.square().mean(dim=0).sqrt().clamp(min=1e-12)


def read_words(path: Path) -> list[str]:
    """The concepts of a text file, one a line; empty lines and repetitions are left out.

    Raises:
        ParameterError: no such file, no text, or fewer than two concepts.
    """
    path = path.expanduser()
    if not path.is_file():
        raise ParameterError(
            f"There is no file of concepts '{path}'; with --clip, --concepts takes a text file "
            "with one concept a line."
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"The concepts in '{path}' cannot be read as UTF-8 text.") from error
    words = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if len(words) < 2:
        raise ParameterError(
            f"The file '{path}' has {'one concept' if words else 'no concepts'}; write at least "
            "two, one a line."
        )
    return words
