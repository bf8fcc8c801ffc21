"""Stopping when the order of the leaders is settled: error rate, savings, edge cases."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from xbench.statistics.sequential import (
    Betting,
    Decision,
    decision_row,
    decision_sentence,
    pairs_at_risk,
    qualities,
    wealth_needed,
)

Array = NDArray[np.float64]
IMAGES, CHUNK, GRIDS = 192, 16, 200
TIED_LEADERS = np.array([2.0, 2.0, 1.0, 0.0, 0.0, 0.0])
TIED_BEHIND = np.array([3.0, 2.0, 1.0, 1.0, 0.0, 0.0])  # the third place has two owners
CLOSE = np.array([1.0, 0.97, 0.94, 0.0, -1.0, -1.0])
CLEAR = np.array([3.0, 2.0, 1.0, 0.0, -1.0, -2.0])


def simulated(rng: np.random.Generator, means: Array, images: int = IMAGES) -> Array:
    """Qualities (images, methods) of a grid with three metrics, of which images share the level."""
    ranks = []
    for _ in range(3):
        values = means + rng.normal(size=(images, 1)) + rng.normal(size=(images, len(means)))
        ranks.append(stats.rankdata(-values, axis=1))
    return qualities(np.mean(ranks, axis=0))


def judged(quality: Array, leaders: int = 3) -> tuple[Decision, int]:
    """What a run would decide, looking after every chunk, and the images that it took."""
    betting = Betting([f"m{i}" for i in range(quality.shape[1])], leaders, 0.05)
    for start in range(0, len(quality), CHUNK):
        betting.add(quality[start : start + CHUNK])
        if betting.decision().decided:
            break
    return betting.decision(), betting.images


@pytest.mark.parametrize("means", [np.zeros(6), TIED_LEADERS, TIED_BEHIND, CLOSE])
def test_a_wrong_order_is_settled_in_at_most_5_percent_of_grids(means: Array) -> None:
    rng = np.random.default_rng(7)
    tied = len(np.unique(means[:4])) < 4
    wrong = 0
    for _ in range(GRIDS):
        found, _ = judged(simulated(rng, means))
        wrong += found.decided and (tied or found.leaders != ("m0", "m1", "m2"))
    assert wrong <= 0.05 * GRIDS


def test_two_methods_that_differ_by_coin_flips_alone_use_the_whole_error_rate() -> None:
    rng, wrong = np.random.default_rng(3), 0
    for _ in range(GRIDS):
        wins = (rng.random(256) < 0.5).astype(float)
        found, _ = judged(np.stack([wins, 1 - wins], axis=1), leaders=1)
        wrong += found.decided
    assert 0 < wrong <= 0.05 * GRIDS  # not conservative to the point of never deciding


def test_a_shuffled_list_without_a_mean_difference_is_left_open() -> None:
    rng, wrong = np.random.default_rng(5), 0
    wins = np.repeat([0.0, 1.0], IMAGES // 2)  # sorted by class, as folders are
    for _ in range(GRIDS):
        drawn = rng.permutation(wins)
        found, _ = judged(np.stack([drawn, 1 - drawn], axis=1), leaders=1)
        wrong += found.decided
    assert wrong <= 0.05 * GRIDS
    assert judged(np.stack([wins, 1 - wins], axis=1))[0].decided  # in the list's order: fooled


def test_clear_cases_save_at_least_half_of_the_images() -> None:
    rng = np.random.default_rng(11)
    runs = [judged(simulated(rng, CLEAR)) for _ in range(GRIDS)]
    assert all(found.decided and found.leaders == ("m0", "m1", "m2") for found, _ in runs)
    taken = np.array([images for _, images in runs])
    assert taken.mean() <= IMAGES / 2
    assert (taken <= IMAGES / 2).mean() > 0.95


def test_only_pairs_that_a_wrong_order_must_get_wrong_are_corrected_for() -> None:
    assert pairs_at_risk(60, 3) == 59 + 58 + 57
    assert pairs_at_risk(5, 9) == pairs_at_risk(5, 4) == 10  # all pairs
    assert wealth_needed(2, 1, 0.05) == 40


def test_wealth_is_that_of_the_bets() -> None:
    quality = np.array([[1.0, 0.25], [0.5, 0.0]])
    betting = Betting(["a", "b"], 1, 0.05)
    betting.add(quality)
    wealth = np.mean(
        [(1 + s * 0.75) * (1 + s * 0.5) for s in (0.99, 0.5, 0.25, 0.125, 0.0625, 0.03)]
    )
    paces = math.log((1 + 0.99 * 0.75) * (1 + 0.99 * 0.5)) / 2
    missing = math.ceil((math.log(40) - math.log(wealth)) / paces)
    assert betting.decision() == Decision(False, 0.05, ("a",), 2, ("a", "b"), missing)


def test_the_images_said_to_be_missing_are_about_those_that_settle_it() -> None:
    rng, shares = np.random.default_rng(2), []
    for _ in range(20):
        quality = simulated(rng, np.array([1.0, 0.0, -2.0]), 600)
        betting = Betting(["a", "b", "c"], 3, 0.05)
        betting.add(quality[:24])
        before = betting.decision()
        if before.decided or before.missing is None:
            continue
        _, taken = judged(quality)
        shares.append((24 + before.missing) / taken)
    assert len(shares) > 10
    assert 0.5 < float(np.median(shares)) < 2


def test_equal_methods_are_never_settled_and_no_number_is_named() -> None:
    betting = Betting(["a", "b", "c"], 3, 0.05)
    betting.add(np.full((500, 3), 0.5))
    found = betting.decision()
    assert (found.decided, found.missing) == (False, None)
    assert found.leaders == ("a", "b", "c")


def test_undefined_values_are_no_bets() -> None:
    quality = simulated(np.random.default_rng(0), CLEAR, 64)
    with_gaps = np.concatenate([quality, np.full((64, 6), np.nan)])
    plain, gaps = (Betting(list("abcdef"), 3, 0.05) for _ in range(2))
    plain.add(quality)
    gaps.add(with_gaps)
    assert gaps.decision().decided == plain.decision().decided
    assert gaps.decision().leaders == plain.decision().leaders
    assert gaps.images == 128


def test_before_the_first_image_nothing_is_settled() -> None:
    found = Betting(["a", "b"], 3, 0.05).decision()
    assert (found.decided, found.images, found.missing) == (False, 0, None)


@given(st.integers(2, 7), st.integers(1, 4), st.integers(0, 2**16))
def test_neither_the_order_within_a_look_nor_that_of_the_methods_matters(
    methods: int, leaders: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    quality = np.sort(rng.random((40, methods)) ** np.linspace(3, 0.3, methods), axis=0)
    columns = rng.permutation(methods)
    one = Betting([f"m{i}" for i in range(methods)], leaders, 0.05)
    other = Betting([f"m{i}" for i in columns], leaders, 0.05)
    one.add(quality)
    other.add(rng.permutation(quality)[:, columns])
    assert one.decision().leaders == other.decision().leaders
    assert one.decision().decided == other.decision().decided


@pytest.mark.parametrize("bad", [[[0.5, 1.5]], [[-0.1, 0.5]]])
def test_qualities_outside_their_range_are_refused(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Betting(["a", "b"], 1, 0.05).add(np.array(bad))
    with pytest.raises(ValueError, match="two methods"):
        Betting(["a"], 1, 0.05)


def test_what_is_said_of_a_decision() -> None:
    done = Decision(True, 0.05, ("a", "b", "c"), 48, None, 0)
    assert decision_sentence(decision_row(done, seen=64, of=200)) == (
        "The order of the leading methods (a, b, c) is settled at 95 % after 64 images; "
        "136 of 200 images were not needed."
    )
    close = Decision(False, 0.05, ("a", "b", "c"), 184, ("b", "c"), 1234)
    assert decision_sentence(decision_row(close, seen=200, of=200)).endswith(
        "is not settled at 95 % after 200 images: about 1,234 more are missing for b before c."
    )
    equal = Decision(False, 0.05, ("a", "b", "c"), 184, ("b", "c"), None)
    assert "b and c show no difference" in decision_sentence(decision_row(equal, seen=200, of=200))
    assert "Fewer than two" in decision_sentence(decision_row(None, seen=32, of=32))
