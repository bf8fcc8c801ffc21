"""Path methods against captum, slow twins and closed forms."""

import subprocess
import sys
from pathlib import Path

import captum.attr
import nets
import pytest
import torch
from attributions import TARGETS, correlation, explain, residual
from reference import gradient_reference, path_reference
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.errors import ParameterError
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
GRAY = "baseline=gray"


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
def test_other_paths_match_the_papers(name: str, streams: Streams) -> None:
    module = nets.build(nets.SmallCNN)
    module.features[3] = nn.AvgPool2d(2)  # a gray image ties within each window of a maximum
    cnn = Classifier(module, batch_size=8)
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


@pytest.mark.parametrize(("name", "stdev"), [("gradient_shap", 0.09), ("expected_gradients", 0.0)])
def test_gradient_shap_matches_captum_on_the_same_draws(
    name: str, stdev: float, cnn: Classifier, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captum draws noise, baselines and points; it gets those of the streams, one image a time."""
    images, draws = nets.pictures(3), 6
    found = explain(f"{name}[n_samples={draws}]", cnn, images, streams)
    shape = tuple(images.shape[1:])
    core = captum.attr._core.gradient_shap
    for i in range(3):
        own = streams.select([i])
        starts = [
            own.scoped(f"{own.scope}/baseline{k}").uniform(shape, "fill") for k in range(draws)
        ]
        points = [torch.rand(1, generator=streams.generator(i, "alpha", k)) for k in range(draws)]
        noise = torch.stack(
            [torch.randn(shape, generator=streams.generator(i, "noise", k)) for k in range(draws)]
        )
        spread = images[i].max() - images[i].min()
        rows = images[i] + stdev * spread * noise
        monkeypatch.setattr(
            core.np.random, "uniform", lambda *_, points=points: torch.cat(points).numpy()
        )
        peer = core.InputBaselineXGradient(cnn.network)
        original = peer.attribute(rows, torch.cat(starts), target=int(TARGETS[i])).mean(0)
        assert correlation(found[i], original.sum(0)) > 0.999


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
    model, images = nets.mobilenet(imagenet_sample), nets.photographs(imagenet_sample, 24)
    targets = model.logits(images).argmax(1)
    streams = Streams(0, [str(number) for number in range(24)])

    def median(name: str) -> float:
        method = METHODS.create(name).value
        maps = method.explain(model, images, targets, streams=streams)
        return float(method.residual(model, images, targets, maps, streams=streams).median())

    few, many = median("integrated_gradients[n_steps=12]"), median("integrated_gradients")
    assert many <= 0.06
    assert many < few / 1.5
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
