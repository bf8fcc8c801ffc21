"""Agreement with Quantus where its definitions are sound, by running Quantus itself."""

import nets
import numpy as np
import pytest
import torch
from explainers import Gradient, case_of, streams_of
from xbench.metrics.randomization import CascadingRandomization
from xbench.metrics.randomization_entropy import histogram_entropy
from xbench.metrics.robustness import Sensitivity
from xbench.metrics.robustness_relative import LocalLipschitz

from xbench.classifier import Classifier
from xbench.classifier.randomize import RandomizedNetwork, stages
from xbench.streams import Streams

quantus = pytest.importorskip("quantus")

N, SHAPE = 4, (3, 16, 13)


@pytest.fixture(params=[3, 1], ids=["rgb", "gray"])
def case(request):
    model = Classifier(nets.build(nets.SmallCNN, channels=request.param), batch_size=N)
    return case_of(Gradient(), model, nets.pictures(N, request.param, *SHAPE[1:]))


def explain(model, inputs, targets, **_):
    """The tests' gradient, as Quantus wants it: one channel, of whatever network it hands over."""
    pixels = torch.as_tensor(inputs, dtype=torch.float32).clone().requires_grad_(True)
    logits = model(pixels).gather(1, torch.as_tensor(targets)[:, None])
    (gradient,) = torch.autograd.grad(logits.sum(), pixels)
    return gradient.sum(dim=1, keepdim=True).numpy()


def arguments(case):
    return {
        "model": case.model.module,
        "x_batch": case.images.numpy(),
        "y_batch": case.targets.numpy(),
        "a_batch": case.maps[:, None].numpy(),
        "explain_func": explain,
        "device": "cpu",
    }


def same_noise(case, radius):
    """A perturbation for Quantus that replays our draws, one a call."""
    shared, shape = Streams(0, case.image_ids, "shared"), tuple(case.images.shape[1:])
    draw = iter(range(100))

    def perturb(arr, indices, **_):
        noise = 2 * shared.uniform(shape, "noise", next(draw)) - 1
        return arr + radius * noise.flatten(1).numpy()

    return perturb


@pytest.mark.parametrize("statistic", ["max", "mean"])
def test_sensitivity(case, statistic):
    kind = quantus.MaxSensitivity if statistic == "max" else quantus.AvgSensitivity
    theirs = kind(
        nr_samples=5,
        perturb_func=same_noise(case, 0.05),
        abs=False,
        normalise=False,
        disable_warnings=True,
    )(**arguments(case))
    metric = Sensitivity(radius=0.05, draws=5, statistic=statistic)
    ours = metric.score(case, streams=streams_of(case, "m")).values
    assert ours.numpy() == pytest.approx(np.array(theirs, dtype=float), abs=1e-4)


def test_local_lipschitz_of_raw_maps(case):
    theirs = quantus.LocalLipschitzEstimate(
        nr_samples=5,
        perturb_func=same_noise(case, 0.05),
        abs=False,
        normalise=False,
        disable_warnings=True,
    )(**arguments(case))
    metric = LocalLipschitz(radius=0.05, draws=5, normalize=False)
    ours = metric.score(case, streams=streams_of(case, "m")).values
    assert ours.numpy() == pytest.approx(np.array(theirs, dtype=float), abs=1e-4)


def test_local_lipschitz_of_scaled_maps_one_image_at_a_time_only(case):
    """Theirs scales each batch by its own maximum, map and perturbed map apart; a documented
    deviation: ours scales both by the maximum of the image's own map."""
    theirs = quantus.LocalLipschitzEstimate(
        nr_samples=5,
        perturb_func=same_noise(case, 0.05),
        abs=False,
        normalise=True,
        disable_warnings=True,
    )(**arguments(case))
    metric = LocalLipschitz(radius=0.05, draws=5)
    ours = metric.score(case, streams=streams_of(case, "m")).values
    assert np.abs(ours.numpy() - np.array(theirs, dtype=float)).max() > 1e-4


@pytest.fixture
def same_weights(case, monkeypatch):
    """Let Quantus walk through our randomized networks; returns the number of stages."""

    def use(order):
        shared = Streams(0, case.image_ids, "shared")
        network = RandomizedNetwork(case.model, case.images, "permutation", shared)
        chosen = stages(len(network.layers), 6, order)

        def generator(self, order="top_down", seed=42):
            for stage, layers in enumerate(chosen):
                yield f"stage {stage}", network.at(layers).module

        wrapper = quantus.helpers.model.pytorch_model.PyTorchModel
        monkeypatch.setattr(wrapper, "get_random_layer_generator", generator)
        monkeypatch.setattr(wrapper, "random_layer_generator_length", len(chosen))
        return len(chosen)

    return use


@pytest.mark.parametrize("order", ["top_down", "bottom_up", "independent"])
def test_randomization_by_layer_given_the_same_weights(case, order, same_weights):
    count = same_weights(order)
    theirs = quantus.MPRT(layer_order=order, abs=False, normalise=False, disable_warnings=True)(
        **arguments(case)
    )
    metric = CascadingRandomization(order=order)
    ours = metric.score(case, streams=streams_of(case, "m")).curves["spearman"]
    assert len(theirs) == count + 1
    for stage in range(count):
        expected = np.array(theirs[f"stage {stage}"], dtype=float)
        assert ours[:, stage].numpy() == pytest.approx(expected, abs=1e-4)


def test_their_average_counts_the_untouched_network(case, same_weights):
    """A documented deviation: their mean takes in the correlation 1 of the map with itself."""
    count = same_weights("top_down")
    theirs = quantus.MPRT(
        abs=False, normalise=False, return_average_correlation=True, disable_warnings=True
    )(**arguments(case))
    ours = CascadingRandomization().score(case, streams=streams_of(case, "m"))
    with_one = (ours.curves["spearman"].sum(dim=1) + 1) / (count + 1)
    assert with_one.numpy() == pytest.approx(np.array(theirs, dtype=float), abs=1e-4)


def test_entropy(case):
    maps = case.maps.double()
    theirs = [
        quantus.functions.complexity_func.discrete_entropy(a=m.numpy(), x=m.numpy()) for m in maps
    ]
    assert histogram_entropy(maps, 100).tolist() == pytest.approx(theirs, abs=1e-9)
