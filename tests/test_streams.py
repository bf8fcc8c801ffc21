"""Streams: draws depend on identity alone."""

import torch

from xbench.streams import Streams


def test_a_draw_depends_on_the_image_not_on_its_neighbors() -> None:
    together = Streams(3, ["a", "b", "c"], "m").normal((4,), "noise")
    alone = Streams(3, ["b"], "m").normal((4,), "noise")
    assert torch.equal(together[1], alone[0])
    assert torch.equal(together[[2, 0]], Streams(3, ["c", "a"], "m").normal((4,), "noise"))


def test_seed_scope_repetition_and_tag_change_a_draw() -> None:
    base = Streams(0, ["a"], "m").uniform((8,), "x")
    for other in (
        Streams(1, ["a"], "m").uniform((8,), "x"),
        Streams(0, ["a"], "n").uniform((8,), "x"),
        Streams(0, ["a"], "m", repetition=1).uniform((8,), "x"),
        Streams(0, ["a"], "m").uniform((8,), "y"),
    ):
        assert not torch.equal(base, other)


def test_calls_share_ordinary_draws_and_differ_in_fresh_ones() -> None:
    streams = Streams(0, ["a"], "m")
    again = streams.called("copy")
    assert torch.equal(streams.normal((5,), "n"), again.normal((5,), "n"))
    assert not torch.equal(streams.fresh().normal((5,), "n"), again.fresh().normal((5,), "n"))


def test_global_random_state_is_untouched() -> None:
    before = torch.get_rng_state()
    streams = Streams(0, ["a", "b"], "m")
    streams.normal((3,), "a")
    streams.permutation(7, "b")
    streams.integers(9, (3,), "c")
    streams.common("d")
    assert torch.equal(before, torch.get_rng_state())
