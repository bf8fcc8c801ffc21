"""Small networks that tests share; random weights from a fixed seed, global random state kept."""

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.transforms.functional import center_crop, resize, to_tensor

from xbench.classifier import Classifier, Normalization


class SmallCNN(nn.Module):
    """Conv-BN-ReLU twice, max pooling, global average pooling, linear head."""

    def __init__(self, channels: int = 3, classes: int = 5, width: int = 8) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.pool(self.features(x)), 1))


class FunctionalCNN(nn.Module):
    """Like SmallCNN with functional ReLUs and one ReLU module used twice."""

    def __init__(self, channels: int = 3, classes: int = 5, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        x = x + self.relu(self.conv2(x))
        x = F.relu(self.conv3(F.max_pool2d(x, 2)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Linear(nn.Module):
    """Logits are W x + b over all pixels."""

    def __init__(self, shape: tuple[int, int, int] = (3, 12, 12), classes: int = 4) -> None:
        super().__init__()
        self.head = nn.Linear(shape[0] * shape[1] * shape[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1))


def build(kind: type[nn.Module], seed: int = 0, **arguments: object) -> nn.Module:
    """A network with seeded random weights and non-trivial batch-norm statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(**arguments)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def pictures(
    n: int = 3, channels: int = 3, height: int = 20, width: int = 17, seed: int = 1
) -> Tensor:
    """Random images (n, channels, height, width) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width, generator=generator)


def mobilenet(folder: Path, batch_size: int | None = 4) -> Classifier:
    """The real MobileNetV2 of the `imagenet_sample` fixture."""
    network = mobilenet_v2(weights=None)
    state = torch.load(folder / "mobilenet_v2.pt", weights_only=True)
    network.load_state_dict({key: value.float() for key, value in state.items()})
    normalization = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Classifier(network, normalization=normalization, batch_size=batch_size, own=True)


def photographs(folder: Path, count: int) -> Tensor:
    """The first photographs of the `imagenet_sample` fixture, (count, 3, 224, 224)."""
    paths = sorted(path for path in (folder / "images").rglob("*") if path.is_file())[:count]
    files = [to_tensor(Image.open(path).convert("RGB")) for path in paths]
    return torch.stack([center_crop(resize(file, 256), 224) for file in files])
