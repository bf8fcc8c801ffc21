"""Kendall's W and Krippendorff's alpha: published and closed cases, slow twins."""

import numpy as np
import pytest
from reference import statistics_reference as twins

from xbench.statistics.concordance import kendall_w, krippendorff_alpha

N = None
OBSERVERS = [  # four observers, twelve units: the worked example of Krippendorff 2011
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]


def test_alpha_of_the_published_example() -> None:
    ratings = np.array([[np.nan if v is None else v for v in row] for row in OBSERVERS])
    assert krippendorff_alpha(ratings) == pytest.approx(0.849, abs=0.0005)
    assert krippendorff_alpha(ratings) == pytest.approx(twins.krippendorff_interval(OBSERVERS))


def test_alpha_of_agreement_and_of_chance() -> None:
    same = np.tile(np.arange(1.0, 7.0), (5, 1))
    assert krippendorff_alpha(same) == 1.0
    rng = np.random.default_rng(0)
    chance = np.array([rng.permutation(8) for _ in range(300)], dtype=float)
    assert krippendorff_alpha(chance) == pytest.approx(0.0, abs=0.02)
    assert np.isnan(krippendorff_alpha(np.ones((3, 4))))


def test_w_of_closed_cases() -> None:
    assert kendall_w(np.tile(np.arange(5.0), (4, 1))) == 1.0
    assert kendall_w(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])) == 0.0
    assert np.isnan(kendall_w(np.ones((3, 3))))


def test_w_with_ties_is_its_definition() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        ranks = rng.integers(0, 4, size=(5, 6)).astype(float)
        assert kendall_w(ranks) == pytest.approx(twins.kendall_w(ranks.tolist()))
