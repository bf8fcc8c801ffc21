"""Boards: what is ranked, who has a place, and that partial coverage never outranks."""

import numpy as np
import pytest
import simulated
from simulated import Planted

from xbench.contracts import Board, BoardCard
from xbench.contracts.boards import GATES, NEVER_RANKED
from xbench.registry import LEADERBOARDS, METRICS
from xbench.statistics.leaderboard import Leaderboard, build_leaderboard
from xbench.statistics.ranking import belongs

METHODS = {"best": Planted(1.5), "middle": Planted(1.0), "worst": Planted(0.5)}


def judged(methods: dict[str, Planted], board: str = "overall", **options: object) -> Leaderboard:
    records, manifest = simulated.simulate(methods, **options)  # type: ignore[arg-type]
    return build_leaderboard(records, manifest, LEADERBOARDS.create(board).value)


def places(board: Leaderboard) -> dict[str, float | None]:
    return {row.method: row.rank for row in board.rows}


@pytest.mark.parametrize("entry", LEADERBOARDS, ids=lambda entry: entry.name)
def test_every_board_names_gates_and_metrics_that_exist(entry) -> None:  # type: ignore[no-untyped-def]
    card = entry.card
    known = {one.card.property for one in METRICS} | {"efficiency"}
    assert isinstance(card, BoardCard)
    assert set(card.gates) <= set(GATES)
    assert set(card.required) <= set(card.gates)
    assert set(card.properties) <= known
    assert card.properties or card.metrics
    assert card.kind != "ranks" or not set(card.properties) & set(NEVER_RANKED)


def test_the_catalogue_holds_the_agreed_boards_and_uses() -> None:
    names = {entry.name for entry in LEADERBOARDS}
    boards = {"faithfulness", "sanity", "robustness", "localization", "agreement", "efficiency"}
    uses = {"debugging", "localization", "audit", "interactive", "general"}
    assert boards | uses | {"overall"} <= names


def test_planted_order_is_found_with_places_and_intervals() -> None:
    board = judged(METHODS)
    assert [row.method for row in board.rows if row.rank] == ["best", "middle", "worst"]
    assert [row.rank for row in board.rows if row.rank] == [1, 2, 3]
    assert [(s.low, s.high) for s in board.ranking.standings] == [(1, 1), (2, 2), (3, 3)]
    assert sum(s.best for s in board.ranking.standings) == pytest.approx(1.0)
    assert board.ranking.standings[0].best > 0.99
    assert not board.preliminary


def test_controls_have_no_place_and_move_no_distance() -> None:
    with_controls, without = judged(METHODS), judged(METHODS, controls=False)
    assert {row.rank for row in with_controls.rows if row.control} == {None}
    assert with_controls.ranking.controls["oracle"] == pytest.approx(1.0, abs=0.1)
    assert with_controls.ranking.controls["random"] > 3.0
    assert len(without.ranking.standings) == 3
    records, manifest = simulated.simulate(METHODS)
    bare = records[~records["method"].isin(["random", "random_smooth", "oracle"])]
    alone = build_leaderboard(bare, manifest, LEADERBOARDS.create("overall").value)
    ours = [s.mean_rank.value for s in with_controls.ranking.standings]
    assert [s.mean_rank.value for s in alone.ranking.standings] == ours


@pytest.mark.parametrize(
    "hole",
    [
        {"missing": ("insertion",)},
        {"broken": ("noise_stability",)},
        {"invalid": ("deletion",)},
        {"undefined": {"insertion": 40}},
    ],
    ids=lambda hole: next(iter(hole)),
)
def test_partial_coverage_never_outranks(hole: dict) -> None:  # type: ignore[type-arg]
    board = judged({**METHODS, "partial": Planted(3.0, **hole)})
    row = next(row for row in board.rows if row.method == "partial")
    assert row.rank is None
    assert row.note
    assert board.rows[-1] is row
    assert places(board)["best"] == 1


