"""What is said of a model: accuracy, input range, structure, support; and choosing right images."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path

import nets
import pytest
import torch
from torch import Tensor, nn
from xbench.datasets.folders import ImageFolder

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Samples, Source
from xbench.errors import DataError
from xbench.models import calibration, inspect
from xbench.models.loading import load_classifier
from xbench.registry import METHODS
from xbench.selection import Subset, only_correct, predict

NORM = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Memory(Source):
    """Images in memory."""

    def __init__(self, images: Tensor, labels: Sequence[int]) -> None:
        self.images, self.labels = images, list(labels)
        self.ids = [f"{index:03d}" for index in range(len(images))]
        self.name, self.digest, self.class_names = "memory", "0", ["a", "b", "c"]

    def read(self, indices: Sequence[int]) -> Samples:
        index = list(indices)
        labels = torch.tensor([self.labels[i] for i in index])
        return Samples(self.images[index], labels, [self.ids[i] for i in index])


class Brightest(nn.Module):
    """The class is the channel whose normalized mean is largest; exact under NORM alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def tinted(n: int = 48) -> tuple[Tensor, Tensor]:
    """Images whose normalized channel means differ by a hair, so that the preparation matters."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    wanted = torch.rand(n, 3, generator=generator) * 0.01
    wanted[torch.arange(n), labels] += 0.015
    mean, std = torch.tensor(NORM.mean), torch.tensor(NORM.std)
    noise = torch.rand(n, 3, 8, 8, generator=generator) * 0.02
    noise -= noise.mean(dim=(2, 3), keepdim=True)
    return (wanted * std + mean)[:, :, None, None] + noise, labels


class Inside(nn.Module):
    """Normalizes pixels itself."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.inner = module
        self.register_buffer("mu", torch.tensor(NORM.mean).view(1, 3, 1, 1))
        self.register_buffer("sigma", torch.tensor(NORM.std).view(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - self.mu) / self.sigma)


