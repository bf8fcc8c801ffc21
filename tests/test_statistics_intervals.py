"""Bootstrap intervals: closed cases, scipy and a plain loop as oracles, coverage by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from xbench.statistics.intervals import (
    bca_columns,
    expanded_score,
    mean_interval,
    median_interval,
    paired_difference,
    ratio_interval,
    resample_counts,
)


def test_agrees_with_scipy_at_the_expanded_level() -> None:
    values = np.repeat(np.random.default_rng(1).exponential(size=10), 4)  # no bootstrap-t
    score = expanded_score(40)
    assert score == pytest.approx(stats.t.ppf(0.975, 39) * math.sqrt(40 / 39))
    ours = mean_interval(values, resamples=20000, seed=0)
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20000,
        method="BCa",
        confidence_level=2 * stats.norm.cdf(score) - 1,
        rng=np.random.default_rng(7),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.value == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_the_long_tail_has_the_end_of_the_bootstrap_t_interval() -> None:
    """The obvious way, resample by resample, with draws of its own."""
    values = np.random.default_rng(1).lognormal(size=30)
    ours = mean_interval(values, resamples=20000)
    rng, ratios = np.random.default_rng(2), []
    for _ in range(20000):
        again = rng.choice(values, size=30)
        ratios.append((again.mean() - values.mean()) / (again.std(ddof=1) / math.sqrt(30)))
    error = values.std(ddof=1) / math.sqrt(30)
    low, high = (values.mean() - np.quantile(ratios, q) * error for q in (0.975, 0.025))
    assert ours.high == pytest.approx(high, abs=0.04 * (high - low))
    assert ours.low <= low + 0.02 * (high - low)
    assert ours.high <= values.max()


def test_no_end_leaves_the_values() -> None:
    rng = np.random.default_rng(9)
    values = 1 - 0.02 * rng.lognormal(0, 2, size=(20, 50)).clip(max=50)
    _, lows, highs = bca_columns(values)
    assert (lows >= values.min(axis=0) - 1e-12).all()
    assert (highs <= values.max(axis=0) + 1e-12).all()


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


@pytest.mark.parametrize("units", [7, 640])  # kept for many sizes, and for the last one only
def test_resamples_drawn_in_blocks_are_those_of_one_call(units: int) -> None:
    rng = np.random.default_rng(3)
    expected = rng.multinomial(units, np.full(units, 1 / units), size=2000)
    assert np.array_equal(resample_counts(units, seed=3), expected)


def test_medians_drawn_in_blocks_are_those_of_one_call() -> None:
    values = np.random.default_rng(7).gamma(2.0, size=41)
    draws = np.random.default_rng(0).integers(41, size=(250, 41))
    low, high = np.quantile(np.median(values[draws], axis=1), [0.025, 0.975])
    found = median_interval(values, resamples=250)
    assert found.low == pytest.approx(low, abs=0.2)
    assert found.high == pytest.approx(high, abs=0.2)


def test_a_ratio_of_proportional_values_has_no_width() -> None:
    gap = np.random.default_rng(6).uniform(1, 2, size=20)
    assert ratio_interval(0.3 * gap, gap) == pytest.approx((0.3, 0.3, 0.3))


def test_pairing_takes_the_image_out_of_the_difference() -> None:
    rng = np.random.default_rng(7)
    level = 10 * rng.normal(size=60)
    first, second = level + 1 + 0.1 * rng.normal(size=60), level + 0.1 * rng.normal(size=60)
    found = paired_difference(first, second)
    assert 0.9 < found.low < 1 < found.high < 1.1


DRAWS = {
    "normal": (lambda rng, size: rng.normal(size=size), 0.0),
    "beta": (lambda rng, size: rng.beta(2, 5, size=size), 2 / 7),
    "steep beta": (lambda rng, size: rng.beta(0.5, 2, size=size), 0.2),
    "exponential": (lambda rng, size: rng.exponential(size=size), 1.0),
    "lognormal, sd 0.5": (lambda rng, size: rng.lognormal(0, 0.45, size=size), math.exp(0.10125)),
    "lognormal, sd 1": (lambda rng, size: rng.lognormal(0, 0.694, size=size), math.exp(0.2408)),
    "lognormal, sd 2": (lambda rng, size: rng.lognormal(0, 1, size=size), math.exp(0.5)),
    "coin": (lambda rng, size: (rng.random(size) < 0.3).astype(float), 0.3),
}
LIMITS = {"lognormal, sd 2": (0.90, 0.97), "coin": (0.93, 0.985)}


def coverage(kind: str, images: int, columns: int = 500) -> float:
    draw, truth = DRAWS[kind]
    rng, hits = np.random.default_rng(0), []
    for seed in range(6):
        _, lows, highs = bca_columns(draw(rng, (images, columns)), resamples=1000, seed=seed)
        hits.append((lows <= truth) & (truth <= highs))
    return float(np.mean(hits))


@pytest.mark.parametrize("images", [16, 32, 64, 200])
@pytest.mark.parametrize("kind", DRAWS)
def test_coverage_of_the_mean_is_near_95_percent(kind: str, images: int) -> None:
    low, high = LIMITS.get(kind, (0.93, 0.97))
    assert low <= coverage(kind, images) <= high


@pytest.mark.parametrize("images", [16, 64])
def test_coverage_of_a_skill_is_near_95_percent(images: int) -> None:
    """Gains over gaps, as skills are made: both differ from image to image."""
    rng, hits = np.random.default_rng(3), []
    for seed in range(400):
        gap = rng.uniform(0.2, 1.0, size=images)
        gain = 0.4 * gap + 0.2 * rng.normal(size=images)
        found = ratio_interval(gain, gap, resamples=600, seed=seed)
        hits.append(found.low <= 0.4 <= found.high)
    assert 0.925 <= np.mean(hits) <= 0.975


@pytest.mark.slow
def test_coverage_of_the_median_is_near_95_percent() -> None:
    rng = np.random.default_rng(1)
    hits = []
    for seed in range(1500):
        found = median_interval(rng.gamma(2.0, size=60), resamples=1000, seed=seed)
        hits.append(found.low <= stats.gamma(2.0).median() <= found.high)
    assert 0.93 <= np.mean(hits) <= 0.97
