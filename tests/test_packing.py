"""Packed convolutions: the numbers of PyTorch, with every activation, and when they fall back."""

import copy
from itertools import pairwise

import nets
import pytest
import torch
from torch import Tensor, nn

from xbench.classifier import packing
from xbench.classifier.folding import fold
from xbench.classifier.packing import PackedConv2d, can_pack

ACTIVATIONS = (None, nn.ReLU, nn.ReLU6)
GEOMETRIES = (
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 8},
    {"kernel_size": 1},
    {"kernel_size": (3, 5), "dilation": 2, "groups": 2},
)
ORDERS = (torch.contiguous_format, torch.channels_last)


class Chain(nn.Module):
    """A convolution, its normalization and an activation, twice; the second convolution's output
    is used twice."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), activation())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
        self.last = activation()
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        found = self.second(self.first(images))
        return self.head((self.last(found) - 0.1 * found).mean(dim=(2, 3)))


def pair(activation: type[nn.Module] | None, geometry: dict, order: torch.memory_format):
    """A packed convolution and the same from PyTorch."""
    torch.manual_seed(0)
    packed = PackedConv2d(8, 16, **geometry).requires_grad_(False).to(memory_format=order)
    plain = nn.Conv2d(8, 16, **geometry).requires_grad_(False).to(memory_format=order)
    plain.load_state_dict(packed.state_dict())
    if activation is None:
        return packed, plain
    assert packed.takes(activation())
    return packed, nn.Sequential(plain, activation())


def images(order: torch.memory_format, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (9 * torch.randn(count, 8, 14, 15, generator=generator)).contiguous(memory_format=order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_values_and_gradients_are_those_of_pytorch(activation, geometry, order) -> None:
    packed, plain = pair(activation, geometry, order)
    assert can_pack(plain if activation is None else plain[0])
    found = []
    for layer in (packed, plain):
        rows = images(order).requires_grad_(True)
        output = layer(rows)
        weights = torch.linspace(-1, 1, output.numel()).view(output.shape)
        (gradient,) = torch.autograd.grad((weights * output).sum(), rows)
        with torch.no_grad():
            found.append((output.detach(), gradient, layer(images(order, 5))))
    for ours, expected in zip(*found, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-4)
    assert packed._packed is not None  # it did not fall back


def test_a_gradient_can_be_differentiated_again() -> None:
    packed, plain = pair(None, {"kernel_size": 3}, torch.contiguous_format)
    found = []
    for layer in (packed, plain):
        rows = images(torch.contiguous_format).requires_grad_(True)
        (first,) = torch.autograd.grad(layer(rows).pow(3).sum(), rows, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), rows)[0])
    assert torch.allclose(found[0], found[1], rtol=1e-3, atol=1e-2 * float(found[1].abs().max()))


def test_renewed_weights_count() -> None:
    packed, plain = pair(nn.ReLU, {"kernel_size": 3}, torch.channels_last)
    packed(images(torch.channels_last))
    with torch.no_grad():
        packed.weight.mul_(-2)
        plain[0].weight.mul_(-2)
    packed.renewed()
    assert torch.allclose(packed(images(torch.channels_last)), plain(images(torch.channels_last)))


def test_copies_pack_for_themselves() -> None:
    packed, _ = pair(nn.ReLU6, {"kernel_size": 3}, torch.contiguous_format)
    expected = packed(images(torch.contiguous_format))
    copied = copy.deepcopy(packed)
    assert copied._packed is None
    assert copied.activation is nn.ReLU6
    assert torch.equal(copied(images(torch.contiguous_format)), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_without_the_packed_operation_pytorch_computes(activation, monkeypatch) -> None:
    packed, plain = pair(activation, {"kernel_size": 3}, torch.contiguous_format)
    monkeypatch.setattr(PackedConv2d, "convolved", lambda *_: torch.ops.mkldnn.not_there())
    assert torch.equal(
        packed(images(torch.contiguous_format)), plain(images(torch.contiguous_format))
    )
    assert packed._packed is None


def test_casts_go_the_usual_way() -> None:
    packed, plain = pair(nn.ReLU, {"kernel_size": 3}, torch.contiguous_format)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(packed(images(ORDERS[0])), plain(images(ORDERS[0])))
        assert packed(images(ORDERS[0])).dtype == torch.bfloat16


def test_what_has_no_packed_twin_is_not_packed() -> None:
    assert not can_pack(nn.Conv2d(3, 4, 3, padding_mode="circular", padding=1))
    assert not can_pack(nn.Conv2d(3, 4, 3, padding="same"))
    assert not can_pack(nn.Conv2d(3, 4, 3).double())
    packed = PackedConv2d(3, 4, 3)
    assert not packed.takes(nn.Tanh())
    assert packed.takes(nn.ReLU())
    assert not packed.takes(nn.ReLU())


@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, nn.SiLU])
def test_folded_networks_take_the_activations_that_alone_follow(activation) -> None:
    network = nets.build(Chain, activation=activation).eval().requires_grad_(False)
    folded = fold(network, nets.pictures(1))
    fast = folded.get()
    layers = [layer for layer in fast.modules() if isinstance(layer, PackedConv2d)]
    taken = activation if activation in packing._ACTIVATIONS else None
    assert [layer.activation for layer in layers] == [taken, None]
    found = []
    for one in (network, fast):
        rows = nets.pictures(3).requires_grad_(True)
        logits = one(rows)
        found.append((logits.detach(), *torch.autograd.grad(logits[:, 0].sum(), rows)))
    for ours, expected in zip(*found, strict=True):
        assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_rows_do_not_depend_on_their_batch() -> None:
    packed, _ = pair(nn.ReLU, GEOMETRIES[0], torch.channels_last)
    rows = images(torch.channels_last, 9)
    whole = packed(rows)
    for start, end in pairwise((0, 1, 3, 9)):
        part = packed(rows[start:end].contiguous(memory_format=torch.channels_last))
        assert torch.allclose(part, whole[start:end], rtol=1e-5, atol=1e-5)