def test_an_undefined_image_is_the_last_place_there() -> None:
    full = judged({**METHODS, "own": Planted(3.0)})
    holes = judged({**METHODS, "own": Planted(3.0, undefined={"insertion": 8})})
    before, after = (board.ranking.standing("own") for board in (full, holes))
    assert before is not None
    assert after is not None
    share = 8 / 200 / 3 / 3  # of images, of the three properties, of the three metrics
    assert after.mean_rank.value - before.mean_rank.value == pytest.approx(3 * share, rel=0.1)


def test_a_failed_gate_costs_the_place_whatever_the_rank() -> None:
    board = judged({**METHODS, "blind": Planted(3.0, cascade=0.9)})
    row = next(row for row in board.rows if row.method == "blind")
    assert row.mean_rank == pytest.approx(1.0, abs=0.2)
    assert row.rank is None
    assert row.failed == ("cascading_randomization",)


def test_randomization_and_complexity_never_rank() -> None:
    board = judged(METHODS)
    assert {metric.property for metric in board.ranking.metrics} == {
        "faithfulness",
        "localization",
        "robustness",
    }
    everything = BoardCard(name="all", summary="All.", metrics=("*",))
    for info in (score.info for score in board.table.scores.values()):
        assert not (belongs(info, everything) and info.property in NEVER_RANKED)


def test_properties_weigh_alike_whatever_their_number_of_metrics() -> None:
    board = judged(METHODS)
    by_property: dict[str, float] = {}
    for metric, weight in zip(board.ranking.metrics, board.ranking.weights, strict=True):
        by_property[metric.property] = by_property.get(metric.property, 0.0) + weight
    assert list(by_property.values()) == pytest.approx([1 / 3] * 3)


def test_a_metric_that_puts_noise_above_the_truth_is_not_ranked() -> None:
    records, manifest = simulated.simulate(METHODS)
    own = records["metric"] == "insertion"
    records.loc[own & (records["method"] == "oracle"), "value"] -= 20
    board = build_leaderboard(records, manifest, LEADERBOARDS.create("overall").value)
    assert "insertion" in board.ranking.dropped
    assert "insertion" not in [metric.label for metric in board.ranking.metrics]


def test_a_metric_that_few_methods_support_is_not_ranked() -> None:
    methods = {name: Planted(m.skill, missing=("rank_accuracy",)) for name, m in METHODS.items()}
    board = judged({**methods, "own": Planted(0.7)})
    assert "1 of 4" in board.ranking.dropped["rank_accuracy"]
    assert places(board)["best"] == 1


def test_the_sanity_board_passes_or_not_without_an_order() -> None:
    board = judged({**METHODS, "blind": Planted(3.0, other_class=0.95)}, "sanity")
    assert places(board)["best"] == places(board)["worst"] == 1
    assert places(board)["blind"] is None
    assert board.ranking.standings == ()


def test_the_efficiency_board_goes_by_calls() -> None:
    methods = {"dear": Planted(2.0, calls=300), "cheap": Planted(1.0, calls=2)}
    assert places(judged(methods, "efficiency"))["cheap"] == 1


def test_a_board_of_ones_own_is_a_card() -> None:
    class Mine(Board):
        card = BoardCard(name="mine", summary="Deletion alone.", metrics=("deletion*",), gates=())

    records, manifest = simulated.simulate(METHODS)
    board = build_leaderboard(records, manifest, Mine())
    assert [metric.label for metric in board.metrics] == ["deletion", "deletion_blur"]
    assert places(board)["best"] == 1


def test_the_frame_holds_blanks_for_what_is_not_there() -> None:
    frame = judged({**METHODS, "partial": Planted(missing=("insertion",))}).frame()
    row = frame.set_index("method").loc["partial"]
    assert np.isnan(row["rank"])
    assert np.isnan(row["insertion"])
    assert row["insertion status"] == "missing"


def test_the_order_of_rows_changes_nothing() -> None:
    records, manifest = simulated.simulate(METHODS, images=30)
    shuffled = records.sample(frac=1, random_state=0).reset_index(drop=True)
    board = LEADERBOARDS.create("overall").value
    one, other = (build_leaderboard(r, manifest, board) for r in (records, shuffled))
    assert one.frame().equals(other.frame())
    assert one.ranking.comparisons == other.ranking.comparisons
