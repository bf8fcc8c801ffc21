"""LRP and excitation backprop: the papers, conservation, refusals, real networks."""

import nets
import pytest
import torch
from attributions import TARGETS, correlation, explain
from reference import relevance_reference as twin
from relevances import (
    EXCITATION,
    LRP,
    NORMALIZATION,
    Chain,
    Gated,
    Tangle,
    Vgg,
    attribute,
    classifier,
    logit,
)
from torch import Tensor, nn
from torchvision import models

from xbench.classifier import Classifier
from xbench.cost import Cost
from xbench.errors import ParameterError, UnsupportedError
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams

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
