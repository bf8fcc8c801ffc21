"""LRP and excitation backprop: the papers, zennit, captum, conservation, refusals."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import captum.attr
import nets
import pytest
import torch
import torch.nn.functional as F
import zennit.attribution
import zennit.canonizers
import zennit.composites
import zennit.torchvision
from attributions import TARGETS, correlation, explain
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from reference import relevance_reference as twin
from torch import Tensor, nn
from torchvision import models
from torchvision.models import vgg

from xbench.classifier import Classifier, Normalization
from xbench.cost import Cost
from xbench.errors import ParameterError, UnsupportedError
from xbench.operations.pixels import upsample
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


# ---- the papers

_E, _P, _A, _G = twin.epsilon(1e-6), twin.alpha_beta(1), twin.alpha_beta(2), twin.gamma(0.25)


def _box(model: Classifier, images: Tensor) -> twin.Share:
    low, high = (model.network.normalize(torch.full_like(images[0], v))[0] for v in (0.0, 1.0))
    return twin.box(low.double().numpy().ravel(), high.double().numpy().ravel())


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("lrp_epsilon", [_E] * 5),
        ("lrp_epsilon[epsilon=0.25]", [twin.epsilon(0.25)] * 5),
        ("lrp_gamma", [_G] * 5),
        ("lrp_zplus", [_P] * 5),
        ("lrp_alpha2beta1", [_A] * 5),
        ("lrp_epsilon_plus", [_P, _P, _P, _E, _E]),
        ("lrp_epsilon_alpha2beta1", [_A, _A, _A, _E, _E]),
        ("lrp_epsilon[conv=zplus,first=wsquare]", [twin.square, _P, _P, _E, _E]),
        ("lrp_epsilon_gamma_box", [None, _G, _G, _E, _E]),
    ],
)
def test_lrp_is_the_papers_rule(name: str, rules: list[twin.Share], streams: Streams) -> None:
    model, images = classifier(Chain), nets.pictures(2, height=8, width=8)
    found = explain(name, model, images, streams)
    blocks = nets.build(Chain).blocks()
    for i in range(2):
        chosen = [rule or _box(model, images) for rule in rules]
        normalized = model.network.normalize(images[i : i + 1])[0]
        expected = twin.relevance(blocks, normalized, int(TARGETS[i]), chosen)[0]
        limit = 2e-3 * float(abs(expected.sum(axis=0)).max())
        assert torch.allclose(found[i], twin.as_map(expected), rtol=1e-3, atol=limit)


@pytest.mark.parametrize(
    ("layer", "block"), [("input", 0), ("1", 1), ("2", 2), ("3", 3), ("7", 5), ("9", 7)]
)
@pytest.mark.parametrize("name", EXCITATION)
def test_excitation_backprop_is_the_papers(
    name: str, layer: str, block: int, streams: Streams
) -> None:
    model, images = classifier(Chain), nets.pictures(2, height=8, width=8)
    signed = ",positive=false" if name.startswith("contrastive") else ""
    found = explain(f"{name}[layer={layer}{signed}]", model, images, streams)
    rules = [twin.excitation] * 4 + [twin.contrast if signed else twin.excitation]
    for i in range(2):
        normalized = model.network.normalize(images[i : i + 1])[0]
        below = twin.relevance(
            nets.build(Chain).blocks(), normalized, int(TARGETS[i]), rules, start=1.0
        )
        expected = upsample(twin.as_map(below[block])[None], (8, 8))[0]
        assert torch.allclose(
            found[i], expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max())
        )


# ---- the libraries


def _zennit(
    kind: str, model: Classifier, images: Tensor, canonizer: Callable[[], object]
) -> Tensor:
    arguments = {}
    if kind == "EpsilonGammaBox":
        for name, value in (("low", 0.0), ("high", 1.0)):
            arguments[name] = model.network.normalize(torch.full_like(images[:1], value))
    composite = getattr(zennit.composites, kind)(canonizers=[canonizer()], **arguments)
    start = torch.zeros(len(images), model.classes(images))
    start[range(len(images)), TARGETS[: len(images)]] = logit(model, images)
    with zennit.attribution.Gradient(model=model.module, composite=composite) as attributor:
        return attributor(model.network.normalize(images), start)[1].detach()


@pytest.mark.parametrize("network", ["small", "vgg11_bn", "resnet18"])
def test_composites_match_zennit(network: str, streams: Streams) -> None:
    kinds = {
        "small": (nets.SmallCNN, zennit.canonizers.SequentialMergeBatchNorm, 20),
        "vgg11_bn": (partial(Vgg, "A", True), zennit.torchvision.VGGCanonizer, 32),
        "resnet18": (models.resnet18, zennit.torchvision.ResNetCanonizer, 40),
    }
    kind, canonizer, size = kinds[network]
    arguments = {"num_classes": 5} if network == "resnet18" else {}
    model = classifier(kind, **arguments)
    peer = Classifier(model.module, normalization=NORMALIZATION, batch_size=2)
    images = nets.pictures(2, height=size, width=size)
    for name, composite in (
        ("lrp_epsilon_gamma_box", "EpsilonGammaBox"),
        ("lrp_epsilon_plus", "EpsilonPlus"),
        ("lrp_epsilon_alpha2beta1", "EpsilonAlpha2Beta1"),
        ("lrp_epsilon_plus_flat", "EpsilonPlusFlat"),
        ("lrp_epsilon_alpha2beta1_flat", "EpsilonAlpha2Beta1Flat"),
    ):
        found = attribute(name, model, images, streams)
        original = _zennit(composite, peer, images, canonizer)
        for i in range(2):
            assert correlation(found[i], original[i]) > 0.999, name
        assert abs(float(found.abs().sum() / original.abs().sum()) - 1) < 0.01


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("lrp_epsilon", lambda: EpsilonRule(epsilon=1e-9)),
        ("lrp_gamma[dense=epsilon]", lambda: GammaRule(gamma=0.25)),  # its logits may be negative
        ("lrp_epsilon_plus", Alpha1_Beta0_Rule),
    ],
)
def test_plain_networks_match_captum(
    name: str, rule: Callable[[], object], streams: Streams
) -> None:
    def plain() -> nn.Module:
        layers = [
            nn.Conv2d(3, 6, 3, bias=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, bias=False),
            nn.ReLU(),
        ]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    network, images = nets.build(plain), nets.pictures(3)
    model = Classifier(network, batch_size=2)
    for layer in network:
        layer.rule = rule() if isinstance(layer, nn.Conv2d) else EpsilonRule(1e-9)
    original = captum.attr.LRP(network).attribute(images.clone(), TARGETS).detach()
    found = attribute(name, model, images, streams)
    for i in range(3):
        assert correlation(found[i], original[i]) > 0.9999


# ---- what must hold


@pytest.mark.parametrize("name", [name for name in LRP if "beta" not in name])
def test_relevance_is_conserved_without_biases(name: str, streams: Streams) -> None:
    model, images = classifier(Tangle), nets.pictures(3)
    total = explain(name, model, images, streams).sum(dim=(1, 2))
    assert torch.allclose(total, logit(model, images), rtol=5e-3)


def test_biases_absorb_relevance(streams: Streams) -> None:
    model, images = classifier(Tangle, bias=True), nets.pictures(3)
    total = explain("lrp_epsilon", model, images, streams).sum(dim=(1, 2))
    assert not torch.allclose(total, logit(model, images), rtol=5e-2)


@pytest.mark.parametrize("kind", [nets.SmallCNN, nets.FunctionalCNN, Tangle])
def test_lrp_epsilon_is_gradient_times_input_in_relu_networks(
    kind: type[nn.Module], streams: Streams
) -> None:
    model, images = classifier(kind), nets.pictures(3)
    gradient = model.gradients(images, TARGETS) * model.network.std
    expected = gradient * model.network.normalize(images)
    found = attribute("lrp_epsilon[epsilon=1e-7]", model, images, streams)
    assert correlation(found, expected) > 0.9999


@pytest.mark.parametrize("name", ["lrp_epsilon[epsilon=0.25]", "lrp_gamma", "lrp_alpha2beta1"])
def test_faint_signals_keep_their_relevance(name: str, streams: Streams) -> None:
    network, images = nets.build(nets.SmallCNN), nets.pictures(3)
    strong = explain(name, Classifier(network, batch_size=4), images, streams)
    for value in (network.features[1].weight, network.features[1].bias):
        value.data *= 2.0**-30  # the second BatchNorm and the head make them no louder
    for value in (network.features[4].bias, network.features[5].running_mean):
        value.data *= 2.0**-30
    network.features[5].bias.data *= 2.0**-30
    network.head.bias.data *= 2.0**-30
    faint = explain(name, Classifier(network, batch_size=4), images, streams)
    expected = strong * 2.0**-30
    assert torch.allclose(faint, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", [*LRP, *EXCITATION])
def test_calls_batches_and_the_model_are_left_in_order(name: str, streams: Streams) -> None:
    model, images = classifier(Tangle), nets.pictures(3)
    before = model.fingerprint()
    found = explain(name, model, images, streams)
    one = METHODS.create(name).value.cost(model.facts(images.shape))
    assert one == Cost(1, 1, 0)
    assert model.counter.read() == one * 3
    assert model.fingerprint() == before
    for child in model.module.modules():
        assert not child._forward_hooks
        assert not child._backward_hooks
    assert not any(value.requires_grad for value in model.module.parameters())
    alone = torch.cat(
        [
            METHODS.create(name).value.explain(
                model, images[i : i + 1], TARGETS[i : i + 1], streams=streams.select([i])
            )
            for i in range(3)
        ]
    )
    assert torch.allclose(alone, found, rtol=1e-3, atol=1e-4 * float(found.abs().max()))


def test_changed_weights_are_followed(streams: Streams) -> None:
    model, images = classifier(nets.SmallCNN), nets.pictures(3)
    first = explain("lrp_epsilon_plus", model, images, streams)
    for value in (model.module.features[5].weight, model.module.features[0].weight):
        value.data = value.data.flip(0).clone()
    second = explain("lrp_epsilon_plus", model, images, streams)
    fresh = Classifier(model.module, normalization=NORMALIZATION, batch_size=2)
    assert torch.equal(second, explain("lrp_epsilon_plus", fresh, images, streams))
    assert correlation(first, second) < 0.999


def test_flat_pixels_see_no_pixel_values(streams: Streams) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for values in network.parameters():
        values.data.fill_(0.1)  # all positive: no window takes from what another gives
    model = Classifier(network, batch_size=2)
    found = explain("lrp_epsilon_plus_flat", model, nets.pictures(2, height=9, width=9), streams)
    corner, middle = found[:, 0, 0], found[:, 4, 4]
    assert bool((found[:, 2:-2, 2:-2].abs().sum(dim=(1, 2)) > 0).all())
    assert bool((corner.abs() < middle.abs()).all())


# ---- excitation backprop


def test_winning_probabilities_sum_to_one(streams: Streams) -> None:
    model, images = classifier(nets.FunctionalCNN), nets.pictures(3, height=16, width=16)
    maps = explain("excitation_backprop", model, images, streams)
    assert bool((maps >= 0).all())
    assert torch.allclose(maps.sum(dim=(1, 2)), torch.tensor(4.0), rtol=1e-3)  # from 8 x 8
    signed = explain("contrastive_excitation_backprop[positive=false]", model, images, streams)
    positive = explain("contrastive_excitation_backprop", model, images, streams)
    assert torch.equal(positive, signed.clamp(min=0))
    assert bool((signed.sum(dim=(1, 2)).abs() < 1e-3 * signed.abs().sum(dim=(1, 2))).all())


@pytest.mark.parametrize(
    ("kind", "layer"),
    [
        (partial(Vgg, "D", False), "features.23"),
        (partial(models.resnet50, num_classes=5), "layer3"),
    ],
)
def test_the_middle_is_where_torchray_reads(
    kind: Callable[..., nn.Module], layer: str, streams: Streams
) -> None:
    model = classifier(kind)
    images = nets.pictures(1, height=64, width=64)
    middle = explain("excitation_backprop", model, images, streams)
    assert torch.equal(
        middle, explain(f"excitation_backprop[layer={layer}]", model, images, streams)
    )
    assert float(middle.sum() / 256) == pytest.approx(1, rel=1e-3)


def test_contrast_tells_classes_apart_where_excitation_does_not(imagenet_sample: Path) -> None:
    model, images = nets.mobilenet(imagenet_sample), nets.photographs(imagenet_sample, 2)
    best = model.logits(images).topk(2, dim=1).indices
    alike = {}
    for name in EXCITATION:
        method = METHODS.create(name).value
        first, second = (
            method.explain(model, images, best[:, k], streams=Streams(0, ["a", "b"], "test"))
            for k in range(2)
        )
        alike[name] = correlation(first, second)
    assert alike["contrastive_excitation_backprop"] < alike["excitation_backprop"]


def test_unknown_places_are_refused(streams: Streams) -> None:
    model, images = classifier(nets.SmallCNN), nets.pictures(3)
    for layer in ("features.99", "head"):
        with pytest.raises(UnsupportedError, match=layer):
            explain(f"excitation_backprop[layer={layer}]", model, images, streams)


# ---- refusals and real networks


@pytest.mark.parametrize("name", [*LRP, *EXCITATION])
def test_gates_are_refused(name: str, streams: Streams) -> None:
    model = classifier(Gated)
    reason = METHODS.create(name).value.supports(model)
    assert reason is not None
    assert "mul" in reason
    with pytest.raises(UnsupportedError, match="mul"):
        explain(name, model, nets.pictures(3), streams)


def test_bounds_of_pixels_need_a_layer_that_reads_them(streams: Streams) -> None:
    class Shifted(nets.SmallCNN):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x * 2 - 1)

    model = classifier(Shifted)
    reason = METHODS.create("lrp_epsilon_gamma_box").value.supports(model)
    assert reason is not None
    assert "features.0" in reason
    assert METHODS.create("lrp_gamma").value.supports(model) is None
    explain("lrp_gamma", model, nets.pictures(3), streams)


@pytest.mark.parametrize(
    "text",
    [
        "lrp_epsilon[epsilon=0]",
        "lrp_epsilon[gamma=-1]",
        "lrp_epsilon[alpha=0.5]",
        "lrp_gamma[conv=x]",
    ],
)
def test_wrong_parameters_are_refused(text: str) -> None:
    with pytest.raises(ParameterError):
        METHODS.create(text)


@pytest.mark.parametrize(
    ("network", "refused"),
    [
        ("resnet18", ""),
        ("vgg11_bn", ""),
        ("densenet121", ""),
        ("mobilenet_v2", ""),
        ("squeezenet1_1", ""),
        ("efficientnet_b0", "Sigmoid"),
        ("convnext_tiny", "layer_norm"),
        ("vit_b_16", "LayerNorm"),
        ("swin_t", "LayerNorm"),
    ],
)
def test_torchvision_networks(network: str, refused: str, streams: Streams) -> None:
    if network == "vgg11_bn":  # its head holds 120 million weights, and no rule of its own
        module = nets.build(Vgg, letter="A", batch_norm=True)
    else:
        module = nets.build(models.get_model, name=network, num_classes=5)
    model = Classifier(module, normalization=NORMALIZATION, batch_size=2)
    images = nets.pictures(2, height=41, width=52)
    for name in (*LRP, *EXCITATION):
        reason = METHODS.create(name).value.supports(model)
        if refused:
            assert reason is not None
            assert refused in reason
        else:
            assert reason is None
            if name in ("lrp_epsilon_gamma_box", "lrp_alpha2beta1", "excitation_backprop"):
                assert explain(name, model, images, streams).shape == (2, 41, 52)
