"""Surrogates: a simple model fitted to the classifier around one image."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError
from xbench.operations.segments import check_segmentation
from xbench.optional import optional
from xbench.registry import METHODS
from xbench.streams import Streams

from ._coalitions import FILLS, Fill, Players, Segmentation
from ._masked import OUTPUTS, Output, check_at_least, check_choice

_lime = optional("lime.lime_base")
_distances = optional("sklearn.metrics", "install it with `pip install scikit-learn`")


@METHODS.register
@dataclass(frozen=True)
class Lime(Method):
    """Weights of a linear model g fitted to f around x, one weight a segment.

    Coalitions z of segments are drawn with probability 1/2 a segment, the first one whole; each
    is weighted by pi(z) = sqrt(exp(-D^2 / kernel_width^2)), D the cosine distance of z to the
    whole image, and g(z) = b + w z minimizes sum pi(z) (f(z) - g(z))^2 + |w|^2. The fit is that of
    the `lime` library; a pixel gets the weight of its segment.

    Attributes:
        n_samples: coalitions, that is forward passes.
        segmentation: slic, grid, quickshift or felzenszwalb.
        n_segments: how many segments slic and the grid make.
        baseline: what stands where a segment is absent: "segment" (its own mean color, the
            library's way), "black", "mean" or "blur".
        kernel_width: of pi.
        n_features: segments that g may use, 0 for all.
        selection: how these are chosen: "auto", "forward_selection", "highest_weights",
            "lasso_path" or "none", as in the library.
        output: "probability", as in the library, or "logit".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="lime",
        summary="Ridge regression of the class score on which superpixels are visible.",
        paper="Ribeiro et al., Why Should I Trust You?, 2016",
        limitations="As coarse as its segments, which matter more than the fit; unstable with "
        "few samples; a linear model may fit badly.",
        family="surrogate",
        stochastic=True,
        forwards="n_samples",
        baseline="segment",
    )
    n_samples: int = 1000
    segmentation: Segmentation = "slic"
    n_segments: int = 50
    baseline: Fill = "segment"
    kernel_width: float = 0.25
    n_features: int = 0
    selection: str = "auto"
    output: Output = "probability"

    def __post_init__(self) -> None:
        check_at_least(self.n_samples, 2, "n_samples")
        check_at_least(self.n_features, 0, "n_features")
        check_segmentation(self.segmentation, self.n_segments)
        check_choice(self.baseline, FILLS, "The baseline")
        check_choice(self.output, OUTPUTS, "The output")
        selections = ("auto", "forward_selection", "highest_weights", "lasso_path", "none")
        check_choice(self.selection, selections, "The selection")
        if not self.kernel_width > 0:
            raise ParameterError(f"kernel_width must be above 0, not {self.kernel_width}.")

    def supports(self, model: Classifier) -> str | None:
        """The `lime` library must be there."""
        return _lime.reason

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        players = Players(self.segmentation, self.n_segments, self.baseline, self.output)
        game = players.game(model, images, targets, streams)
        samples = [
            _lime_samples(self.n_samples, count, streams.generator(i, "lime"))
            for i, count in enumerate(game.players)
        ]
        scores = game.values(game.padded(samples)).double().cpu().numpy()
        fits = [
            torch.from_numpy(self.fit(one.numpy(), score))
            for one, score in zip(samples, scores, strict=True)
        ]
        return game.map(fits)

    def fit(self, samples: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Weights of the segments, float64 (S,), from coalitions (M, S) and scores (M,).

        The first coalition is the whole image.
        """
        data = samples.astype(np.float64)
        distances = _distances.pairwise_distances(data, data[:1], metric="cosine").ravel()
        # the library's random state is used by no step of a ridge fit; 0 keeps it off numpy's own
        base = _lime.LimeBase(self._kernel, random_state=0)
        # a selection of all features only changes their order, by one more regression
        chosen_anyway = self.selection == "auto" and not self.n_features
        _, found, _, _ = base.explain_instance_with_data(
            data,
            scores[:, None],
            distances,
            label=0,
            num_features=self.n_features or data.shape[1],
            feature_selection="none" if chosen_anyway else self.selection,
        )
        weights = np.zeros(data.shape[1])
        for feature, weight in found:
            weights[feature] = weight
        return weights

    def _kernel(self, distances: np.ndarray) -> np.ndarray:
        weights: np.ndarray = np.sqrt(np.exp(-(distances**2) / self.kernel_width**2))
        return weights


def _lime_samples(count: int, players: int, generator: torch.Generator) -> Tensor:
    samples = torch.randint(2, (count, players), generator=generator, dtype=torch.bool)
    samples[0] = True
    return samples


@METHODS.register
@dataclass(frozen=True)
class KernelShap(Method):
    """The linear game g(z) = phi_0 + phi z closest to v(z) = f(x with the segments z only).

    Closest in the least squares weighted by (M - 1) / (C(M, |z|) |z| (M - |z|)), M the number of
    segments, with g exact on the empty and on the whole image; its solution over all coalitions
    is the Shapley values. Sizes of coalitions whose members all fit into the budget are taken
    whole, from both ends; the rest is drawn in pairs of a coalition and its complement (Covert
    and Lee, 2021), so the values are exact as soon as n_samples reaches 2^M.

    Attributes:
        n_samples: coalitions, that is forward passes, the empty and the whole one included.
        segmentation: slic, grid, quickshift or felzenszwalb.
        n_segments: at most so many segments.
        baseline: "mean", "black", "blur", or "segment" for the mean color of each segment.
        output: "logit" or "probability".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="kernelshap",
        summary="Shapley values of superpixels by weighted least squares.",
        paper="Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, 2017",
        limitations="As coarse as its segments; needs several coalitions a segment; most of them "
        "are images that the model never met.",
        family="surrogate",
        stochastic=True,
        forwards="n_samples",
        baseline="mean",
    )
    n_samples: int = 1000
    segmentation: Segmentation = "slic"
    n_segments: int = 50
    baseline: Fill = "mean"
    output: Output = "logit"

    def __post_init__(self) -> None:
        check_at_least(self.n_samples, 4, "n_samples")
        check_segmentation(self.segmentation, self.n_segments)
        check_choice(self.baseline, FILLS, "The baseline")
        check_choice(self.output, OUTPUTS, "The output")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        players = Players(self.segmentation, self.n_segments, self.baseline, self.output)
        game = players.game(model, images, targets, streams)
        drawn = [
            shap_coalitions(count, self.n_samples, streams.generator(i, "kernelshap"))
            for i, count in enumerate(game.players)
        ]
        values = game.values(game.padded([one for one, _ in drawn])).double().cpu()
        return game.map(
            [
                solve_shap(coalitions, weights, value)
                for (coalitions, weights), value in zip(drawn, values, strict=True)
            ]
        )


