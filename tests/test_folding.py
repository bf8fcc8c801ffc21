"""Folded normalizations: the same numbers, and the whole network while somebody watches."""

import copy

import nets
import pytest
import torch
from torch import nn

from xbench.classifier import Classifier
from xbench.classifier import network as networks
from xbench.classifier.folding import fold, is_watched
from xbench.classifier.randomize import RandomizedNetwork
from xbench.streams import Streams


class Residual(nn.Module):
    """Convolutions with normalization, one in a branch, one used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.twice = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = torch.relu(x + self.branch(x))
        x = self.norm(self.twice(x)) + self.twice(x)
        return self.head(x.mean(dim=(2, 3)))


@pytest.fixture
def network() -> nn.Module:
    module = nets.build(Residual)
    generator = torch.Generator().manual_seed(3)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for value in (child.weight, child.running_var):
                value.data.copy_(0.5 + torch.rand(8, generator=generator))
            for value in (child.bias, child.running_mean):
                value.data.copy_(torch.randn(8, generator=generator))
    return module.eval().requires_grad_(False)


def test_folded_networks_give_the_same_logits_and_gradients(network: nn.Module) -> None:
    images = nets.pictures(2)
    folded = fold(network, images[:1])
    assert folded is not None
    fast = folded.get()
    assert fast is not None
    norms = [m for m in fast.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 1  # behind a convolution that is used twice: stays
    found = []
    for one in (network, fast):
        rows = images.clone().requires_grad_(True)
        logits = one(rows)
        found.append((logits.detach(), torch.autograd.grad(logits[:, 1].sum(), rows)[0]))
    for ours, expected in zip(found[1], found[0], strict=True):
        assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_changed_weights_count_at_once(network: nn.Module) -> None:
    folded = fold(network, nets.pictures(1))
    assert folded is not None
    with torch.no_grad():
        network.first[0].weight.mul_(1.5)
        network.branch[1].running_mean.add_(0.3)
    fast = folded.get()
    assert fast is not None
    images = nets.pictures(2)
    assert torch.allclose(fast(images), network(images), rtol=1e-4, atol=1e-6)


def test_the_whole_network_runs_while_somebody_watches(network: nn.Module) -> None:
    folded = fold(network, nets.pictures(1))
    assert folded is not None
    handle = network.first[1].register_forward_hook(lambda *_: None)
    assert is_watched(network)
    assert folded.get() is None
    handle.remove()
    assert folded.get() is not None
    network.first[0].weight.requires_grad_(True)
    assert folded.get() is None
    network.first[0].weight.requires_grad_(False)
    network.first[1].train()
    assert folded.get() is None


def test_exchanged_parts_count_at_once(network: nn.Module) -> None:
    """A user's method may put another ReLU in, or another forward, and take it out again."""
    images = nets.pictures(2)
    model = Classifier(network, own=True)
    plain = model.logits(images)
    network.first[2] = nn.Tanh()
    exchanged = model.logits(images)
    assert torch.allclose(exchanged, network(model.network.normalize(images)), atol=1e-5)
    assert not torch.allclose(exchanged, plain, atol=1e-3)
    network.first[2] = nn.ReLU()
    assert torch.allclose(model.logits(images), plain, atol=1e-5)
    network.first[2].forward = torch.tanh
    assert torch.allclose(model.logits(images), exchanged, atol=1e-5)
    del network.first[2].forward
    table = network.first[0]._forward_hooks
    network.first[0]._forward_hooks = type(table)({0: lambda *_: None})
    folded = fold(copy.deepcopy(network), images[:1])
    assert folded is None  # watched from the start
    network.first[0]._forward_hooks = table


def test_a_classifier_counts_and_captures_as_before(network: nn.Module) -> None:
    model, images = Classifier(copy.deepcopy(network), batch_size=2), nets.pictures(3)
    expected = network(images)
    assert torch.allclose(model.logits(images), expected, rtol=1e-4, atol=1e-6)
    assert model.counter.forwards == 3
    layer = model.layer("last_conv", images)
    maps, logits = model.features(images, layer)
    assert maps.shape[1] == 8
    assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-6)


def test_networks_that_cannot_be_traced_stay_as_they_are() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            if float(x.sum()) > 0:
                x = x * 2
            return x.mean(dim=(2, 3))

    assert fold(nets.build(Branching).eval(), nets.pictures(1)) is None


def test_a_twin_folds_a_copy_with_other_weights(network: nn.Module) -> None:
    images = nets.pictures(2)
    folded = fold(network, images[:1])
    assert folded is not None
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.3)
    twin = folded.twin(other)
    with torch.no_grad():
        assert torch.allclose(twin.get()(images), other(images), rtol=1e-4, atol=1e-6)
        assert torch.allclose(folded.get()(images), network(images), rtol=1e-4, atol=1e-6)
        other.head.bias.add_(1)
        other.first[0].weight.mul_(0.5)
        assert torch.allclose(twin.get()(images), other(images), rtol=1e-4, atol=1e-6)
    other.branch.register_forward_hook(lambda *_: None)
    assert twin.get() is None
    assert folded.get() is not None


def test_randomized_networks_are_folded_once(network: nn.Module, monkeypatch) -> None:
    made = []
    monkeypatch.setattr(networks, "fold", lambda *a: (made.append(1), fold(*a))[1])
    model, images = Classifier(network, batch_size=2), nets.pictures(2)
    random = RandomizedNetwork(model, images, "permutation", Streams(0, ["a", "b"]))
    model.logits(images)
    made.clear()
    for layers in ([2], [2, 1], [0], []):
        found = random.at(layers)
        whole = copy.deepcopy(found.module)
        assert torch.allclose(found.logits(images), whole(images), rtol=1e-4, atol=1e-6)
    assert len(made) == 1
    assert torch.allclose(found.logits(images), model.logits(images), rtol=1e-4, atol=1e-6)
