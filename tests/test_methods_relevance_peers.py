"""LRP against zennit and captum; excitation backprop as TorchRay reads it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import captum.attr
import nets
import pytest
import torch
import zennit.attribution
import zennit.canonizers
import zennit.composites
import zennit.torchvision
from attributions import TARGETS, correlation, explain
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from relevances import (
    EXCITATION,
    NORMALIZATION,
    Vgg,
    attribute,
    classifier,
    logit,
)
from torch import Tensor, nn
from torchvision import models

from xbench.classifier import Classifier
from xbench.errors import UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

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
