"""Deletion and insertion: agreement with the slow twin, direction, independence, cost, odd maps."""

import nets
import numpy as np
import pytest
import torch
from faithfulness_tools import case_of, model_function, planted
from reference import faithfulness_reference as slow

from xbench.errors import ParameterError
from xbench.operations.imputers import make_imputer
from xbench.registry import METRICS
from xbench.streams import Streams

SHAPES = [(3, 14, 14), (1, 12, 12), (3, 13, 9)]


def metric(text):
    return METRICS.create(text).value


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["deletion", "deletion_blur", "insertion", "insertion_rise2018"])
def test_agrees_with_the_slow_twin(shape, name):
    case, streams = case_of(shape)
    one = metric(f"{name}[steps=7]")
    got = one.score(case, streams=streams)
    mean = case.model.network.mean.view(-1)
    fills = make_imputer(one.imputer, case.images, mean=mean, streams=streams.shared()).content
    twin = slow.insertion if name.startswith("insertion") else slow.deletion
    for i in range(len(case)):
        curve = twin(
            model_function(case.model),
            case.images[i].double().numpy(),
            int(case.targets[i]),
            case.maps[i].numpy(),
            fills[i].double().numpy(),
            7,
        )
        assert got.curves["probability"][i].tolist() == pytest.approx(curve, abs=1e-5)
        assert got.values[i].item() == pytest.approx(slow.trapezoid(curve), abs=1e-5)


def test_mean_fill_is_the_mean_color_of_the_normalization(cnn):
    images = nets.pictures(1)
    fill = make_imputer(
        "mean", images, mean=torch.tensor([0.4, 0.5, 0.6]), streams=Streams(0, ["a"])
    ).content
    assert fill[0, :, 3, 4].tolist() == pytest.approx([0.4, 0.5, 0.6])


@pytest.mark.parametrize("name", ["deletion", "deletion_blur", "insertion"])
def test_direction_on_planted_truth(name):
    case, oracle, streams = planted()
    one = METRICS.create(name)
    noise = torch.rand(oracle.shape, generator=torch.Generator().manual_seed(3))
    means = [
        one.value.score(case.with_maps(maps), streams=streams).values.mean().item()
        for maps in (oracle, noise, -oracle)
    ]
    sign = 1 if one.card.direction == "higher" else -1
    assert sign * means[0] > sign * means[1] > sign * means[2]


@pytest.mark.parametrize("name", ["deletion", "insertion", "insertion_minus_deletion"])
def test_same_alone_in_a_batch_and_with_other_neighbors(name):
    one = metric(name)
    case, streams = case_of((3, 13, 9), batch_size=3)
    whole = one.score(case, streams=streams).values
    again, _ = case_of((3, 13, 9), batch_size=1)
    small = one.score(again, streams=streams).values
    assert torch.allclose(whole, small, atol=1e-6)
    for i in range(len(case)):
        alone, own = case_of((3, 13, 9), only=i)
        assert one.score(alone, streams=own).values.item() == pytest.approx(
            whole[i].item(), abs=1e-6
        )


@pytest.mark.parametrize(
    "name",
    [
        "deletion",
        "insertion",
        "insertion_minus_deletion",
        "insertion_minus_deletion[deletion_imputer=blur]",
    ],
)
def test_cost_is_the_formula_and_shared_work_is_paid_once(name):
    one = METRICS.create(name)
    case, streams = case_of((3, 12, 12))
    facts = case.model.facts((3, 12, 12))
    before = case.model.counter.read()
    one.value.score(case, streams=streams)
    first = case.model.counter.read() - before
    assert first.forwards == one.value.cost(facts).forwards * len(case)
    assert first.backwards == 0
    second = case.model.counter.read()
    one.value.score(case.with_maps(case.maps.flip(2)), streams=streams)
    spent = (case.model.counter.read() - second).forwards
    assert spent == first.forwards - one.value.shared(facts) * len(case)


def test_a_constant_map_is_a_random_order_and_a_broken_map_is_undefined():
    case, streams = case_of((3, 12, 12))
    maps = case.maps.clone()
    maps[0] = 0.0
    maps[1, 2, 3] = float("nan")
    got = metric("deletion").score(case.with_maps(maps), streams=streams)
    assert got.defined.tolist() == [True, False, True]
    assert got.details["ties"][0].item() == 1.0
    assert torch.isnan(got.curves["probability"][1]).all()
    other = case.maps.clone()
    other[0] = 7.0
    again = metric("deletion").score(case.with_maps(other), streams=streams)
    assert again.values[0] == got.values[0]  # any constant is the same random order
    assert again.values[2] == got.values[2]


def test_a_one_hot_map_removes_its_pixel_first():
    case, streams = case_of((3, 12, 12))
    maps = torch.zeros_like(case.maps)
    maps[:, 5, 6] = 1.0
    got = metric("deletion[steps=144]").score(case.with_maps(maps), streams=streams)
    image = case.images.clone()
    image[:, :, 5, 6] = case.model.network.mean[..., 0, 0]
    expected = case.model.probabilities(image).gather(1, case.targets[:, None])[:, 0]
    assert torch.allclose(got.curves["probability"][:, 1].float(), expected, atol=1e-6)


def test_monotone_transforms_of_the_map_change_nothing():
    case, streams = case_of((3, 12, 12))
    for name in ("deletion", "insertion"):
        plain = metric(name).score(case, streams=streams).values
        bent = metric(name).score(case.with_maps((3 * case.maps).exp() + 1), streams=streams)
        assert torch.equal(plain, bent.values)


def test_the_normalized_curve_runs_from_one_to_zero():
    case, oracle, streams = planted()
    got = metric("deletion").score(case.with_maps(oracle), streams=streams)
    p = got.curves["probability"].numpy()
    for i in range(len(case)):
        share = [(v - p[i, -1]) / (p[i, 0] - p[i, -1]) for v in p[i]]
        assert got.details["normalized"][i].item() == pytest.approx(np.trapezoid(share) / 28)


@pytest.mark.parametrize("text", ["deletion[steps=1]", "deletion[imputer=purple]"])
def test_wrong_parameters_are_one_sentence(text):
    with pytest.raises(ParameterError):
        METRICS.create(text)
