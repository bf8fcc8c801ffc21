"""The networks on which every method is checked in the fast tests, and pictures for them."""

from dataclasses import dataclass
from functools import cache

import nets
import torch
import torchvision
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.matrix import build_network, pictures

SMALL = ("cnn", "cnn gray", "functional", "vit", "reference", "reference gray")


@dataclass(frozen=True)
class Setting:
    """A classifier and seven pictures for it."""

    classifier: Classifier
    images: Tensor


@cache
def setting(name: str) -> Setting:
    """One of `SMALL`; batch size 7, sides that are odd and differ."""
    kind, gray = name.split()[0], name.endswith("gray")
    channels = 1 if gray else 3
    if kind == "reference":
        return Setting(build_network(kind, gray=gray), pictures((35, 49), channels=channels))
    if kind == "vit":
        return Setting(Classifier(small_vit(), batch_size=7), pictures((24, 24)))
    module = nets.build(nets.SmallCNN if kind == "cnn" else nets.FunctionalCNN, channels=channels)
    normalization = Normalization((0.5,) * channels, (0.25,) * channels)
    size = (20, 17) if gray else (33, 47)
    return Setting(
        Classifier(module, normalization=normalization, batch_size=7),
        pictures(size, channels=channels),
    )


def small_vit() -> nn.Module:
    """Two blocks, 3 x 3 patches of 8 pixels, 5 classes; the head is not zero."""

    def build() -> nn.Module:
        return torchvision.models.VisionTransformer(
            image_size=24, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32,
            num_classes=5,
        )  # fmt: skip

    module = nets.build(build)
    draw = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=draw)
    return module
