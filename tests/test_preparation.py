"""Prepared copies: equal, private, one module a call; refusals with a sentence."""

import gc

import nets
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.classifier.preparation import activations, is_relu, prepared
from xbench.errors import UnsupportedError


class Awkward(nn.Module):
    """In-place, functional and reused activations, clamps, functional pooling, in-place sums."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.Conv2d(3, 6, 3, padding=1)  # a name that a generated module might want
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.relu(x), inplace=True)
        y = self.act(self.conv2(x))
        y += x
        y = self.act(self.conv2(y)).clamp(0, 6)
        y = F.max_pool2d(y, 2, stride=2)
        y = torch.clamp(y - 0.1, min=0).relu_()
        y = F.avg_pool2d(y, 2) * torch.sigmoid(y.mean(dim=(1, 2, 3), keepdim=True))
        return self.head(F.adaptive_avg_pool2d(y, 1).flatten(1))


class Branching(nn.Module):
    """Cannot be traced: the way depends on the values."""

    def __init__(self, functional: bool, twice: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 3)
        self.functional, self.twice = functional, twice

    def forward(self, x: Tensor) -> Tensor:
        if float(x.sum()) > 1e9:
            x = x * 2
        x = self.conv(x)
        x = F.relu(x) if self.functional else self.relu(x)
        if self.twice:
            x = self.relu(x - 0.1)
        return self.head(x.mean(dim=(2, 3)))


def classifier(module: nn.Module) -> Classifier:
    return Classifier(module, batch_size=4)


def test_every_activation_becomes_a_module_called_once() -> None:
    model = classifier(nets.build(Awkward))
    images = nets.pictures(2)
    copy = prepared(model, images)
    found = activations(copy)
    kinds = sorted(type(module).__name__ for module in found.values())
    assert kinds == ["ReLU"] * 5 + ["ReLU6", "Sigmoid"]
    assert sum(is_relu(module) for module in found.values()) == 6
    assert not any(getattr(module, "inplace", False) for module in found.values())
    calls: list[str] = []
    for name, module in copy.module.named_modules():
        if not any(module.children()):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    copy.logits(images[:1])
    acted = [name for name in calls if name in found]
    assert sorted(acted) == sorted(found)
    pools = [m for m in copy.module.modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)]
    assert len(pools) == 2
    assert torch.allclose(copy.logits(images), model.logits(images), atol=1e-6)


def test_original_is_untouched_and_weights_are_shared() -> None:
    model = classifier(nets.build(nets.FunctionalCNN))
    before = {name: id(module) for name, module in model.module.named_modules()}
    fingerprint = model.fingerprint()
    copy = prepared(model, nets.pictures(1))
    assert {name: id(module) for name, module in model.module.named_modules()} == before
    assert model.fingerprint() == fingerprint
    assert copy.module.get_submodule("conv1").weight is model.module.get_submodule("conv1").weight
    names = activations(copy)
    for module in names.values():
        module.register_full_backward_hook(lambda *_: 1 / 0)
    model.gradients(nets.pictures(1), torch.tensor([0]))  # hooks of the copy are not the model's
    with torch.no_grad():
        model.module.get_submodule("head").weight.mul_(2)
    assert torch.allclose(copy.logits(nets.pictures(1)), model.logits(nets.pictures(1)))


def test_cached_and_counted_on_the_same_counter() -> None:
    model = classifier(nets.build(nets.SmallCNN))
    images = nets.pictures(3)
    copy = prepared(model, images)
    assert model.counter.forwards == 0
    assert prepared(model, images) is copy
    copy.logits(images)
    assert model.counter.forwards == 3
    other = classifier(nets.build(nets.SmallCNN, seed=1))
    assert prepared(other) is not copy
    del model
    gc.collect()
    copy.logits(images)


def test_untraceable_models_fall_back_or_are_refused() -> None:
    images = nets.pictures(2)
    model = classifier(nets.build(Branching, functional=False))
    assert torch.equal(prepared(model, images).logits(images), model.logits(images))
    for arguments in ({"functional": True}, {"functional": False, "twice": True}):
        model = classifier(nets.build(Branching, **arguments))
        with pytest.raises(UnsupportedError, match="use one module a call"):
            prepared(model, images)


class Aliased(nn.Module):
    """Depends on writing in place: `y` and `x` are the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x * 1
        z = y
        z += 1
        return self.head((y * z).mean(dim=(2, 3)))


def test_a_copy_with_other_logits_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="other logits"):
        prepared(classifier(nets.build(Aliased)), nets.pictures(1))


def test_hidden_activations_are_refused() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.Sequential(nn.Flatten(2), nn.Linear(8, 8), layer, nn.Flatten(), nn.Linear(24, 3))
    with pytest.raises(UnsupportedError, match="TransformerEncoderLayer"):
        prepared(classifier(network))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "vgg11_bn",
        "densenet121",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "googlenet",
        "efficientnet_b0",
        "convnext_tiny",
        "squeezenet1_1",
        "shufflenet_v2_x1_0",
        "swin_t",
    ],
)
def test_torchvision_models_are_prepared(name: str) -> None:
    torch.manual_seed(0)
    arguments = {"init_weights": False} if name == "googlenet" else {}
    model = classifier(torchvision.models.get_model(name, weights=None, **arguments))
    images = nets.pictures(1, height=64, width=64)
    copy = prepared(model, images)
    assert isinstance(copy.module, torch.fx.GraphModule)
    assert activations(copy)
