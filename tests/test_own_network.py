"""A user's own case without editing the suite: architecture file, checkpoint, class folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from xbench.datasets.folders import ImageFolder

import xbench
from xbench.contracts import Geometry
from xbench.errors import ModelError
from xbench.models.inspect import accuracy, inspect_model
from xbench.models.loading import load_classifier
from xbench.models.python_file import build_python
from xbench.selection import predict

CLASSES = ("across", "down", "spots")
ARCHITECTURE = '''
"""A residual network for small images in the manner of He et al. 2016, section 4.2."""
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNet8(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layers = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2), Block(16, 32, 2))
        self.linear = nn.Linear(32, classes)

    def forward(self, x):
        out = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.linear(F.avg_pool2d(out, 8).flatten(1))


def mine():
    return ResNet8(3), dict(
        mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), crop=32, resize=32,
        class_names=["across", "down", "spots"],
    )
'''


def drawn(label: int, rng: np.random.Generator) -> np.ndarray:
    """A 14 x 14 patch of stripes across, stripes down or a checkerboard, somewhere on noise."""
    image = rng.integers(80, 176, (32, 32, 3), dtype=np.uint8)
    rows, columns = np.mgrid[:14, :14] // 2 % 2
    pattern = (rows, columns, rows ^ columns)[label]
    top, left = rng.integers(0, 18, 2)
    image[top : top + 14, left : left + 14] = np.where(pattern, 230, 20)[..., None]
    return image


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """resnet.py, checkpoint.pth (half precision, from DataParallel) and photos/<class>/*.png."""
    root = tmp_path_factory.mktemp("own")
    (root / "resnet.py").write_text(ARCHITECTURE)
    rng = np.random.default_rng(0)
    labels = [i % 3 for i in range(240)]
    pixels = np.stack([drawn(label, rng) for label in labels])
    train((root / "resnet.py"), torch.from_numpy(pixels), torch.tensor(labels))
    for number in range(24):
        folder = root / "photos" / CLASSES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn(number % 3, rng)).save(folder / f"{number:02d}.png")
    return root


def train(path: Path, pixels: Tensor, labels: Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build_python(path, "mine", None).module
        images = (pixels.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(10):
            order = torch.randperm(len(labels))
            for batch in order.split(40):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
    weights = {f"module.{key}": value.half() for key, value in net.state_dict().items()}
    torch.save({"state_dict": weights, "epoch": 10}, path.parent / "checkpoint.pth")


def test_own_network_is_loaded_and_understood(case: Path) -> None:
    model = load_classifier(
        f"{case / 'resnet.py'}:mine",
        weights=case / "checkpoint.pth",
        device="cpu",
        batch_size=16,
    )
    notes = " ".join(model.notes)
    assert "taken from 'state_dict'" in notes
    assert "'module.' was dropped" in notes
    assert "cast from float16" in notes
    source = ImageFolder(str(case / "photos")).open(model.geometry, limit=None, seed=0, classes=3)
    assert list(source.class_names) == list(CLASSES)
    found = inspect_model(model, source)
    assert found.accuracy.top1 >= 0.9
    assert [finding.level for finding in found.input] == ["ok"]
    assert found.structure.last_conv is not None
    assert found.structure.last_conv.grid == (8, 8)


def test_own_network_runs(case: Path, tmp_path: Path) -> None:
    run = xbench.run(
        model=f"{case / 'resnet.py'}:mine",
        weights=case / "checkpoint.pth",
        dataset=f"imagefolder:{case / 'photos'}",
        methods="gradient,gradcam,occlusion,random",
        metrics="insertion,sparseness",
        limit=6,
        batch_size=16,
        device="cpu",
        out=tmp_path / "run",
    )
    records = run.records
    assert set(records["status"]) == {"ok"}
    assert set(records["method"]) == {"gradient", "gradcam", "occlusion", "random"}
    insertion = records[records["metric"] == "insertion"].groupby("method")["value"].mean()
    assert insertion["gradcam"] > insertion["random"]


def test_the_checkpoint_makes_the_difference(case: Path) -> None:
    source = ImageFolder(str(case / "photos")).open(Geometry(), limit=None, seed=0)
    model = load_classifier(f"{case / 'resnet.py'}:mine", device="cpu", batch_size=16)
    untrained = accuracy(predict(model, source))
    assert untrained.images == 24
    assert untrained.top1 < 0.9


def test_wrong_input_size_is_one_sentence(case: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot take an image of 3 x 20 x 20 \(.*\); give its"):
        load_classifier(
            f"{case / 'resnet.py'}:mine", device="cpu", batch_size=1, geometry=Geometry((20, 20))
        )
