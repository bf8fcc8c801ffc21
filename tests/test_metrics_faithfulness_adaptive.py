"""Curves measured at some of their steps: exact at all of them, better than even steps, bounded."""

import numpy as np
import pytest
import torch
from faithfulness_tools import case_of

from xbench.errors import ParameterError
from xbench.operations.adaptive import (
    MIN_POINTS,
    between,
    error_of,
    following,
    points_of,
    sample,
    start,
)
from xbench.registry import METRICS

STEPS = 224
X = np.linspace(0, 1, STEPS + 1)


def metric(text):
    return METRICS.create(text).value


def walks(count, seed=0):
    """Random walks of log-odds whose step sizes differ along the curve."""
    rng = np.random.default_rng(seed)
    scale = 0.5 * np.exp(-5 * X[1:] * rng.random((count, 1))) + 0.02
    odds = np.cumsum(rng.normal(size=(count, STEPS)) * scale, axis=1)
    odds += 3 - 8 * X[1:] * rng.random((count, 1))
    return 1 / (1 + np.exp(-np.concatenate([odds[:, :1], odds], axis=1)))


def shapes():
    places = np.random.default_rng(2).uniform(0.03, 0.97, (40, 1))
    return {
        "step": (places > X).astype(float),
        "sigmoid": 1 / (1 + np.exp((X - places) * 300)),
        "bump": np.exp(-np.abs(X - places) / 0.03),
        "flat": np.broadcast_to(places, (40, STEPS + 1)).copy(),
        "walk": walks(200),
    }


def area(curves):
    return np.trapezoid(curves, axis=1) / (curves.shape[1] - 1)


def sampled(curves, points):
    ends = curves[:, [0, -1]]
    asked = []

    def measure(positions):
        asked.append(positions)
        return np.take_along_axis(curves, positions, axis=1)

    found = sample(measure, ends, curves.shape[1] - 1, points)
    return found, asked


def even(curves, points):
    places = np.linspace(0, curves.shape[1] - 1, points).round().astype(int)
    return between(np.tile(places, (len(curves), 1)), curves[:, places])


@pytest.mark.parametrize("kind", sorted(shapes()))
def test_error_is_covered_and_smaller_than_of_even_steps(kind):
    curves = shapes()[kind]
    found, _ = sampled(curves, 57)
    true = np.abs(area(between(found.positions, found.values)) - area(curves))
    plain = np.abs(area(even(curves, 57)) - area(curves))
    assert (true <= found.error + 1e-12).mean() >= 0.95
    assert true.mean() < 0.9 * plain.mean() or plain.max() < 1e-9
    assert found.error.max() < 0.05


@pytest.mark.parametrize("steps", [4, 5, 7, 28, STEPS])
def test_each_point_once_ends_included_and_as_many_as_asked(steps):
    curves = walks(6)[:, : steps + 1]
    for points in sorted({MIN_POINTS, min(9, steps + 1), steps, steps + 1}):
        if points < MIN_POINTS:
            continue
        found, asked = sampled(curves, points)
        assert found.positions.shape == (6, points)
        assert (np.diff(found.positions, axis=1) > 0).all()
        assert (found.positions[:, 0] == 0).all()
        assert (found.positions[:, -1] == steps).all()
        assert np.array_equal(np.take_along_axis(curves, found.positions, 1), found.values)
        assert sum(one.shape[1] for one in asked) == points - 2
        assert points == len(start(steps, points)) or asked[0].shape[1] < points - 2


def test_all_points_are_the_whole_curve_without_error():
    curves = walks(3)
    found, _ = sampled(curves, STEPS + 1)
    assert np.array_equal(between(found.positions, found.values), curves)
    assert found.error.tolist() == [0, 0, 0]


def test_points_gather_where_the_curve_moves():
    curve = 1 / (1 + np.exp((X - 0.3) * 120))[None]
    found, _ = sampled(curve, 29)
    inside = (found.positions > 0.2 * STEPS) & (found.positions < 0.4 * STEPS)
    assert inside.sum() >= 10  # even points: 6


