"""Gradient methods against captum, slow twins and closed forms."""

import copy
from pathlib import Path

import captum.attr
import nets
import pytest
import torch
from attributions import TARGETS, correlation, explain
from reference import gradient_reference as reference
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.cost import Cost
from xbench.errors import ParameterError
from xbench.operations.ranks import spearman
from xbench.registry import METHODS
from xbench.streams import Streams

PLAIN = ["gradient", "gradient_abs", "input_x_gradient", "input_x_gradient_abs"]
GUIDED = ["guided_backprop", "guided_backprop_abs", "deconvnet"]
SMOOTH = [
    "smoothgrad[n_samples=5]",
    "smoothgrad_abs[n_samples=3]",
    "smoothgrad_squared[n_samples=5]",
    "vargrad[n_samples=5]",
    "smooth_guided_backprop[n_samples=3]",
    "smooth_input_x_gradient[n_samples=3]",
    "smoothgrad[base=guided_backprop,n_samples=2,statistic=mean_square]",
    "smoothgrad[base=input_x_gradient,n_samples=2,statistic=variance]",
    "smooth_integrated_gradients[base=integrated_gradients[n_steps=3],n_samples=2]",
]
ALL = PLAIN + GUIDED + SMOOTH


@pytest.mark.parametrize("name", ALL)
def test_calls_equal_the_cost_and_nothing_is_left_behind(
    name: str, cnn: Classifier, streams: Streams
) -> None:
    images = nets.pictures(3)
    method = METHODS.create(name).value
    assert method.supports(cnn) is None
    hash_before = cnn.fingerprint()
    gradient_before = cnn.gradients(images, TARGETS)
    state = torch.get_rng_state()
    start = cnn.counter.read()
    maps = explain(name, cnn, images, streams)
    assert cnn.counter.read() - start == method.cost(cnn.facts(images.shape)) * 3
    assert torch.equal(torch.get_rng_state(), state)
    assert cnn.fingerprint() == hash_before
    assert torch.equal(cnn.gradients(images, TARGETS), gradient_before)
    assert float(maps.abs().max()) > 0
    assert METHODS.create(name).card.signed or float(maps.min()) >= 0


@pytest.mark.parametrize("name", ALL)
def test_neighbors_in_the_batch_change_nothing(
    name: str, cnn: Classifier, streams: Streams
) -> None:
    images = nets.pictures(3)
    together = explain(name, cnn, images, streams)
    method = METHODS.create(name).value
    for i in range(3):
        alone = method.explain(
            cnn, images[i : i + 1], TARGETS[i : i + 1], streams=streams.select([i])
        )
        assert torch.allclose(alone[0], together[i], rtol=1e-4, atol=1e-6)


def test_gradient_and_input_x_gradient_match_captum(cnn: Classifier, streams: Streams) -> None:
    images = nets.pictures(3)
    original = captum.attr.Saliency(cnn.network).attribute(
        images.clone(), target=TARGETS, abs=False
    )
    assert torch.allclose(explain("gradient", cnn, images, streams), original.sum(1), atol=1e-6)
    largest = original.abs().amax(1)
    assert torch.allclose(explain("gradient_abs", cnn, images, streams), largest, atol=1e-6)
    original = captum.attr.InputXGradient(cnn.network).attribute(images.clone(), target=TARGETS)
    found = explain("input_x_gradient[baseline=black]", cnn, images, streams)
    assert torch.allclose(found, original.sum(1), atol=1e-6)
    normalized = (images - cnn.network.mean) / cnn.network.std
    original = captum.attr.InputXGradient(cnn.module).attribute(normalized, target=TARGETS)
    found = explain("input_x_gradient", cnn, images, streams)
    assert torch.allclose(found, original.sum(1), atol=1e-5)


