"""What tests of relevance methods share: networks and calls."""

import nets
import torch
import torch.nn.functional as F
from attributions import TARGETS
from reference import relevance_reference as twin
from torch import Tensor, nn
from torchvision.models import vgg

from xbench.classifier import Classifier, Normalization
from xbench.registry import METHODS
from xbench.streams import Streams

NORMALIZATION = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
LRP = (
    "lrp_epsilon",
    "lrp_gamma",
    "lrp_zplus",
    "lrp_alpha2beta1",
    "lrp_epsilon_plus",
    "lrp_epsilon_plus_flat",
    "lrp_epsilon_alpha2beta1",
    "lrp_epsilon_alpha2beta1_flat",
    "lrp_epsilon_gamma_box",
)
EXCITATION = ("excitation_backprop", "contrastive_excitation_backprop")


class Chain(nn.Sequential):
    """Stride, groups, BatchNorm on both sides of convolutions, both poolings, a hidden layer."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 8, 3, padding=1, groups=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 6, 2, stride=2, bias=False),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(6, 7),
            nn.ReLU(),
            nn.Linear(7, 5),
        )

    def blocks(self) -> list[twin.Block]:
        m = list(self)
        return [(m[0], m[1]), m[2], m[3], (m[4], m[5], m[6]), *m[7:]]


class Tangle(nn.Module):
    """Without biases: residual additions, concatenation, functional and reused activations."""

    def __init__(self, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=bias)
        self.conv3 = nn.Conv2d(16, 16, 3, padding=1, groups=4, bias=bias)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(16, 5, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        y = F.relu(x + self.conv2(x))
        y = torch.cat([F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(y, 3, 2, 1)], 1)
        y = y + self.relu(self.conv3(y))
        return self.head(y.mean(dim=(2, 3)) * 2)


class Vgg(nn.Module):
    """The features of a VGG under a small head."""

    def __init__(self, letter: str, batch_norm: bool) -> None:
        super().__init__()
        self.features = vgg.make_layers(vgg.cfgs[letter], batch_norm)
        self.head = nn.Linear(512, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Gated(nets.SmallCNN):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head((x * x.mean(dim=(2, 3), keepdim=True)).mean(dim=(2, 3)))


def classifier(kind: type[nn.Module], batch_size: int = 2, **arguments: object) -> Classifier:
    network = nets.build(kind, **arguments)
    return Classifier(network, normalization=NORMALIZATION, batch_size=batch_size)


def logit(model: Classifier, images: Tensor) -> Tensor:
    return model.logits(images).gather(1, TARGETS[: len(images), None])[:, 0]


def attribute(name: str, model: Classifier, images: Tensor, streams: Streams) -> Tensor:
    method = METHODS.create(name).value
    return method.attribute(model, images, TARGETS[: len(images)], streams=streams)