class Normalize(nn.Module):
    """Looks like a normalization layer."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std = list(NORM.mean), list(NORM.std)

    def forward(self, x: Tensor) -> Tensor:
        return x


def classifier(module: nn.Module, normalization: Normalization | None = NORM) -> Classifier:
    return Classifier(module, normalization=normalization, batch_size=16)


def findings(model: Classifier, *, labels: bool = True) -> list[calibration.Finding]:
    images, truth = tinted()
    return calibration.check_input(model, images, truth if labels else torch.full_like(truth, -1))


def test_right_input_is_left_in_peace() -> None:
    for model in (classifier(Brightest()), classifier(Inside(Brightest()), None)):
        (finding,) = findings(model)
        assert finding.level == "ok"
        assert "48 of 48 right" in finding.text


def test_double_normalization_is_named() -> None:
    (finding,) = findings(classifier(Inside(Brightest())))
    assert finding.level == "error"
    assert "normalized twice; give it mean 0 and std 1" in finding.text
    assert "Of 48 images the model gets" in finding.text
    assert "48 with pixels in [0, 1] as they are" in finding.text


def test_double_normalization_is_seen_in_the_parts() -> None:
    first, _ = findings(classifier(nn.Sequential(Normalize(), Brightest())))
    assert first.level == "error"
    assert "The network normalizes inside (0)" in first.text
    assert len(findings(classifier(nn.Sequential(Normalize(), Brightest()), None))) == 1


def test_missing_normalization_and_swapped_channels_are_named() -> None:
    (finding,) = findings(classifier(Brightest(), None))
    assert "48 with pixels normalized with ImageNet's mean and std" in finding.text

    class Swapped(Brightest):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flip(1))

    (finding,) = findings(classifier(Swapped()))
    assert "blue, green, red" in finding.text


def test_without_labels_the_first_batch_norm_tells() -> None:
    module = nets.build(nets.SmallCNN)
    images, _ = tinted()
    mean = torch.tensor(NORM.mean).view(1, 3, 1, 1)
    std = torch.tensor(NORM.std).view(1, 3, 1, 1)
    bright = (images + torch.linspace(-0.4, 0.4, 48).view(-1, 1, 1, 1)).clamp(0, 1)
    module.train()
    with torch.no_grad():
        for _ in range(80):
            module((bright - mean) / std)
    module.eval()
    unknown = torch.full((48,), -1)
    (good,) = calibration.check_input(classifier(module), bright, unknown)
    (bad,) = calibration.check_input(classifier(Inside(module)), bright, unknown)
    assert good.level == "ok"
    assert bad.level == "warning"
    assert "normalized twice" in bad.text
    (silent,) = findings(classifier(Brightest()), labels=False)
    assert "Without labels nothing can be said" in silent.text


def test_checks_leave_the_model_as_found() -> None:
    module = nets.build(nets.SmallCNN)
    model = classifier(module)
    before, state = model.fingerprint(), copy.deepcopy(model.module)
    findings(model)
    assert model.fingerprint() == before
    assert model.counter.read().calls == 0
    assert not any(child._forward_pre_hooks for child in model.module.modules())
    assert str(state) == str(model.module)


def test_accuracy() -> None:
    images, labels = tinted(30)
    labels[:3] = -1
    labels[3:9] = (labels[3:9] + 1) % 3
    found = inspect.accuracy(predict(classifier(Brightest()), Memory(images, labels.tolist())))
    assert found.images == 27
    assert found.unknown == 3
    assert found.top1 == pytest.approx(21 / 27)
    assert found.top5 == 1.0
    assert found.low < found.top1 < found.high
    none = inspect.accuracy(predict(classifier(Brightest()), Memory(images, [-1] * 30)))
    assert none.images == 0
    assert none.top1 != none.top1


def test_only_correct_looks_further_until_enough_are_found() -> None:
    images, labels = tinted(48)
    labels[::2] = (labels[::2] + 1) % 3
    whole = Memory(images, labels.tolist())
    asked: list[int | None] = []

    def opened(limit: int | None) -> Source:
        asked.append(limit)
        return Subset(whole, range(48 if limit is None else min(limit, 48)))

    model = classifier(Brightest())
    source = only_correct(model, opened, limit=9, seed=0)
    assert asked == [9, 18]
    assert len(source) == 9
    assert all(int(name) % 2 == 1 for name in source.ids)
    assert sorted(source.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2], "balanced over classes"
    assert list(source.read([0, 8]).ids) == [source.ids[0], source.ids[8]]
    assert source.digest != whole.digest
    assert len(only_correct(model, opened, limit=1000, seed=0)) == 24
    assert len(only_correct(model, opened, limit=None, seed=0)) == 24
    assert model.counter.read().calls == 0
    with pytest.raises(DataError, match="has no labels"):
        only_correct(model, lambda _: Memory(images, [-1] * 48), limit=None, seed=0)
    wrong = ((whole.images.mean((2, 3)) - torch.tensor(NORM.mean)) / torch.tensor(NORM.std)).argmin(
        1
    )
    with pytest.raises(DataError, match="none of the 48 images"):
        only_correct(model, lambda _: Memory(images, wrong.tolist()), limit=None, seed=0)


def test_structure() -> None:
    found = inspect.structure(classifier(nets.build(nets.FunctionalCNN)), nets.pictures(1))
    assert found.architecture == "FunctionalCNN"
    assert found.classes == 5
    assert found.input == (3, 20, 17)
    assert found.last_conv is not None
    assert found.last_conv.name == "conv3"
    assert found.reused == ["relu"]
    assert found.kinds == {"Conv2d": 3, "ReLU": 1, "Linear": 1}
    assert found.spatial == ["conv1", "conv2", "relu", "conv3"]
    linear = inspect.structure(classifier(nets.build(nets.Linear)), torch.rand(1, 3, 12, 12))
    assert linear.last_conv is None


def test_methods_say_whether_they_fit() -> None:
    methods = METHODS.select("gradient,gradcam,random")
    found = inspect.supports(classifier(nets.build(nets.Linear)), methods)
    assert [one.method for one in found] == ["gradcam", "random", "gradient"]
    assert [one.family for one in found] == ["cam", "control", "gradient"]
    assert [bool(one.reason) for one in found] == [True, False, False]


def test_kinds_of_models() -> None:
    found = {kind.spec: kind for kind in inspect.kinds()}
    assert "mobilenet_v2" in found["torchvision:NAME"].names
    assert found["PATH.py:FUNCTION"].names == ()
    timm = found["timm:NAME"]
    assert bool(timm.names) != bool(timm.missing)


@pytest.mark.slow
def test_real_network(imagenet_sample: Path) -> None:
    def load(normalization: Normalization | None) -> Classifier:
        return load_classifier(
            "torchvision:mobilenet_v2",
            weights=imagenet_sample / "mobilenet_v2.pt",
            device="cpu",
            batch_size=16,
            normalization=normalization,
        )

    model = load(None)
    source = ImageFolder(str(imagenet_sample / "images")).open(
        model.geometry, limit=40, seed=0, classes=1000
    )
    found = inspect.inspect_model(model, source, METHODS.select("gradient,random"))
    assert found.accuracy.top1 >= 0.8
    assert [finding.level for finding in found.input] == ["ok"]
    assert found.structure.last_conv is not None
    assert json.loads(json.dumps(found.to_dict()))["structure"]["classes"] == 1000
    twice = Classifier(Inside(model.module), normalization=NORM, batch_size=16)
    samples = source.read(range(40))
    (finding,) = calibration.check_input(twice, samples.images, samples.labels)
    assert finding.level == "error"
    assert "normalized twice" in finding.text