def test_input_x_gradient_is_exact_on_a_linear_model() -> None:
    model = Classifier(nets.build(nets.Linear), batch_size=2)
    images = nets.pictures(3, height=12, width=12)
    streams = Streams(0, ["a", "b", "c"])
    targets = torch.tensor([0, 3, 2])
    method = METHODS.create("input_x_gradient[baseline=gray]").value
    maps = method.explain(model, images, targets, streams=streams)
    delta = (model.logits(images) - model.logits(torch.full_like(images, 0.5))).gather(
        1, targets[:, None]
    )
    assert torch.allclose(maps.sum(dim=(1, 2)), delta[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "rule"), [("guided_backprop", "guided"), ("deconvnet", "deconvnet")]
)
def test_guided_rules_match_captum_and_backward_by_hand(
    name: str, rule: str, streams: Streams
) -> None:
    layers = [
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 9 * 8, 12),
        nn.ReLU(),
        nn.Linear(12, 5),
    ]
    network = nets.build(lambda: nn.Sequential(*layers))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for parameter in network.parameters():
            nn.init.normal_(parameter, 0, 0.3)
    model, images = Classifier(network, batch_size=4), nets.pictures(3)
    found = explain(name, model, images, streams)
    for i in range(3):
        by_hand = reference.guided_sequential(layers, images[i], int(TARGETS[i]), rule)
        assert torch.allclose(found[i], by_hand.sum(0), rtol=1e-4, atol=1e-6)
    peer = {
        "guided": captum.attr.GuidedBackprop,
        "deconvnet": captum.attr.Deconvolution,
    }[rule]
    original = peer(network).attribute(images.clone(), target=TARGETS)
    assert torch.allclose(found, original.sum(1), rtol=1e-4, atol=1e-6)
    assert correlation(found, explain("gradient", model, images, streams)) < 0.999


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
def test_guided_rules_reach_functional_and_reused_relus(name: str, streams: Streams) -> None:
    class Modules(nets.FunctionalCNN):
        def __init__(self) -> None:
            super().__init__()
            self.r1, self.r2, self.r3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.r1(self.conv1(x))
            x = x + self.r2(self.conv2(x))
            x = self.r3(self.conv3(nn.functional.max_pool2d(x, 2)))
            return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    functional = Classifier(nets.build(nets.FunctionalCNN), batch_size=4)
    modules = nets.build(Modules)
    modules.load_state_dict(functional.module.state_dict())
    images = nets.pictures(3)
    peer = {"guided_backprop": captum.attr.GuidedBackprop, "deconvnet": captum.attr.Deconvolution}
    original = peer[name](modules).attribute(images.clone(), target=TARGETS).sum(1)
    found = explain(name, functional, images, streams)
    assert torch.allclose(found, original, rtol=1e-4, atol=1e-7)
    assert not torch.allclose(found, explain("gradient", functional, images, streams), rtol=1e-2)


@pytest.mark.parametrize("kind", [nn.GELU, nn.Sigmoid, nn.Identity])
def test_guided_backprop_is_refused_without_relu(kind: type[nn.Module]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), kind(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    reason = METHODS.create("guided_backprop").value.supports(Classifier(network))
    assert reason is not None
    assert "ReLU" in reason
    mixed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.SiLU(), nn.Flatten())
    reason = METHODS.create("deconvnet").value.supports(Classifier(mixed))
    assert reason is not None
    assert "SiLU" in reason


def test_hooks_are_removed_after_an_error(cnn: Classifier, streams: Streams) -> None:
    images = nets.pictures(3)
    before = cnn.gradients(images, TARGETS)
    with pytest.raises(RuntimeError):
        METHODS.create("guided_backprop").value.explain(
            cnn, images, torch.tensor([99, 0, 0]), streams=streams
        )
    hooks = [len(m._backward_hooks) + len(m._forward_hooks) for m in cnn.module.modules()]
    assert sum(hooks) == 0
    assert torch.equal(cnn.gradients(images, TARGETS), before)
    peer = captum.attr.GuidedBackprop(cnn.network).attribute(images.clone(), target=TARGETS)
    found = explain("guided_backprop", cnn, images, streams)
    assert torch.allclose(found, peer.sum(1), rtol=1e-4, atol=1e-6)


# ---- smoothing