def shap_coalitions(players: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coalitions and their weights in the Shapley kernel.

    Args:
        players: M.
        count: coalitions in all; the first is empty, the second whole.
        generator: of the draws.

    Returns:
        bool (count, M) and float64 (count,), the two ends and unused rows with weight 0.
    """
    rows = [torch.zeros(1, players, dtype=torch.bool), torch.ones(1, players, dtype=torch.bool)]
    weights = [torch.zeros(2, dtype=torch.float64)]
    left = count - 2
    mass = {
        size: (players - 1) / (size * (players - size)) * (1 if 2 * size == players else 2)
        for size in range(1, players // 2 + 1)
    }  # of all coalitions of a size and of its complement's
    for size in list(mass):
        both = math.comb(players, size) * (1 if 2 * size == players else 2)
        whole = 2**players - 2 <= count - 2
        if not whole and left * mass[size] / sum(mass.values()) < both:
            break
        found = _subsets(players, size)
        if 2 * size != players:
            found = torch.cat([found, ~found])
        rows.append(found)
        weights.append(torch.full((both,), mass.pop(size) / both, dtype=torch.float64))
        left -= both
    if mass and left >= 2:
        drawn = _draw_pairs(players, left // 2, mass, generator)
        rows.append(drawn)
        share = sum(mass.values()) / len(drawn)
        weights.append(torch.full((len(drawn),), share, dtype=torch.float64))
        left -= len(drawn)
    rows.append(torch.ones(left, players, dtype=torch.bool))
    weights.append(torch.zeros(left, dtype=torch.float64))
    return torch.cat(rows), torch.cat(weights)


def solve_shap(coalitions: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    """Shapley values from weighted coalitions, float64 (M,).

    Args:
        coalitions: bool (K, M), the first empty, the second whole.
        weights: float64 (K,).
        values: float64 (K,), of the game.
    """
    total = values[1] - values[0]
    used = weights > 0
    z = coalitions[used].double()
    if z.shape[0] == 0 or z.shape[1] == 1:
        return (total / coalitions.shape[1]).expand(coalitions.shape[1])
    # the last value is the total less the others, so that the sum is exact
    design = z[:, :-1] - z[:, -1:]
    response = values[used] - values[0] - z[:, -1] * total
    root = weights[used].sqrt()
    found = torch.linalg.lstsq(
        design * root[:, None], (response * root)[:, None], driver="gelsd"
    ).solution[:, 0]
    return torch.cat([found, (total - found.sum())[None]])


def _subsets(players: int, size: int) -> Tensor:
    chosen = torch.combinations(torch.arange(players), size)
    return torch.zeros(len(chosen), players, dtype=torch.bool).scatter_(1, chosen, True)


def _draw_pairs(
    players: int, pairs: int, mass: dict[int, float], generator: torch.Generator
) -> Tensor:
    """Random coalitions, each followed by its complement, bool (2 pairs, M)."""
    sizes = torch.tensor(list(mass))
    odds = torch.tensor(list(mass.values()))
    size = sizes[torch.multinomial(odds, pairs, replacement=True, generator=generator)]
    order = torch.rand(pairs, players, generator=generator).argsort(dim=1).argsort(dim=1)
    chosen = order < size[:, None]
    return torch.stack([chosen, ~chosen], dim=1).flatten(0, 1)
