"""Path methods against captum, slow twins and closed forms."""

import subprocess
import sys
from pathlib import Path

import captum.attr
import nets
import pytest
import torch
from reference import gradient_reference, path_reference
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Complete, check_maps
from xbench.errors import ParameterError
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams

LINE = ["integrated_gradients", "integrated_gradients_black", "integrated_gradients_blur"]
COMPLETE = [
    *(f"{name}[n_steps=5]" for name in LINE),
    "integrated_gradients_uniform[n_steps=5]",
    "guided_integrated_gradients[n_steps=5]",
    "blur_integrated_gradients[n_steps=5]",
    "idgi[n_steps=5]",
    "expected_gradients[n_samples=5]",
    "expected_gradients_blur[n_samples=3]",
    "expected_gradients[baseline=color,n_samples=3]",
    "expected_gradients[baseline=shuffle,n_samples=3]",
    "gradient_shap[n_samples=5]",
    "deeplift",
    "deeplift_shap[n_samples=3]",
]
OTHER = [
    "fullgrad",
    "integrated_gradients_abs[n_steps=3]",
    "layer_activation",
    "layer_gradient_x_activation",
    "layer_conductance[n_steps=5]",
    "internal_influence[n_steps=5]",
]
ALL = COMPLETE + OTHER
TARGETS = torch.tensor([1, 4, 0])
GRAY = "baseline=gray"


def explain(name: str, model: Classifier, images: Tensor, streams: Streams) -> Tensor:
    chosen = METHODS.create(name)
    targets = TARGETS[: len(images)]
    maps = chosen.value.explain(model, images, targets, streams=streams)
    return check_maps(maps, images, chosen.label)


def residual(name: str, model: Classifier, images: Tensor, streams: Streams) -> Tensor:
    method = METHODS.create(name).value
    assert isinstance(method, Complete)
    targets = TARGETS[: len(images)]
    maps = method.explain(model, images, targets, streams=streams)
    return method.residual(model, images, targets, maps, streams=streams)


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


@pytest.fixture(scope="module")
def linear() -> tuple[Classifier, Tensor, Streams]:
    model = Classifier(nets.build(nets.Linear, classes=5), batch_size=4)
    return model, nets.pictures(3, height=12, width=12), Streams(0, ["a", "b", "c"])


@pytest.mark.parametrize("name", ALL)
def test_calls_equal_the_cost_and_nothing_is_left_behind(
    name: str, cnn: Classifier, streams: Streams
) -> None:
    images = nets.pictures(3)
    method = METHODS.create(name).value
    assert method.supports(cnn) is None
    fingerprint, before = cnn.fingerprint(), cnn.gradients(images, TARGETS)
    state, start = torch.get_rng_state(), cnn.counter.read()
    maps = explain(name, cnn, images, streams)
    assert cnn.counter.read() - start == method.cost(cnn.facts(images.shape)) * 3
    assert torch.equal(torch.get_rng_state(), state)
    assert cnn.fingerprint() == fingerprint
    assert torch.equal(cnn.gradients(images, TARGETS), before)
    hooks = [len(m._backward_hooks) + len(m._forward_hooks) for m in cnn.module.modules()]
    assert sum(hooks) == 0
    assert float(maps.abs().max()) > 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("channels", [3, 1])
def test_neighbors_and_batch_size_change_nothing(
    name: str, channels: int, streams: Streams
) -> None:
    network = nets.build(nets.FunctionalCNN, channels=channels)
    images = nets.pictures(3, channels=channels)
    together = explain(name, Classifier(network, batch_size=64), images, streams)
    model = Classifier(network, batch_size=4)
    method = METHODS.create(name).value
    for i in range(3):
        own = streams.select([i])
        alone = method.explain(model, images[i : i + 1], TARGETS[i : i + 1], streams=own)
        scale = float(together[i].abs().max())
        assert torch.allclose(alone[0] / scale, together[i] / scale, atol=1e-4)


# ---- closed forms


@pytest.mark.parametrize("name", COMPLETE)
def test_linear_model_is_exact(name: str, linear: tuple[Classifier, Tensor, Streams]) -> None:
    model, images, streams = linear
    if name.startswith("gradient_shap"):
        return  # the noise moves the end of each line
    assert float(residual(name, model, images, streams).max()) < 1e-3


def test_linear_model_gives_weight_times_difference(
    linear: tuple[Classifier, Tensor, Streams],
) -> None:
    model, images, _streams = linear
    weights = model.module.get_submodule("head").weight[TARGETS].view(images.shape)
    expected = (weights * (images - 0.5)).sum(1)
    for name in ("integrated_gradients", "guided_integrated_gradients", "deeplift"):
        assert torch.allclose(explain(f"{name}[{GRAY}]", *linear), expected, atol=1e-5)


