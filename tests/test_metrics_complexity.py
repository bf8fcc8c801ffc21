"""Complexity metrics against their slow twins, at the edges and for claimed invariances."""

import math

import mapcases
import pytest
import torch
from reference import complexity_reference as reference

from xbench.errors import ParameterError
from xbench.registry import METRICS

METRIC_NAMES = sorted(
    entry.name for entry in METRICS if entry.module == "xbench.metrics.complexity"
)
TWINS = {
    "sparseness": reference.gini,
    "entropy": reference.entropy,
    "complexity": reference.complexity,
    "effective_complexity": lambda a: reference.effective_complexity(a, 0.01),
    "area50": reference.area50,
}
CONSTANT = {
    "sparseness": 0.0,
    "entropy": 1.0,
    "complexity": math.log(63),
    "effective_complexity": 1.0,
    "area50": 32 / 63,
}
ONE_HOT = {
    "sparseness": 1 - 1 / 63,
    "entropy": 0.0,
    "complexity": 0.0,
    "effective_complexity": 1 / 63,
    "area50": 1 / 63,
}


def create(name):
    return METRICS.create(name).value


def test_every_metric_has_a_twin():
    assert set(TWINS) == set(CONSTANT) == set(ONE_HOT) == set(METRIC_NAMES)


@pytest.mark.parametrize("size", mapcases.SIZES)
@pytest.mark.parametrize("name", METRIC_NAMES)
def test_twin(name, size):
    maps = torch.cat([mapcases.noise(4, *size), mapcases.noise(2, *size).round()])
    expected = [TWINS[name](a.tolist()) for a in maps]
    assert mapcases.score(create(name), maps).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_constant_and_one_hot(name):
    one = torch.zeros(1, 9, 7)
    one[0, 4, 2] = -3.0
    flat = torch.full((1, 9, 7), 0.2)
    assert mapcases.score(create(name), flat).item() == pytest.approx(CONSTANT[name], abs=1e-9)
    assert mapcases.score(create(name), one).item() == pytest.approx(ONE_HOT[name], abs=1e-9)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_undefined_maps(name):
    maps = mapcases.noise(4, 9, 7)
    maps[1], maps[2, 0, 0], maps[3, 5, 5] = 0.0, torch.nan, torch.inf
    scores = create(name).score(mapcases.case(maps), streams=mapcases.streams(4))
    assert scores.defined.tolist() == [True, False, False, False]
    assert torch.isnan(scores.values[1:]).all()
    assert scores.reason


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_claimed_invariances(name):
    maps = mapcases.noise(8, 9, 7)
    before = mapcases.score(create(name), maps)
    assert METRICS.entry(name).card.invariances
    for invariance in METRICS.entry(name).card.invariances:
        after = mapcases.score(create(name), mapcases.transforms()[invariance](maps))
        assert after.tolist() == pytest.approx(before.tolist(), abs=1e-5), invariance


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_neighbors_and_extreme_scales_do_not_matter(name):
    maps = mapcases.noise(5, 9, 7)
    whole = mapcases.score(create(name), maps)
    loud = maps.clone()
    loud[1:] *= 1e6
    assert mapcases.score(create(name), loud)[0] == whole[0]
    alone = torch.cat([mapcases.score(create(name), maps[i : i + 1]) for i in range(5)])
    assert alone.tolist() == pytest.approx(whole.tolist(), abs=1e-12)
    tiny = mapcases.score(create(name), maps * 1e-30)
    assert tiny.tolist() == pytest.approx(whole.tolist(), abs=1e-5)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_the_given_map_is_not_changed(name):
    maps = mapcases.noise(2, 9, 7)
    kept = maps.clone()
    mapcases.score(create(name), maps)
    assert torch.equal(maps, kept)


def test_loud_neighbors_do_not_hide_a_map():
    maps = mapcases.noise(2, 9, 7)
    maps[1] *= 1e6
    values = mapcases.score(create("effective_complexity"), maps)
    assert values[0] > 0.9


@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize("mass", [0.1, 0.9, 1.0])
def test_parameters(eps, mass):
    maps = mapcases.noise(3, 9, 7)
    share = mapcases.score(create(f"effective_complexity[eps={eps}]"), maps)
    assert share.tolist() == [reference.effective_complexity(a.tolist(), eps) for a in maps]
    area = mapcases.score(create(f"area50[mass={mass}]"), maps)
    assert area.tolist() == pytest.approx([reference.area50(a.tolist(), mass) for a in maps])


@pytest.mark.parametrize("text", ["effective_complexity[eps=1]", "area50[mass=0]"])
def test_bad_parameters(text):
    with pytest.raises(ParameterError, match=r"at least 0|above 0"):
        METRICS.create(text)