def test_a_curve_does_not_depend_on_its_neighbors_or_on_rounding():
    curves = np.concatenate([*shapes().values()])
    whole, _ = sampled(curves, 29)
    noise = np.random.default_rng(1).normal(size=curves.shape) * 1e-8
    rounded, _ = sampled(curves + noise, 29)
    moved = (rounded.positions != whole.positions).any(axis=1)
    assert moved.mean() <= 0.02
    for i in range(0, len(curves), 37):
        alone, _ = sampled(curves[i : i + 1], 29)
        assert np.array_equal(alone.positions[0], whole.positions[i])
        assert alone.error[0] == whole.error[i]


def test_broken_values_still_give_points():
    positions = np.array([[0, 10, 20, 28]])
    values = np.array([[0.5, np.nan, 0.2, 0.1]])
    added = following(positions, values, 20)
    assert len(set(added[0]) | set(positions[0])) == 24
    assert np.isnan(error_of(positions, values)).all()


def test_number_of_points():
    assert [points_of(28, n) for n in (0, 5, 29, 57)] == [29, 5, 29, 29]


@pytest.mark.parametrize("name", ["deletion", "insertion", "insertion_minus_deletion"])
def test_every_point_asked_for_is_today_s_curve(name):
    case, streams = case_of((3, 12, 12))
    exact = metric(f"{name}[steps=12]").score(case, streams=streams)
    for points in (13, 99):
        same = metric(f"{name}[steps=12,points={points}]").score(case, streams=streams)
        assert torch.equal(same.values, exact.values)
        assert same.details.keys() == exact.details.keys()
        for key, curve in exact.curves.items():
            assert torch.equal(same.curves[key], curve)


@pytest.mark.parametrize("name", ["deletion", "insertion", "insertion_minus_deletion"])
def test_some_points_cost_what_the_card_says_and_stand_on_the_grid(name):
    one = METRICS.create(f"{name}[steps=40,points=14]")
    case, streams = case_of((3, 12, 12))
    facts = case.model.facts((3, 12, 12))
    before = case.model.counter.read()
    got = one.value.score(case, streams=streams)
    spent = (case.model.counter.read() - before).forwards
    assert spent == one.value.cost(facts).forwards * len(case)
    assert spent < 30 * len(case)
    exact = metric(f"{name}[steps=40]").score(case, streams=streams)
    assert got.details["points"].tolist() == [14] * len(case)
    assert (got.details["error"] > 0).all()
    assert ((got.values - exact.values).abs() <= got.details["error"]).all()
    for key, curve in got.curves.items():
        assert curve.shape == exact.curves[key].shape
        equal = (curve - exact.curves[key]).abs() < 1e-5
        assert (equal.sum(dim=1) >= 14).all()
        assert equal[:, [0, -1]].all()


def test_a_broken_map_is_undefined_here_too():
    case, streams = case_of((3, 12, 12))
    maps = case.maps.clone()
    maps[1, 2, 3] = float("nan")
    got = metric("deletion[steps=40,points=14]").score(case.with_maps(maps), streams=streams)
    assert got.defined.tolist() == [True, False, True]
    assert torch.isnan(got.details["error"]).tolist() == [False, True, False]


def test_names_of_before_stay_and_say_what_was_measured():
    assert METRICS.create("deletion").identity == "deletion[imputer=mean,steps=28]"
    assert METRICS.create("deletion[points=0]").label == "deletion"
    some = METRICS.create("deletion[points=9]")
    assert some.label == "deletion[points=9]"
    assert some.identity == "deletion[imputer=mean,points=9,steps=28]"
    adaptive = METRICS.create("insertion_adaptive")
    assert adaptive.identity == "insertion_adaptive[imputer=blur,points=57,steps=224]"
    every = METRICS.create("insertion_adaptive[points=0]")
    assert every.identity == "insertion_adaptive[imputer=blur,steps=224]"


def test_too_few_points_are_one_sentence():
    with pytest.raises(ParameterError, match="at least 5 points"):
        metric("deletion[points=4]")