def test_completeness_error_falls_with_the_steps(cnn: Classifier, streams: Streams) -> None:
    images = nets.pictures(3)
    errors = [
        float(residual(f"integrated_gradients[n_steps={n}]", cnn, images, streams).median())
        for n in (4, 20, 300)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


@pytest.mark.parametrize("name", ["guided_integrated_gradients", "blur_integrated_gradients"])
def test_other_paths_come_closer_to_completeness_with_the_steps(
    name: str, cnn: Classifier, streams: Streams
) -> None:
    images = nets.pictures(3)
    few, some, many = (
        float(residual(f"{name}[n_steps={steps}]", cnn, images, streams).median())
        for steps in (10, 60, 360)
    )
    assert few > some > many
    assert many < 0.15


@pytest.mark.parametrize("name", ["idgi[n_steps=3]", "deeplift", "deeplift_shap[n_samples=3]"])
def test_exactly_complete_methods(name: str, cnn: Classifier, streams: Streams) -> None:
    assert float(residual(name, cnn, nets.pictures(3), streams).max()) < 1e-3


def test_residual_is_undefined_for_magnitudes(cnn: Classifier, streams: Streams) -> None:
    found = residual("integrated_gradients_abs[n_steps=3]", cnn, nets.pictures(3), streams)
    assert bool(found.isnan().all())


def test_expected_gradients_approach_the_mean_of_integrated_gradients(
    cnn: Classifier, streams: Streams
) -> None:
    images = nets.pictures(3)
    few = residual("expected_gradients[n_samples=10]", cnn, images, streams).mean()
    many = residual("expected_gradients[n_samples=500]", cnn, images, streams).mean()
    assert many < few
    assert many < 0.25


# ---- captum and the papers


def test_integrated_gradients_match_captum_and_the_paper(cnn: Classifier, streams: Streams) -> None:
    images = nets.pictures(3)
    found = explain("integrated_gradients[baseline=black,n_steps=12]", cnn, images, streams)
    original = captum.attr.IntegratedGradients(cnn.network).attribute(
        images.clone(), torch.zeros_like(images), TARGETS, n_steps=12, method="riemann_middle"
    )
    assert torch.allclose(found, original.sum(1).float(), rtol=1e-3, atol=1e-6)
    for i in range(3):
        twin = gradient_reference.integrated_gradients(
            lambda x, i=i: cnn.network(x)[:, TARGETS[i]],
            images[i],
            torch.zeros_like(images[i]),
            12,
        )
        assert torch.allclose(found[i], twin.sum(0), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["idgi", "guided_integrated_gradients"])
def test_other_paths_match_the_papers(name: str, cnn: Classifier, streams: Streams) -> None:
    images = nets.pictures(3)
    found = explain(f"{name}[{GRAY},n_steps=15]", cnn, images, streams)
    for i in range(3):

        def score(x: Tensor, i: int = i) -> Tensor:
            return cnn.network(x)[:, TARGETS[i]]

        start = torch.full_like(images[i], 0.5)
        if name == "idgi":
            twin = path_reference.idgi(score, images[i], start, 15)
        else:
            twin = path_reference.guided_ig(score, images[i], start, 15, 0.25, 0.02)
        assert correlation(found[i], twin.sum(0)) > 0.999


def test_blur_integrated_gradients_match_the_paper(cnn: Classifier, streams: Streams) -> None:
    smooth = nets.build(nets.SmallCNN)
    smooth.features[2], smooth.features[6] = nn.Softplus(), nn.Softplus()
    smooth.features[3] = nn.AvgPool2d(2)
    model = Classifier(smooth, batch_size=8)
    images = nets.pictures(2)
    maps = explain("blur_integrated_gradients[n_steps=200]", model, images, streams)
    for i in range(2):
        twin = path_reference.blur_ig(
            lambda x, i=i: model.network(x)[:, TARGETS[i]], images[i], 50 * 17 / 224, 800
        )
        assert correlation(maps[i], twin.sum(0)) > 0.999


def test_gradient_shap_matches_captum_in_expectation(
    linear: tuple[Classifier, Tensor, Streams],
) -> None:
    model, images, _streams = linear
    found = explain("gradient_shap[n_samples=400]", *linear)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = captum.attr.GradientShap(model.network).attribute(
            images.clone(), torch.rand(400, 3, 12, 12), target=TARGETS, n_samples=400, stdevs=0.09
        )
    assert correlation(found, original.sum(1)) > 0.98


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Sigmoid])
@pytest.mark.parametrize("adjacent", [True, False])
def test_deeplift_matches_the_paper_and_captum(
    kind: type[nn.Module], adjacent: bool, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nets.build(nets.SmallCNN, width=6)
    network.features[2], network.features[6] = kind(), kind()
    if not adjacent:
        network.features[3] = nn.Sequential(nn.Conv2d(6, 6, 1), nn.MaxPool2d(2))
        network = nets.build(lambda: network)
    model, images = Classifier(network, batch_size=2), nets.pictures(3)
    found = explain("deeplift[baseline=black]", model, images, streams)
    assert float(residual("deeplift", model, images, streams).max()) < 1e-3
    layers = [m for m in network.modules() if not any(m.children())]
    layers.insert(-1, nn.Flatten())
    for i in range(3):
        twin = path_reference.deeplift(layers, images[i], images[i] * 0, int(TARGETS[i])).sum(0)
        assert correlation(found[i], twin) > 0.9999
    if adjacent:
        return  # captum 0.9 shares out wrongly where an activation touches a max pooling
    core = captum.attr._core.deep_lift
    monkeypatch.setitem(core.SUPPORTED_NON_LINEAR, kind, core.nonlinear)
    peer = captum.attr.DeepLift(network)
    original = peer.attribute(images.clone(), torch.zeros_like(images), TARGETS).sum(1)
    assert correlation(found, original.detach()) > 0.9999


def test_deeplift_is_complete_over_functional_relus_and_overlapping_windows(
    streams: Streams,
) -> None:
    class Overlapping(nets.FunctionalCNN):
        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.max_pool2d(self.relu(self.conv1(x)), 3, stride=2, padding=1)
            x = x + self.relu(self.conv2(x))
            x = torch.cat([nn.functional.relu(self.conv3(x))[:, :8], x], 1)
            return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))

    model = Classifier(nets.build(Overlapping), batch_size=2)
    assert float(residual("deeplift", model, nets.pictures(3), streams).max()) < 1e-3


