"""Tests between methods: twins, scipy and scikit-posthocs as oracles, error rates by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import statistics_reference as twins
from scipy import stats

from xbench.statistics.comparisons import (
    cohen_dz,
    compare_all,
    friedman,
    holm,
    images_needed,
    rank_biserial,
    tie_runs,
    wilcoxon,
)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9).filter(any))
def test_wilcoxon_counts_out_all_signs(differences: list[int]) -> None:
    expected = twins.wilcoxon_exact(differences)
    assert wilcoxon(np.array(differences, dtype=float)) == pytest.approx(expected)


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
@pytest.mark.parametrize("count", [8, 50, 51, 300])
def test_wilcoxon_agrees_with_scipy(count: int, alternative: str) -> None:
    differences = np.random.default_rng(count).normal(0.2, 1, size=count)
    kind = "exact" if count <= 50 else "asymptotic"
    theirs = stats.wilcoxon(differences, alternative=alternative, method=kind).pvalue
    assert wilcoxon(differences, alternative) == pytest.approx(theirs, rel=1e-6)


def test_wilcoxon_with_ties_agrees_with_scipy() -> None:
    differences = np.random.default_rng(0).integers(-3, 5, size=120).astype(float)
    theirs = stats.wilcoxon(differences, method="asymptotic").pvalue
    assert wilcoxon(differences) == pytest.approx(theirs, rel=1e-6)
    assert wilcoxon(np.zeros(5)) == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_definition(p_values: list[float]) -> None:
    assert holm(p_values).tolist() == pytest.approx(twins.holm(p_values))


def test_holm_does_not_count_what_was_not_tested() -> None:
    found = holm([0.01, float("nan"), 0.02])
    assert found[[0, 2]].tolist() == pytest.approx([0.02, 0.02])
    assert math.isnan(found[1])


def test_effect_sizes_of_closed_cases() -> None:
    assert rank_biserial(np.array([1.0, 2.0, 3.0])) == 1.0
    assert rank_biserial(np.array([-1.0, 2.0, -3.0])) == pytest.approx((2 - 4) / 6)
    assert cohen_dz(np.array([0.0, 2.0])) == pytest.approx(1 / math.sqrt(2))
    assert cohen_dz(np.full(4, 2.0)) == math.inf
    assert cohen_dz(np.zeros(4)) == 0.0


def test_friedman_and_nemenyi_agree_with_scipy_and_scikit_posthocs() -> None:
    posthocs = pytest.importorskip("scikit_posthocs")
    rng = np.random.default_rng(3)
    values = rng.normal(size=(25, 5)) + np.array([0.0, 0.1, 0.5, 0.8, 1.2])
    found = friedman(values, list("abcde"))
    assert found is not None
    expected = stats.friedmanchisquare(*values.T)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert list(found.mean_ranks) == pytest.approx(twins.friedman_mean_ranks(values.tolist()))
    theirs = posthocs.posthoc_nemenyi_friedman(values).to_numpy()
    np.testing.assert_allclose(found.pairs, theirs, atol=1e-6)


def test_critical_difference_of_demsar() -> None:
    values = np.random.default_rng(0).normal(size=(14, 4))
    found = friedman(values, list("abcd"))
    assert found is not None
    assert found.critical_difference == pytest.approx(1.25, abs=0.01)  # Demšar 2006, section 3.2.5


def test_groups_are_runs_without_a_shown_difference() -> None:
    tied = np.array(
        [
            [True, True, False, False],
            [True, True, True, False],
            [False, True, True, False],
            [False, False, False, True],
        ]
    )
    assert tie_runs(list("abcd"), np.arange(4.0), tied) == [("a", "b"), ("b", "c")]


def test_equal_methods_are_rarely_called_different() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    runs = 300
    for _ in range(runs):
        values = rng.normal(size=(60, 1)) + rng.normal(size=(60, 6))
        alarms += any(c.corrected < 0.05 for c in compare_all(values, list("abcdef")))
    assert alarms / runs <= 0.05


def test_friedman_rarely_cries_wolf() -> None:
    rng = np.random.default_rng(6)
    one = friedman(rng.normal(size=(40, 5)), list("abcde"))
    assert one is not None
    ranks = rng.random((4000, 40, 5)).argsort(axis=2).argsort(axis=2) + 1
    spans = np.ptp(ranks.mean(axis=1), axis=1)
    assert np.mean(spans > one.critical_difference) <= 0.055  # two standard errors above 0.05


def test_half_a_deviation_is_found_with_200_images() -> None:
    rng = np.random.default_rng(7)
    names = [f"m{i}" for i in range(10)]
    found = []
    for _ in range(100):
        values = rng.normal(size=(200, 10)) / math.sqrt(2)
        values[:, 0] += 0.5
        pairs = [c for c in compare_all(values, names) if c.first == "m0"]
        found += [c.corrected < 0.05 and c.difference > 0 for c in pairs]
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize("dz", [0.2, 0.4, 0.8])
def test_the_promised_number_of_images_gives_the_promised_power(dz: float) -> None:
    count = int(images_needed(dz))
    rng = np.random.default_rng(8)
    hits = [wilcoxon(rng.normal(dz, 1, size=count)) < 0.05 for _ in range(600)]
    assert 0.75 <= np.mean(hits) <= 0.86


def test_no_number_of_images_separates_equals() -> None:
    assert images_needed(0.0) == math.inf
    assert images_needed(math.inf, alpha=0.05) == 6  # 2 * 0.5 ** 6 < 0.05 <= 2 * 0.5 ** 5
    assert images_needed(0.1) > images_needed(0.2)
