"""Bootstrap intervals: closed cases, scipy as oracle, coverage by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from xbench.statistics.intervals import (
    bca_columns,
    mean_interval,
    median_interval,
    paired_difference,
    ratio_interval,
)


def test_agrees_with_scipy_on_skewed_values() -> None:
    values = np.random.default_rng(1).exponential(size=40)
    ours = mean_interval(values, resamples=20000, seed=0)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="BCa", rng=np.random.default_rng(7)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_a_shift_and_a_flip_move_the_interval_along() -> None:
    values = np.random.default_rng(2).beta(2, 8, size=50)
    own, shifted, flipped = map(mean_interval, (values, values + 5, -values))
    assert shifted == pytest.approx(tuple(end + 5 for end in own))
    assert (-flipped.high, -flipped.low) == pytest.approx(own[1:], abs=0.1 * (own.high - own.low))


def test_undefined_values_are_left_out_and_never_zero() -> None:
    values = np.array([1.0, 2.0, np.nan, 3.0, 4.0])
    assert mean_interval(values) == mean_interval(values[[0, 1, 3, 4]])
    assert math.isnan(mean_interval(np.array([np.nan])).value)
    columns = np.column_stack([values, np.full(5, np.nan)])
    means, lows, _ = bca_columns(columns)
    assert means[0] == 2.5
    assert np.isnan(means[1])
    assert np.isnan(lows[1])


def test_few_and_equal_values() -> None:
    assert math.isnan(mean_interval(np.array([1.0, 2.0])).low)
    assert mean_interval(np.full(9, 0.3)) == pytest.approx((0.3, 0.3, 0.3))


def test_columns_are_what_single_intervals_are() -> None:
    values = np.random.default_rng(3).normal(size=(30, 4))
    means, lows, highs = bca_columns(values, seed=5)
    for i in range(4):
        single = mean_interval(values[:, i], seed=5)
        assert single == pytest.approx((means[i], lows[i], highs[i]))


def test_copies_of_an_image_are_no_new_evidence() -> None:
    values = np.random.default_rng(4).normal(size=40)
    images = [f"image-{i}" for i in range(40)]
    own = mean_interval(values)
    copied = mean_interval(np.tile(values, 5), clusters=images * 5)
    naive = mean_interval(np.tile(values, 5))
    assert copied == pytest.approx(own)
    assert naive.high - naive.low < 0.6 * (own.high - own.low)


def test_the_median_and_its_interval() -> None:
    values = np.random.default_rng(5).normal(size=51)
    found = median_interval(values)
    assert found.value == np.median(values)
    assert found.low < found.value < found.high
    assert found.low in values or found.high in values


def test_a_ratio_of_proportional_values_has_no_width() -> None:
    gap = np.random.default_rng(6).uniform(1, 2, size=20)
    assert ratio_interval(0.3 * gap, gap) == pytest.approx((0.3, 0.3, 0.3))


def test_pairing_takes_the_image_out_of_the_difference() -> None:
    rng = np.random.default_rng(7)
    level = 10 * rng.normal(size=60)
    first, second = level + 1 + 0.1 * rng.normal(size=60), level + 0.1 * rng.normal(size=60)
    found = paired_difference(first, second)
    assert 0.9 < found.low < 1 < found.high < 1.1


@pytest.mark.parametrize("images", [64, 200])
@pytest.mark.parametrize("kind", ["normal", "beta", "exponential", "coin"])
def test_coverage_of_the_mean_is_near_95_percent(kind: str, images: int) -> None:
    rng = np.random.default_rng(0)
    draw, truth = {
        "normal": (lambda size: rng.normal(size=size), 0.0),
        "beta": (lambda size: rng.beta(2, 5, size=size), 2 / 7),
        "exponential": (lambda size: rng.exponential(size=size), 1.0),
        "coin": (lambda size: (rng.random(size) < 0.3).astype(float), 0.3),
    }[kind]
    hits = []
    for seed in range(6):
        _, lows, highs = bca_columns(draw((images, 400)), resamples=1000, seed=seed)
        hits.append((lows <= truth) & (truth <= highs))
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.slow
def test_coverage_of_the_median_is_near_95_percent() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for seed in range(1500):
        found = median_interval(rng.gamma(2.0, size=60), resamples=1000, seed=seed)
        hits.append(found.low <= stats.gamma(2.0).median() <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.97