def test_deeplift_does_not_depend_on_the_scale_of_the_signals(streams: Streams) -> None:
    network = nets.build(nets.SmallCNN)
    images = nets.pictures(3)
    strong = explain("deeplift", Classifier(network, batch_size=4), images, streams)
    batch_norm = network.features[1]
    for value in (batch_norm.weight, batch_norm.bias, network.features[5].running_mean):
        value.data *= 2.0**-30  # faint signals between the layers
    network.features[4].bias.data *= 2.0**-30
    network.features[5].running_var.data *= 2.0**-60
    network.features[5].eps *= 2.0**-60
    faint = explain("deeplift", Classifier(network, batch_size=4), images, streams)
    assert torch.allclose(faint, strong, rtol=1e-3, atol=1e-5 * float(strong.abs().max()))


@pytest.mark.parametrize("name", ["deeplift", "deeplift_shap", "fullgrad"])
def test_operations_without_a_rule_are_refused(name: str) -> None:
    class Gated(nets.SmallCNN):
        def forward(self, x: Tensor) -> Tensor:
            x = self.features(x)
            return self.head((x * x.mean(dim=(2, 3), keepdim=True).sigmoid()).mean(dim=(2, 3)))

    method = METHODS.create(name).value
    reason = method.supports(Classifier(nets.build(Gated)))
    assert reason is not None
    assert "mul" in reason
    normed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten())
    reason = method.supports(Classifier(normed))
    assert reason is not None
    assert "GroupNorm" in reason