@pytest.mark.parametrize(
    ("name", "statistic"),
    [("smoothgrad", "mean"), ("smoothgrad_squared", "mean_square"), ("vargrad", "variance")],
)
def test_smoothing_is_the_statistic_over_the_same_noise(
    name: str, statistic: str, cnn: Classifier, streams: Streams
) -> None:
    images, n = nets.pictures(3) * 0.7, 6
    found = explain(f"{name}[n_samples={n},stdev=0.2]", cnn, images, streams)
    for i in range(3):
        sigma = 0.2 * float(images[i].max() - images[i].min())
        maps = []
        for k in range(n):
            noise = torch.randn(images.shape[1:], generator=streams.generator(i, "noise", k))
            noisy = images[i] + sigma * noise
            maps.append(
                reference.gradient(lambda x, i=i: cnn.network(x)[:, int(TARGETS[i])], noisy)
            )
        stack = torch.stack(maps)
        expected = {
            "mean": stack.mean(0),
            "mean_square": stack.square().mean(0),
            "variance": stack.var(0, unbiased=False),
        }[statistic].sum(0)
        assert torch.allclose(found[i], expected, rtol=1e-3, atol=1e-7)


def test_smoothing_of_a_linear_model_is_its_gradient() -> None:
    model = Classifier(nets.build(nets.Linear), batch_size=8)
    images, targets = nets.pictures(2, height=12, width=12), torch.tensor([0, 1])
    streams = Streams(0, ["a", "b"])
    plain = METHODS.create("gradient").value.explain(model, images, targets, streams=streams)
    smooth = METHODS.create("smoothgrad").value.explain(model, images, targets, streams=streams)
    spread = METHODS.create("vargrad").value.explain(model, images, targets, streams=streams)
    assert torch.allclose(plain, smooth, atol=1e-6)
    assert float(spread.max()) < 1e-10


def test_smoothing_takes_maps_of_any_method(cnn: Classifier, streams: Streams) -> None:
    maps = explain("smoothgrad[base=gradient_abs,n_samples=2]", cnn, nets.pictures(3), streams)
    assert maps.shape == (3, 20, 17)


def test_draws_depend_on_the_image_and_seed_alone(cnn: Classifier, streams: Streams) -> None:
    images = nets.pictures(3)
    name = "smoothgrad[n_samples=2]"
    first = explain(name, cnn, images, streams)
    assert torch.equal(first, explain(name, cnn, images, streams))
    other = Streams(seed=1, image_ids=streams.image_ids, scope="test")
    assert not torch.allclose(first, explain(name, cnn, images, other))


@pytest.mark.parametrize(
    "name",
    [
        "gradient[pooling=median]",
        "input_x_gradient[baseline=green]",
        "smoothgrad[base=input_x_gradient[baseline=green]]",
        "smoothgrad[n_samples=0]",
        "smoothgrad[statistic=mode]",
        "smoothgrad[stdev=-1.0]",
    ],
)
def test_wrong_parameters_are_refused(name: str) -> None:
    with pytest.raises(ParameterError):
        METHODS.create(name)


def test_cost_of_smoothing_follows_its_base() -> None:
    method = METHODS.create("smoothgrad[base=integrated_gradients[n_steps=7],n_samples=3]").value
    assert method.cost({}) == Cost(21, 21, 0)


# ---- the real network


def test_guided_backprop_on_mobilenet_is_not_the_gradient_and_survives_randomization(
    imagenet_sample: Path,
) -> None:
    model, images = nets.mobilenet(imagenet_sample), nets.photographs(imagenet_sample, 4)
    targets = model.logits(images).argmax(1)
    streams = Streams(0, list("abcd"))

    def maps(name: str, of: Classifier) -> Tensor:
        return METHODS.create(name).value.explain(of, images, targets, streams=streams)

    assert correlation(maps("guided_backprop", model), maps("gradient", model)) < 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = copy.deepcopy(model.module)
        head = network.get_submodule("classifier.1")
        for parameter in head.parameters():
            order = torch.randperm(parameter.numel())
            parameter.data = parameter.data.flatten()[order].view_as(parameter)
    shuffled = Classifier(network, normalization=model.normalization, batch_size=4)
    guided = spearman(maps("guided_backprop", model), maps("guided_backprop", shuffled))
    plain = spearman(maps("gradient", model), maps("gradient", shuffled))
    assert float(guided.mean()) > 0.9
    assert float(plain.mean()) < 0.3
