"""Agreement metrics against their slow twins, for symmetry, chance and ties."""

import mapcases
import pytest
import torch
from reference import agreement_reference as reference
from xbench.metrics.agreement import Iou

from xbench.errors import ParameterError
from xbench.registry import METRICS

METRIC_NAMES = sorted(entry.name for entry in METRICS if entry.module == "xbench.metrics.agreement")
TWINS = {"iou": lambda a, b: reference.iou(a, b, 0.1)}


def create(name):
    return METRICS.create(name).value


def test_every_metric_has_a_twin():
    assert set(TWINS) == set(METRIC_NAMES)


@pytest.mark.parametrize("size", mapcases.SIZES)
@pytest.mark.parametrize("name", sorted(TWINS))
def test_twin(name, size):
    first = mapcases.noise(6, *size)
    second = 0.5 * first + mapcases.noise(6, *size, seed=1)
    expected = [TWINS[name](a.tolist(), b.tolist()) for a, b in zip(first, second, strict=True)]
    assert mapcases.compare(create(name), first, second).tolist() == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_symmetric_and_one_on_itself(name):
    first, second = mapcases.noise(4, 17, 20), mapcases.noise(4, 17, 20, seed=1).round()
    there = mapcases.compare(create(name), first, second)
    back = mapcases.compare(create(name), second, first)
    assert there.tolist() == pytest.approx(back.tolist(), abs=1e-12)
    assert mapcases.compare(create(name), first, first).tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_values_within_range_and_finite_maps_only(name):
    first, second = mapcases.noise(4, 9, 7), mapcases.noise(4, 9, 7, seed=1)
    first[1, 0, 0], second[2, 0, 0] = torch.nan, torch.inf
    scores = create(name).compare(first, second, streams=mapcases.streams(4))
    assert scores.defined.tolist() == [True, False, False, True]
    low, high = METRICS.entry(name).card.range
    assert ((scores.values >= low) & (scores.values <= high))[scores.defined].all()


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_claimed_invariances(name):
    first, second = mapcases.noise(5, 9, 7), mapcases.noise(5, 9, 7, seed=1)
    before = mapcases.compare(create(name), first, second)
    for invariance in METRICS.entry(name).card.invariances:
        after = mapcases.compare(create(name), mapcases.transforms()[invariance](first), second)
        assert after.tolist() == pytest.approx(before.tolist(), abs=1e-5), invariance


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_neighbors_do_not_matter(name):
    first, second = mapcases.noise(5, 9, 7), mapcases.noise(5, 9, 7, seed=1).round()
    whole = mapcases.compare(create(name), first, second)
    loud = first.clone()
    loud[1:] *= 1e6
    assert mapcases.compare(create(name), loud, second)[0] == whole[0]
    alone = [mapcases.compare(create(name), first[i : i + 1], second[i : i + 1]) for i in range(5)]
    assert torch.cat(alone).tolist() == pytest.approx(whole.tolist(), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("q", [0.05, 0.1, 0.2])
def test_iou_chance(q):
    first, second = mapcases.noise(200, 60, 70), mapcases.noise(200, 60, 70, seed=1)
    mean = mapcases.compare(Iou(q), first, second).mean().item()
    assert mean == pytest.approx(q / (2 - q), rel=0.06)


def test_iou_of_flat_maps_is_chance():
    flat, zero = torch.ones(1, 20, 30), torch.zeros(1, 20, 30)
    for second in (flat, zero, mapcases.noise(1, 20, 30)):
        assert mapcases.compare(Iou(), flat, second).item() == pytest.approx(0.1 / 1.9)


def test_iou_of_two_spots_on_flat_ground_is_low():
    first, second = torch.zeros(1, 20, 20), torch.zeros(1, 20, 20)
    first[0, :4, :5], second[0, -4:, -5:] = 1.0, 1.0
    value = mapcases.compare(Iou(), first, second).item()
    u = 20 / 380
    shared = 360 * u * u + 40 * u
    assert value == pytest.approx(shared / (80 - shared))
    assert value < 0.06


@pytest.mark.parametrize("q", [0, -0.1, 1.5])
def test_iou_share_is_checked(q):
    with pytest.raises(ParameterError, match="share of the pixels"):
        METRICS.create(f"iou[q={q}]")
