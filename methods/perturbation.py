"""Superpixel games: what the score owes to each segment, alone or in all company."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.operations.segments import check_segmentation
from xbench.registry import METHODS
from xbench.streams import Streams

from ._coalitions import FILLS, Fill, Players, Segmentation
from ._masked import OUTPUTS, Output, check_at_least, check_choice


@METHODS.register
@dataclass(frozen=True)
class FeatureAblation(Method):
    """R_s = f(x) - f(x without segment s), painted over the segment.

    Attributes:
        segmentation: slic, grid, quickshift or felzenszwalb.
        n_segments: at most so many segments, and as many forward passes plus one whatever the
            image, so that its neighbors in a batch do not matter.
        baseline: what stands where a segment is absent: "black", "mean", "blur", or "segment" for
            its own mean color.
        output: "logit" or "probability".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="feature_ablation",
        summary="Drop of the class score when one superpixel is removed.",
        paper="Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014",
        limitations="As coarse as its segments; sees one segment at a time, so evidence that "
        "stands twice shows no drop.",
        family="perturbation",
        forwards="n_segments + 1",
        baseline="mean",
    )
    segmentation: Segmentation = "slic"
    n_segments: int = 50
    baseline: Fill = "mean"
    output: Output = "logit"

    def __post_init__(self) -> None:
        check_segmentation(self.segmentation, self.n_segments)
        check_choice(self.baseline, FILLS, "The baseline")
        check_choice(self.output, OUTPUTS, "The output")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        players = Players(self.segmentation, self.n_segments, self.baseline, self.output)
        game = players.game(model, images, targets, streams)
        # the first row removes nobody; rows of players that an image does not have neither
        without = torch.ones(self.n_segments + 1, self.n_segments, dtype=torch.bool)
        without[1:] = ~torch.eye(self.n_segments, dtype=torch.bool)
        values = game.values(without.expand(len(images), -1, -1))
        drops = values[:, :1] - values[:, 1:]
        return game.map([drop[:count] for drop, count in zip(drops, game.players, strict=True)])


@METHODS.register
@dataclass(frozen=True)
class ShapleySampling(Method):
    """phi_s = mean over permutations of v(before s and s) - v(before s), v(S) = f(x with S only).

    Every second permutation is the reverse of the one before, which leaves the mean unbiased and
    less noisy (Mitchell et al., 2022). The values of an image's segments sum to
    f(x) - f(baseline) exactly.

    Attributes:
        n_permutations: how many orders are walked.
        segmentation: grid, slic, quickshift or felzenszwalb.
        n_segments: at most so many segments; the cost counts as many whatever the image.
        baseline: "black", "mean", "blur", or "segment" for the mean color of each segment.
        output: "logit" or "probability".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="shapley_sampling",
        summary="Shapley values of superpixels, estimated from random orders.",
        paper="Castro et al., Polynomial Calculation of the Shapley Value Based on Sampling, 2009",
        limitations="As coarse as its segments; noisy with few permutations; most coalitions are "
        "images that the model never met.",
        family="perturbation",
        stochastic=True,
        forwards="n_permutations * (n_segments - 1) + 2",
        baseline="mean",
    )
    n_permutations: int = 20
    segmentation: Segmentation = "grid"
    n_segments: int = 49
    baseline: Fill = "mean"
    output: Output = "logit"

    def __post_init__(self) -> None:
        check_at_least(self.n_permutations, 1, "n_permutations")
        check_segmentation(self.segmentation, self.n_segments)
        check_choice(self.baseline, FILLS, "The baseline")
        check_choice(self.output, OUTPUTS, "The output")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        players = Players(self.segmentation, self.n_segments, self.baseline, self.output)
        game = players.game(model, images, targets, streams)
        orders = [
            self.orders(count, streams.generator(i, "shapley"))
            for i, count in enumerate(game.players)
        ]
        # rank[i, j, s]: when player s enters in order j; absent players enter last
        ranks = game.padded([one.argsort(dim=1) for one in orders])
        steps = torch.arange(1, self.n_segments).view(1, 1, -1, 1)
        present = (ranks[:, :, None, :] < steps).flatten(1, 2)
        ends = torch.zeros(len(images), 2, ranks.shape[2], dtype=torch.bool)
        ends[:, 1] = True
        values = game.values(torch.cat([ends, present], dim=1)).double().cpu()
        return game.map(
            [
                self._average(order, ends_values, inner.view(self.n_permutations, -1))
                for order, ends_values, inner in zip(
                    orders, values[:, :2], values[:, 2:], strict=True
                )
            ]
        )

    def orders(self, players: int, generator: torch.Generator) -> Tensor:
        """Permutations of the players, int64 (n_permutations, players)."""
        drawn = [
            torch.randperm(players, generator=generator)
            for _ in range((self.n_permutations + 1) // 2)
        ]
        return torch.stack([order for one in drawn for order in (one, one.flip(0))])[
            : self.n_permutations
        ]

    @staticmethod
    def _average(orders: Tensor, ends: Tensor, inner: Tensor) -> Tensor:
        """Mean gain of each player; orders (P, S), ends (empty, whole), values inside (P, ...)."""
        permutations, players = orders.shape
        walk = torch.cat(
            [
                ends[0].expand(permutations, 1),
                inner[:, : players - 1],
                ends[1].expand(permutations, 1),
            ],
            dim=1,
        )
        gains = walk[:, 1:] - walk[:, :-1]
        return torch.zeros_like(gains).scatter_(1, orders, gains).mean(dim=0)
