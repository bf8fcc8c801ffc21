"""What all stability metrics share: explain perturbed copies, compare with the map of the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.contracts import Case, Scores
from xbench.operations.ranks import spearman
from xbench.operations.similarity import top_overlap
from xbench.streams import Streams

from ._inputs import keeps_prediction, nanmean

Align = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def unmoved(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The map of the image and that of its copy, pixel by pixel as they are."""
    return first, second


@dataclass(frozen=True)
class Perturbation:
    """One way to change all images a little.

    Attributes:
        name: says everything that decides the copies, the run's seed aside.
        build: makes the copies, (N, C, H, W).
        align: brings the two maps to the same places where the content moved.
    """

    name: str
    build: Callable[[], Tensor]
    align: Align = unmoved


def stability(
    case: Case, perturbations: Sequence[Perturbation], levels: int, top: float, streams: Streams
) -> Scores:
    """Signed Spearman, and overlap of the top share, of the maps of images and of their copies.

    Args:
        case: the maps under test.
        perturbations: ordered by level; the same number for every level.
        levels: points of the curves.
        top: share of pixels whose overlap is measured.
        streams: the metric's.

    Returns:
        values: mean Spearman over all copies whose map is not constant. Curves: one point a level.
        Details: the overlap, the mean Spearman over copies that keep the predicted class, and the
        share of such copies.
    """
    ranks, overlaps, kept = [], [], []
    for change in perturbations:
        key = ("perturbed", change.name, streams.seed, streams.repetition)
        images: Tensor = case.bank.get(key, change.build)
        maps = case.explain(images, call=change.name)
        first, second = change.align(case.maps, maps)
        ranks.append(spearman(first, second))
        overlaps.append(top_overlap(first, second, top, streams, change.name))
        kept.append(keeps_prediction(case, key, images))
    rank, overlap, same = (torch.stack(found, dim=1) for found in (ranks, overlaps, kept))
    shape = (len(case), levels, len(perturbations) // levels)
    return Scores.of(
        nanmean(rank),
        curves={
            "spearman": rank.view(shape).nanmean(dim=2),
            "iou": overlap.view(shape).nanmean(dim=2),
        },
        details={
            "iou": nanmean(overlap),
            "same_prediction": nanmean(rank.masked_fill(~same, torch.nan)),
            "kept": same.double().mean(dim=1),
        },
        reason="The map is constant, or constant for all copies.",
    )
