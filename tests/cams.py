"""What tests of CAM methods share: a network with a hidden layer behind its maps, and calls."""

import nets
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Method
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams

TARGETS = torch.tensor([0, 3, 1])
CHEAP = {"sscam": "sscam[n_samples=2]", "iscam": "iscam[n_steps=2]"}


class DeepHead(nn.Module):
    """A tail with a ReLU between two linear layers over flattened maps: piecewise linear."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU()
        )
        self.hidden = nn.Linear(8 * 6 * 4, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), (6, 4)).flatten(1)
        return self.head(self.hidden(x).relu())


def deep_head() -> Classifier:
    """A classifier with it."""
    norm = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    return Classifier(nets.build(DeepHead), normalization=norm, batch_size=4)


def explain(method: Method, model: Classifier, images: Tensor, targets: Tensor = TARGETS) -> Tensor:
    streams = Streams(seed=0, image_ids=[str(i) for i in range(len(images))], scope="cam")
    return method.explain(model, images, targets, streams=streams)


def features(model: Classifier, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    layer = model.layer("last_conv", images)
    activations, gradients, _ = model.activation_gradients(images, TARGETS, layer)
    return activations.double().numpy(), gradients.double().numpy()


def grown(maps: list[np.ndarray], images: Tensor) -> Tensor:
    return upsample(torch.tensor(np.stack(maps)).float(), tuple(images.shape[2:]))


def family() -> list[str]:
    return [
        CHEAP.get(e.name, e.name)
        for e in METHODS
        if e.card.family == "cam" and "attention" not in e.card.needs
    ]
