"""Surrogates: a simple model fitted to the classifier around one image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

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

from ._coalitions import Players
from ._masked import OUTPUTS, Output, check_at_least, check_choice

_lime = optional("lime.lime_base")
_distances = optional("sklearn.metrics", "install it with `pip install scikit-learn`")

Segmentation = Literal["slic", "grid", "quickshift", "felzenszwalb"]
Fill = Literal["segment", "black", "mean", "blur"]
FILLS = ("segment", "black", "mean", "blur")


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
        _, found, _, _ = base.explain_instance_with_data(
            data,
            scores[:, None],
            distances,
            label=0,
            num_features=self.n_features or data.shape[1],
            feature_selection=self.selection,
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
