"""The recommendation: which method for a use, which never, how firm, and what would settle it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from xbench.contracts import Board
from xbench.statistics.advice import CHEAP, Recommendation, Refusal
from xbench.statistics.comparisons import BEYOND
from xbench.statistics.fills import shared_fill
from xbench.statistics.fragility import fragility
from xbench.statistics.leaderboard import Leaderboard, build_leaderboard
from xbench.statistics.pareto import pareto
from xbench.statistics.sentences import sentences

SETTLED = 3
"""Ties of which it is said what would settle them; the others are counted."""


def recommend(records: pd.DataFrame, manifest: Mapping[str, Any], board: Board) -> Recommendation:
    """The advice that a run supports for a use.

    Args:
        records: the rows of the run store.
        manifest: cards of methods and metrics.
        board: the use: what is ranked, gates, cost cap.
    """
    return advise(build_leaderboard(records, manifest, board), min_images=board.min_images)


def advise(board: Leaderboard, *, min_images: int = 32) -> Recommendation:
    """The advice that a leaderboard supports."""
    left_out = _left_out(board)
    refused = _refused(board)
    out = {refusal.method for refusal in refused} | set(left_out)
    eligible = [method for method in board.ranking.methods if method not in out]
    points = tuple(pareto(board.table, board.ranking, eligible))
    pick = eligible[0] if eligible else None
    tied = tuple(m for m in eligible[1:] if board.ranking.tied(eligible[0], m))
    calls = {point.method: point.calls for point in points}
    cheap = None
    if pick is not None and calls[pick] > CHEAP:
        cheap = next((method for method in eligible if calls[method] <= CHEAP), None)
    found = Recommendation(
        use=board.card.name,
        summary=board.card.summary,
        pick=pick,
        tied=tied,
        cheap=cheap,
        refused=refused,
        left_out=left_out,
        images=board.images,
        preliminary=board.images < min_images,
        fragility=fragility(board.ranking, eligible, {pick, *tied}) if pick else None,
        settle=_settle(board, pick, tied, min_images),
        cautions=_cautions(board, pick),
        pareto=points,
    )
    return replace(found, sentences=tuple(sentences(found, board.ranking)))


def _left_out(board: Leaderboard) -> dict[str, str]:
    """Explainers that the use cannot take, gates aside, with the reason."""
    card, found = board.card, dict(board.ranking.unranked)
    for row in board.rows:
        if row.control or row.method in found:
            continue
        stochastic = board.table.methods[board.table.column(row.method)].stochastic
        if card.max_calls is not None and not row.calls <= card.max_calls:
            found[row.method] = f"a map needs {row.calls:,.0f} model calls"
        elif card.deterministic and stochastic:
            found[row.method] = "its maps depend on random draws"
    return found


def _refused(board: Leaderboard) -> tuple[Refusal, ...]:
    """Every failed gate of every explainer; a board may place what nobody should be advised."""
    return tuple(
        Refusal(row.method, gate, result.verdict, result.reason)
        for row in board.rows
        if not row.control
        for gate, result in board.gates[row.method].items()
        if gate in row.failed or result.verdict == "fail"
    )


def _settle(
    board: Leaderboard, pick: str | None, tied: Sequence[str], min_images: int
) -> tuple[str, ...]:
    """What data would settle what is open."""
    found = []
    if pick is not None:
        ties = [(other, board.ranking.comparison(pick, other)) for other in tied]
        found += [_separation(pick, other, one.more) for other, one in ties[:SETTLED]]
        if len(ties) > SETTLED:
            found.append(f"{len(ties) - SETTLED} more methods are not separated from {pick} either")
        for gate in board.card.gates:
            result = board.gates[pick][gate]
            if result.verdict == "not tested":
                found.append(f"the gate {gate.replace('_', ' ')} is not tested: {result.reason}")
            elif result.close:
                found.append(
                    f"more images would firm up {gate.replace('_', ' ')} of {pick}, whose "
                    f"interval {result.low:.2f} to {result.high:.2f} contains {result.limit:g}"
                )
    if board.images < min_images:
        found.append(f"at least {min_images} images make ranks worth reading")
    return tuple(found)


def _separation(pick: str, other: str, more: float) -> str:
    if math.isinf(more):
        return f"no number of images would separate {pick} from {other}"
    if more > BEYOND:
        return f"{pick} and {other} score alike: even {BEYOND:,} more images would not do"
    count = _round(max(1, more))
    images = "1 more image" if count == "1" else f"{count} more images"
    return f"about {images} would separate {pick} from {other}"


def _round(count: float) -> str:
    """Two digits are all that such a number is worth."""
    if count < 10:
        return f"{math.ceil(count)}"
    step = 10 ** (math.floor(math.log10(count)) - 1)
    return f"{math.ceil(count / step) * step:,}"


def _cautions(board: Leaderboard, pick: str | None) -> tuple[str, ...]:
    if pick is None:
        return ()
    baseline = board.table.methods[board.table.column(pick)].baseline
    shared = [
        metric.label
        for metric in board.ranking.metrics
        if any(shared_fill(baseline, {"imputer": fill}) for fill in metric.fills)
    ]
    if not shared:
        return ()
    return (
        f"{pick} compares with the fill of {', '.join(shared)} ({baseline}), which favors it there",
    )
