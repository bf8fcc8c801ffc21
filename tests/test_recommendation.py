"""Advice on simulated runs with known winners."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import simulated
from simulated import Planted

from xbench.registry import LEADERBOARDS
from xbench.statistics.advice import Recommendation, Refusal
from xbench.statistics.leaderboard import Leaderboard, build_leaderboard
from xbench.statistics.recommendation import _separation, advise, recommend
from xbench.statistics.sentences import _never


def advice(methods: dict[str, Planted], use: str = "general", **options: object) -> Recommendation:
    records, manifest = simulated.simulate(methods, **options)  # type: ignore[arg-type]
    return recommend(records, manifest, LEADERBOARDS.create(use).value)


def planted(number: int) -> dict[str, Planted]:
    """One of twenty grids: a winner half a deviation ahead, ties, a cheat, a partial one."""
    rng = np.random.default_rng(1000 + number)
    base = float(rng.uniform(0.8, 1.5))
    failures = [
        {"cascade": 0.9}, {"cascade": 0.55}, {"other_class": 0.95}, {"invalid": ("sparseness",)},
    ]  # fmt: skip
    holes = [
        {"missing": ("deletion",)},
        {"broken": ("insertion",)},
        {"undefined": {"deletion": 50}},
    ]
    methods = {
        "winner": Planted(base + 0.5, calls=float(rng.choice([2, 50, 500]))),
        "tie a": Planted(base),
        "tie b": Planted(base),
        "tie c": Planted(base),
        "last": Planted(base - 0.5),
        "cheat": Planted(base + 1.5, **failures[number % 4]),  # type: ignore[arg-type]
        "partial": Planted(base + 1.5, **holes[number % 3]),  # type: ignore[arg-type]
    }
    names = list(methods)
    rng.shuffle(names)
    return {name: methods[name] for name in names}


TIES = ("tie a", "tie b", "tie c")
APART = [("winner", tie) for tie in TIES] + [(tie, "last") for tie in TIES] + [("winner", "last")]
"""Pairs that truly differ, by half a deviation or more."""
NEVER = {"cheat", "partial", "random", "oracle", "random_smooth"}


def is_never_advised(told: Recommendation, board: Leaderboard) -> bool:
    """Whether neither the cheat nor the partial method nor a control is advised or placed."""
    placed = [row.rank is not None for row in board.rows if not row.control]
    own = {row.method: row.rank for row in board.rows}
    return (
        not NEVER & {told.pick, told.cheap, *told.tied}
        and not NEVER & {point.method for point in told.pareto if point.calls_front}
        and placed == sorted(placed, reverse=True)
        and own["partial"] is None
    )


@pytest.mark.slow
def test_twenty_planted_grids_are_judged_right() -> None:
    found = ties_split = wrong_order = 0
    separated = []
    for number in range(20):
        records, manifest = simulated.simulate(planted(number), seed=number)
        board = build_leaderboard(records, manifest, LEADERBOARDS.create("general").value)
        told, ranking = advise(board), board.ranking
        assert "cheat" in {refusal.method for refusal in told.refused}
        assert "partial" in told.left_out
        assert "cheat" in told.text
        assert is_never_advised(told, board)
        found += told.pick == "winner" and told.tied == ()
        ties_split += not all(ranking.tied(a, b) for a in TIES for b in TIES)
        separated += [not ranking.tied(better, worse) for better, worse in APART]
        order = [method for method in ranking.methods if method in ("winner", *TIES, "last")]
        wrong_order += (order[0], order[-1]) != ("winner", "last")
    assert found >= 19  # 95 %
    assert np.mean(separated) >= 0.95
    assert ties_split <= 1
    assert wrong_order == 0


@pytest.mark.slow
@pytest.mark.parametrize("entry", LEADERBOARDS, ids=lambda entry: entry.name)
def test_a_failed_gate_is_never_advised_on_any_board(entry) -> None:  # type: ignore[no-untyped-def]
    if entry.card.kind != "ranks":
        return
    for number in range(4):  # each way to fail a gate, each kind of hole
        methods = planted(number)
        methods["partial"] = Planted(4.0, missing=simulated.RANKED)
        records, manifest = simulated.simulate(methods, seed=number)
        records = records[(records["method"] != "partial") | (records["metric"] != "explain")]
        board = build_leaderboard(records, manifest, LEADERBOARDS.create(entry.name).value)
        told = advise(board)
        assert is_never_advised(told, board)
        assert "cheat" in {refusal.method for refusal in told.refused}


@pytest.mark.slow
def test_single_metric_differences_of_half_a_deviation_are_found() -> None:
    found = []
    for seed in range(20):
        methods = {"winner": Planted(1.5), **{f"m{i}": Planted(1.0) for i in range(4)}}
        told = advice(methods, "faithfulness", seed=seed, metrics=("insertion", "deletion"))
        found.append(told.pick == "winner" and told.tied == ())
    assert np.mean(found) >= 0.95


def test_ties_are_named_with_what_would_separate_them() -> None:
    told = advice({"a": Planted(1.0), "b": Planted(1.02), "c": Planted(0.2)}, images=60)
    assert {told.pick, *told.tied} == {"a", "b"}
    assert any("separate" in sentence for sentence in told.settle)
    assert f"{told.tied[0]} is not shown to differ" in told.text


def test_a_long_tie_names_the_cheapest_and_counts_the_rest() -> None:
    methods = {f"m{i}": Planted(1.0, calls=float(40 - i)) for i in range(9)}
    told = advice(methods, images=40)
    assert len(told.tied) == 8
    cheapest = sorted(told.tied, key=lambda method: methods[method].calls)[:3]
    calls = [f"{method} ({methods[method].calls:.0f} model calls)" for method in cheapest]
    assert "8 others are not shown to differ" in told.text
    assert f"the cheapest of them {calls[0]}, {calls[1]} and {calls[2]}." in told.text
    assert sum("would separate" in line for line in told.settle) <= 3
    assert f"5 more methods are not separated from {told.pick} either" in told.settle


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (0.0, "about 1 more image would separate a from b"),
        (333.0, "about 340 more images would separate a from b"),
        (3e5, "a and b score alike: even 10,000 more images would not do"),
        (math.inf, "no number of images would separate a from b"),
    ],
)
def test_what_would_separate_two_methods_is_a_number_somebody_may_collect(more, said) -> None:
    assert _separation("a", "b", more) == said


@pytest.mark.parametrize("failing", [3, 4, 5])
def test_methods_beyond_the_named_ones_are_counted_in_words(failing: int) -> None:
    refused = [Refusal(f"m{i}", "class_sensitivity", "fail", "0.9") for i in range(failing)]
    told = advice({"a": Planted(1.0), "b": Planted(0.2)}, images=40)
    text = _never(replace(told, refused=tuple(refused)))[0]
    assert text.endswith({3: "(0.9).", 4: "; nor m3.", 5: "; nor 2 others."}[failing])


def test_a_cheap_alternative_is_named_when_the_best_is_dear() -> None:
    told = advice({"dear": Planted(2.0, calls=400), "cheap": Planted(1.0, calls=4)})
    assert (told.pick, told.cheap) == ("dear", "cheap")
    assert "at most 20 model calls, take cheap (4 instead of 400)" in told.text
    by_name = {point.method: point for point in told.pareto}
    assert by_name["dear"].calls_front
    assert by_name["cheap"].calls_front


def test_the_interactive_use_caps_the_cost() -> None:
    told = advice({"dear": Planted(2.0, calls=400), "cheap": Planted(1.0, calls=4)}, "interactive")
    assert told.pick == "cheap"
    assert "400 model calls" in told.left_out["dear"]


def test_the_audit_wants_gates_tested_and_no_draws() -> None:
    methods = {"drawn": Planted(2.0, stochastic=True), "fixed": Planted(1.0)}
    told = advice(methods, "audit")
    assert told.pick == "fixed"
    assert "random draws" in told.left_out["drawn"]
    untested = advice(methods, "audit", metrics=simulated.RANKED)
    assert untested.pick is None
    assert "no method can be advised" in untested.text
    assert {refusal.verdict for refusal in untested.refused} == {"not tested"}


def test_never_names_the_gate_and_the_figure() -> None:
    told = advice({"sound": Planted(1.0), "blind": Planted(2.0, cascade=0.93)})
    assert told.pick == "sound"
    assert "Never use blind" in told.text
    assert "0.93 ≥ 0.6" in told.text
    front = {point.method for point in told.pareto if point.calls_front}
    assert "blind" not in front


def test_few_images_are_called_preliminary() -> None:
    methods = {"a": Planted(1.5), "b": Planted(1.0)}
    few, many = advice(methods, images=20), advice(methods, images=40)
    assert few.preliminary
    assert "preliminary with 20 images" in few.text
    assert not many.preliminary
    assert "preliminary" not in many.text


def test_advice_that_hangs_on_the_fill_says_so() -> None:
    by_fill = {"deletion": 4.0, "insertion": 0.4, "deletion_blur": 0.4}
    lover = Planted(1.0, by_metric=by_fill, baseline="mean")
    methods = {"mean lover": lover, "other": Planted(1.6)}
    told = advice(methods, "faithfulness", images=100)
    assert told.fragility is not None
    leaders = {variant.what: variant.leader for variant in told.fragility.variants}
    assert leaders["metrics that fill with mean only"] == "mean lover"
    assert leaders["metrics that fill with blur only"] == "other"
    assert told.pick == "other"
    assert told.fragility.flips
    assert "fill with mean" in told.text


def test_a_shared_fill_is_a_caution() -> None:
    told = advice({"a": Planted(2.0, baseline="mean"), "b": Planted(1.0)})
    assert "deletion (mean)" in told.cautions[0]


def test_firm_advice_holds_and_tossed_coins_do_not() -> None:
    firm = advice({"a": Planted(2.0), "b": Planted(0.5)}).fragility
    assert firm is not None
    assert firm.halves == firm.weightings == 1.0
    split = {"insertion": 0.4, "deletion": 0.4, "deletion_blur": 0.4, "noise_stability": 3.0}
    coins = {"a": Planted(1.2), "b": Planted(1.2, by_metric=split)}
    loose = advice(coins, images=100).fragility
    assert loose is not None
    assert loose.weightings < 0.9


def test_nothing_to_advise_is_said() -> None:
    told = advice({"noise": Planted(0.0), "more noise": Planted(-0.5)})
    assert told.pick is None
    assert told.text.startswith("For general use, no method can be advised")
    assert told.fragility is None


def test_controls_are_never_advised() -> None:
    told = advice({"weak": Planted(0.9)})
    names = {point.method for point in told.pareto}
    assert told.pick == "weak"
    assert names == {"weak"}


@pytest.mark.parametrize("use", ["general", "debugging", "localization", "audit", "interactive"])
def test_advice_is_plain_data_and_two_to_four_sentences(use: str) -> None:
    told = advice({"a": Planted(1.5, calls=50), "b": Planted(1.0), "c": Planted(2, cascade=1)}, use)
    assert 2 <= len(told.sentences) <= 4
    assert json.loads(json.dumps(told.data(), allow_nan=False))["pick"] == told.pick
    again = advice(
        {"a": Planted(1.5, calls=50), "b": Planted(1.0), "c": Planted(2, cascade=1)}, use
    )
    assert again.text == told.text
