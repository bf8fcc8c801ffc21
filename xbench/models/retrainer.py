"""Training a model anew on changed training images, for the metrics that remove and retrain."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.contracts import Method, check_maps
from xbench.models.fitting import Fit, Pixels, fit
from xbench.optional import seeded
from xbench.streams import Streams, seed_of

RETRAINING = Fit(epochs=12)
"""How models are trained anew in a run."""
_CHUNK = 128


class Retrainer:
    """See `xbench.contracts.Retraining`; one for each method, kept for all batches of a run.

    Args:
        model: whose architecture is trained; it is left as it is.
        method: explains the training images, with the model as it is.
        images: float32 (M, C, H, W) in [0, 1].
        labels: int64 (M,).
        streams: one stream a training image, scoped to the method.
        settings: how to train; the seed is replaced.
    """

    def __init__(
        self,
        model: Classifier,
        method: Method,
        images: Tensor,
        labels: Tensor,
        streams: Streams,
        settings: Fit,
    ) -> None:
        self.model = model
        self.method = method
        self.images = images
        self.labels = labels
        self.streams = streams
        self.settings = settings
        self._maps: Tensor | None = None
        self._trained: dict[object, Classifier] = {}

    @property
    def ids(self) -> Sequence[str]:
        """One identifier a training image."""
        return self.streams.image_ids

    def maps(self) -> Tensor:
        """Maps of the training images for their labels, made once, float32 (M, H, W)."""
        if self._maps is None:
            pieces = []
            with self.model.counter.paused():
                for index in torch.arange(len(self.labels)).split(_CHUNK):
                    images = self.images[index].to(self.model.device)
                    targets = self.labels[index].to(self.model.device)
                    streams = self.streams.select(index)
                    found = self.method.explain(self.model, images, targets, streams=streams)
                    pieces.append(check_maps(found, images, "the method").to(self.images.device))
            self._maps = torch.cat(pieces)
        return self._maps

    def train(self, key: object, images: Tensor, *, seed: int) -> Classifier:
        """A sibling of the model, freshly initialized and trained; the same key is trained once."""
        if (key, seed) not in self._trained:
            fresh = self.model.sibling(copy.deepcopy(self.model.module))
            network = fresh.network
            initialize(network.module, seed)
            network.requires_grad_(True)
            eight_bits = images.clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
            settings = Fit(**{**vars(self.settings), "seed": seed})
            with self.model.counter.paused():
                fit(network, Pixels(eight_bits, self.labels.cpu()), settings)
            network.eval().requires_grad_(False)
            self._trained[key, seed] = fresh
        return self._trained[key, seed]


def initialize(module: nn.Module, seed: int) -> None:
    """Draw every parameter anew, as its layer does when it is made; global random state is kept.

    Parameters that no layer knows how to draw (class tokens, position embeddings) become
    N(0, 0.02).

    Args:
        module: changed in place.
        seed: of the draws.
    """
    with seeded(seed_of(seed, "initialize")):
        for child in module.modules():
            reset = getattr(child, "reset_parameters", getattr(child, "_reset_parameters", None))
            if reset is not None:
                reset()
                continue
            for parameter in child.parameters(recurse=False):
                nn.init.normal_(parameter, 0.0, 0.02)
