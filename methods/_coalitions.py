"""Superpixel games: players are segments, absent ones are replaced by the baseline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.classifier import Classifier
from xbench.operations.segments import paint, segment, segment_counts, segment_means
from xbench.streams import Streams

from ._masked import baseline_images, masked_scores

Segmentation = Literal["slic", "grid", "quickshift", "felzenszwalb"]
Fill = Literal["segment", "black", "mean", "blur"]
FILLS = ("segment", "black", "mean", "blur")


@dataclass(frozen=True)
class Game:
    """The segments of each image as players of a game whose value is the class score.

    Attributes:
        model: the classifier.
        images: (N, C, H, W).
        targets: int64 (N,).
        fills: (N, C, H, W), what stands where a player is absent.
        segments: int64 (N, H, W).
        players: number of segments of each image.
        output: "logit" or "probability".
    """

    model: Classifier
    images: Tensor
    targets: Tensor
    fills: Tensor
    segments: Tensor
    players: Sequence[int]
    output: str

    def values(self, coalitions: Tensor) -> Tensor:
        """Scores of coalitions, one forward image each.

        Args:
            coalitions: bool (N, M, max players), True where the player is there.

        Returns:
            float32 (N, M).
        """
        present = coalitions.to(self.images.device)
        flat = self.segments.flatten(1)

        def keep(image: Tensor, step: Tensor) -> Tensor:
            chosen = present[image, step].gather(1, flat[image])
            return chosen.view(-1, *self.images.shape[-2:])

        return masked_scores(
            self.model,
            self.images,
            self.fills,
            self.targets,
            coalitions.shape[1],
            keep,
            self.output,
        )

    def padded(self, rows: Sequence[Tensor]) -> Tensor:
        """One tensor (N, ..., max players) of tensors (..., players of image i), zeros behind."""
        most = max(self.players)
        return torch.stack([F.pad(row, (0, most - row.shape[-1])) for row in rows])

    def map(self, rows: Sequence[Tensor]) -> Tensor:
        """One value a player as maps, float32 (N, H, W)."""
        return paint(self.padded(rows).to(self.images), self.segments)


@dataclass(frozen=True)
class Players:
    """How a method cuts images into players.

    Attributes:
        segmentation: name of the segmentation, see `xbench.operations.segments`.
        n_segments: how many are asked for.
        baseline: "black", "mean", "blur", or "segment" for the mean color of each segment.
        output: "logit" or "probability".
    """

    segmentation: str
    n_segments: int
    baseline: str
    output: str

    def game(self, model: Classifier, images: Tensor, targets: Tensor, streams: Streams) -> Game:
        """The game of these images."""
        segments = segment(images, self.segmentation, self.n_segments)
        if self.baseline == "segment":
            fills = segment_means(images, segments)
        else:
            fills = baseline_images(model, images, self.baseline, streams)
        return Game(model, images, targets, fills, segments, segment_counts(segments), self.output)
