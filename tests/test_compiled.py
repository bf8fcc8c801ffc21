"""Compiled loops against operations on tensors and against scipy; threads; without numba."""

import threading

import nets
import numpy as np
import pytest
import scipy.stats
import torch

from xbench.operations import cores, ranks, similarity
from xbench.operations.cores import fill_rows, over_cores
from xbench.operations.ranks import average_ranks, order_ranks, pearson
from xbench.operations.similarity import quantile, ssim, ssim_by_tensors
from xbench.optional import optional
from xbench.streams import Streams

MISSING = optional("xbench.no_such_module")


def values(kind, rows=5, size=400):
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(rows, size, generator=generator)
    return {
        "normal": drawn,
        "ties": drawn.round(),
        "many zeros": drawn.relu(),
        "two zeros": torch.where(drawn > 0, 0.0, -0.0),
        "tiny": drawn * 1e-39,
        "huge": drawn * 1e38,
        "one": drawn[:, :1],
    }[kind]


KINDS = ("normal", "ties", "many zeros", "two zeros", "tiny", "huge", "one")


@pytest.mark.parametrize("kind", KINDS)
def test_average_ranks_are_those_of_scipy(kind, monkeypatch):
    given = values(kind)
    got = average_ranks(given)
    assert np.array_equal(got.numpy(), scipy.stats.rankdata(given.numpy(), axis=1))
    monkeypatch.setattr(ranks, "kernels", MISSING)
    assert torch.equal(got, average_ranks(given))


@pytest.mark.parametrize("kind", KINDS)
def test_orders_are_those_of_a_stable_sort(kind, monkeypatch):
    maps = values(kind)[:, None]
    streams = Streams(0, [str(i) for i in range(len(maps))], "test")
    got = order_ranks(maps, streams, "tag")
    assert (got.sort(dim=1).values == torch.arange(got.shape[1])).all()
    monkeypatch.setattr(ranks, "kernels", MISSING)
    assert torch.equal(got, order_ranks(maps, streams, "tag"))


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_correlations_are_those_of_scipy(scale, monkeypatch):
    first = values("normal").double() * scale
    second = first * 0.3 + values("many zeros").double() * scale
    second[1] = first[1] * -2
    first[2] = scale
    got = pearson(first, second)
    want = [
        float(scipy.stats.pearsonr(a / scale, b / scale).statistic)
        for a, b in zip(first.numpy()[[0, 1, 3]], second.numpy()[[0, 1, 3]], strict=True)
    ]
    assert got[[0, 1, 3]].tolist() == pytest.approx(want, abs=1e-12)
    assert got[2].isnan()
    monkeypatch.setattr(ranks, "kernels", MISSING)
    torch.testing.assert_close(got, pearson(first, second), equal_nan=True, rtol=0, atol=1e-12)


def test_ssim_is_that_of_tensors(monkeypatch):
    first = nets.pictures(4, 1, 25, 31)[:, 0]
    second = (first + 0.2 * values("normal", 4, 25 * 31).view(4, 25, 31)).clamp(0, 1)
    second[1], second[2] = first[1], 0.5
    got = ssim(first, second)
    torch.testing.assert_close(got, ssim_by_tensors(first, second), equal_nan=True)
    assert got[1].item() == pytest.approx(1)
    assert got[2].isnan()
    monkeypatch.setattr(similarity, "kernels", MISSING)
    torch.testing.assert_close(got, ssim(first, second), equal_nan=True)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("kind", ["normal", "ties", "one"])
def test_quantiles_are_those_of_numpy(kind, share):
    given = values(kind).double()
    want = np.quantile(given.numpy(), share, axis=1)
    assert quantile(given, share).numpy() == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("team", [True, False])
def test_every_row_is_worked_on_once(team, monkeypatch):
    if not team:
        monkeypatch.setattr(cores, "_team", lambda: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for count in (0, 1, 2, 7, 100):
        seen = np.zeros(count, dtype=int)

        def work(part, seen=seen):
            seen[part] += 1

        over_cores(work, count)
        assert (seen == 1).all()
    given = torch.arange(24.0).view(8, 3).t().contiguous().t()  # not contiguous
    found = fill_rows(lambda rows, out: np.add(rows, 1, out=out), torch.empty(8, 3), given)
    assert torch.equal(found, given + 1)


@pytest.mark.parametrize("team", [True, False])
def test_an_error_on_a_core_reaches_the_caller(team, monkeypatch):
    if not team:
        monkeypatch.setattr(cores, "_team", lambda: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def work(part):
        raise ValueError(f"no rows today {threading.get_ident() > 0}")

    with pytest.raises(ValueError, match="no rows today"):
        over_cores(work, 10)
    over_cores(lambda part: None, 10)