def test_fullgrad_matches_the_paper_and_is_complete(streams: Streams) -> None:
    network = nets.build(nets.SmallCNN)
    norm = Normalization((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    model, images = Classifier(network, normalization=norm, batch_size=2), nets.pictures(3)
    found = explain("fullgrad", model, images, streams)
    layers = [*model.module.get_submodule("features"), network.pool, nn.Flatten(), network.head]
    normalized = (images - model.network.mean) / model.network.std
    for i in range(3):
        twin, total = path_reference.fullgrad(layers, normalized[i], int(TARGETS[i]))
        assert torch.allclose(found[i], twin, rtol=1e-3, atol=1e-4)
        assert total == pytest.approx(float(model.logits(images)[i, TARGETS[i]]), rel=1e-4)
    assert float(residual("fullgrad", model, images, streams).max()) < 1e-4


@pytest.mark.parametrize("kind", [nn.ReLU6, nn.GELU, nn.Softplus, nn.LeakyReLU])
def test_fullgrad_counts_the_implicit_biases_of_activations(
    kind: type[nn.Module], streams: Streams
) -> None:
    network = nets.build(nets.SmallCNN)
    network.features[2], network.features[6] = kind(), kind()
    network.features[0].weight.data *= 20  # some units beyond the cap of ReLU6
    model = Classifier(network, batch_size=4)
    assert float(residual("fullgrad", model, nets.pictures(3), streams).max()) < 1e-3


# ---- layers


@pytest.mark.parametrize("layer", ["features.0", "last_conv"])
def test_layer_methods_match_captum(layer: str, cnn: Classifier, streams: Streams) -> None:
    images, zeros = nets.pictures(3), torch.zeros(3, 3, 20, 17)
    name = cnn.layer(layer, images).name
    module = cnn.module.get_submodule(name)

    def found(method: str, more: str = "") -> Tensor:
        return explain(f"{method}[layer={layer}{more}]", cnn, images, streams)

    def grown(values: Tensor) -> Tensor:
        return upsample(values.detach().float(), (20, 17))

    attr = captum.attr
    peer = attr.LayerActivation(cnn.network, module).attribute(images.clone())
    assert torch.allclose(found("layer_activation"), grown(peer.mean(1)), atol=1e-6)
    peer = attr.LayerGradientXActivation(cnn.network, module).attribute(images.clone(), TARGETS)
    assert torch.allclose(found("layer_gradient_x_activation"), grown(peer.sum(1)), atol=1e-5)
    peer = attr.InternalInfluence(cnn.network, module).attribute(
        images.clone(), zeros, TARGETS, n_steps=20, method="riemann_middle"
    )
    mine = found("internal_influence", ",baseline=black,n_steps=20")
    assert torch.allclose(mine, grown(peer.sum(1)), rtol=1e-3, atol=1e-6)
    peer = attr.LayerConductance(cnn.network, module).attribute(
        images.clone(), zeros, TARGETS, n_steps=200, method="riemann_trapezoid"
    )
    mine = found("layer_conductance", ",baseline=black,n_steps=200")
    assert correlation(mine, grown(peer.sum(1))) > 0.999


def test_layer_conductance_sums_to_the_logit_difference(cnn: Classifier, streams: Streams) -> None:
    images = nets.pictures(3)
    method = METHODS.create("layer_conductance[baseline=black]").value
    cells = method.cells(cnn, images, TARGETS, streams)
    change = cnn.logits(images) - cnn.logits(torch.zeros_like(images))
    expected = change.gather(1, TARGETS[:, None])[:, 0]
    assert torch.allclose(cells.sum(dim=(1, 2)).float(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "integrated_gradients[n_steps=0]",
        "integrated_gradients[baseline=blur,n_baselines=3]",
        "guided_integrated_gradients[fraction=0.0]",
        "blur_integrated_gradients[max_sigma=-1.0]",
        "expected_gradients[baseline=black]",
        "layer_conductance[n_steps=0]",
    ],
)
def test_wrong_parameters_are_refused(name: str) -> None:
    with pytest.raises(ParameterError):
        METHODS.create(name)


@pytest.mark.slow
def test_completeness_on_the_real_network(imagenet_sample: Path) -> None:
    model, images = nets.mobilenet(imagenet_sample), nets.photographs(imagenet_sample, 6)
    targets = model.logits(images).argmax(1)
    streams = Streams(0, list("abcdef"))

    def median(name: str) -> float:
        method = METHODS.create(name).value
        maps = method.explain(model, images, targets, streams=streams)
        return float(method.residual(model, images, targets, maps, streams=streams).median())

    few, many = median("integrated_gradients[n_steps=12]"), median("integrated_gradients")
    assert many <= 0.06
    assert many < few / 3
    assert median("deeplift") < 0.01
    assert median("fullgrad") < 0.01


MEMORY = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import nets, torch
from xbench.registry import METHODS
from xbench.streams import Streams
folder = Path(sys.argv[2])
model, images = nets.mobilenet(folder, batch_size=None), nets.photographs(folder, 8)
targets = torch.zeros(8, dtype=torch.int64)
method = METHODS.create("integrated_gradients[n_steps=50]").value
method.explain(model, images, targets, streams=Streams(0, list("abcdefgh")))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.slow
def test_fifty_steps_of_eight_photographs_fit_in_three_gigabytes(imagenet_sample: Path) -> None:
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", MEMORY, tests, str(imagenet_sample)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 3.0
