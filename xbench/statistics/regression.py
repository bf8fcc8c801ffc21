"""A model before and after a change: does the recommended method still deserve trust?

Pure functions of two runs' records. A method loses where it fails a gate that it passed, where
another method is now shown to be better, or where it has lost, image by image, a good part of its
lead over the random control.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xbench.contracts import Board
from xbench.errors import RunError
from xbench.statistics.comparisons import holm, wilcoxon
from xbench.statistics.gates import GateResult
from xbench.statistics.intervals import mean_interval
from xbench.statistics.leaderboard import Leaderboard, build_leaderboard
from xbench.statistics.recommendation import advise

Array = NDArray[np.float64]
MARGIN = 0.25
"""Share of its lead over the random control that a method may lose."""
FEWEST = 5
"""Images in common below which nothing is compared."""


@dataclass(frozen=True)
class Snapshot:
    """One run as it is held against another: its records and its manifest."""

    records: pd.DataFrame
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: for example "gate cascading_randomization" or "deletion".
        passed: whether it holds.
        reason: what was found, with the figures, a sentence.
    """

    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Guarded:
    """What a change of the model did to a method.

    Attributes:
        method: the recommended one (or the one asked for).
        use: the board.
        images: in common.
        checks: in the order of their weight.
    """

    method: str
    use: str
    images: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The first check that does not hold, or that all do, one sentence."""
        failed = [check for check in self.checks if not check.passed]
        if not failed:
            return f"{self.method} may still be trusted: {len(self.checks)} checks hold."
        more = f" ({len(failed) - 1} more checks fail.)" if len(failed) > 1 else ""
        return f"{self.method} may no longer be trusted: {failed[0].reason}{more}"


def hold_against(
    old: Snapshot,
    new: Snapshot,
    board: Board,
    *,
    method: str | None = None,
    margin: float = MARGIN,
) -> Guarded:
    """Hold a run after a change of the model against the one before it.

    Args:
        old, new: the same images, seed and metrics; the model differs.
        board: the use: what is ranked and gated.
        method: label of a method, default the one that the old run recommends for the use.
        margin: share of its lead over the random control that the method may lose.

    Raises:
        RunError: the old run recommends nothing, or the runs have too few images in common.
    """
    before = build_leaderboard(old.records, old.manifest, board)
    after = build_leaderboard(new.records, new.manifest, board)
    chosen = method or _recommended(before, board)
    if chosen not in before.table.labels:
        raise RunError(f"The baseline holds no method '{chosen}'.")
    common = [image for image in before.table.images if image in set(after.table.images)]
    if len(common) < FEWEST:
        raise RunError(
            f"The runs have {len(common)} images in common and {FEWEST} are needed; run the new "
            "model on the data of the baseline, with the same --dataset, --limit and --seed."
        )
    if chosen not in after.table.labels:
        lost = Check("measured", False, f"the new run holds no maps of {chosen}; run it, too.")
        return Guarded(chosen, board.card.name, len(common), (lost,))
    checks = [
        *_gates(before, after, chosen),
        *_scores(before, after, chosen, common, margin),
        _standing(before, after, chosen),
    ]
    return Guarded(chosen, board.card.name, len(common), tuple(checks))


def _recommended(before: Leaderboard, board: Board) -> str:
    advice = advise(before, min_images=board.min_images)
    if advice.pick is None:
        raise RunError(
            f"The baseline recommends no method for the use '{board.card.name}' ({advice.text}) "
            "Name one with --method, or give a baseline that recommends one."
        )
    return advice.pick


def _gates(before: Leaderboard, after: Leaderboard, method: str) -> list[Check]:
    found = []
    for gate in before.card.gates:
        old, new = before.gates[method][gate], after.gates[method][gate]
        passed = not (new.verdict == "fail" or (old.verdict == "pass" != new.verdict))
        passed = passed or old.verdict == "fail"
        words = f"gate {gate.replace('_', ' ')}: {_said(old)} before, {_said(new)} now."
        found.append(Check(f"gate {gate}", passed, words))
    return found


def _said(result: GateResult) -> str:
    return f"{result.verdict} ({result.reason})"


def _standing(before: Leaderboard, after: Leaderboard, method: str) -> Check:
    """Whether a method that may be advised is now shown to be better, and was not before."""
    better = _betters(after, method) - _betters(before, method)
    known = [label for label in better if label in before.table.labels]
    if not known:
        return Check("standing", True, "standing: no other method is newly shown to be better.")
    first = min(known, key=lambda label: after.ranking.comparison(method, label).corrected)
    p = after.ranking.comparison(method, first).corrected
    return Check(
        "standing", False, f"standing: {first} is now shown to be better (Holm p = {p:.2g})."
    )


def _betters(board: Leaderboard, method: str) -> set[str]:
    """Methods that may be advised and are shown to be better than this one."""
    ranking = board.ranking
    if method not in ranking.methods:
        return set()
    shut = {row.method for row in board.rows if row.failed}
    found = set()
    for label in ranking.methods[: ranking.methods.index(method)]:
        if label not in shut and not ranking.tied(method, label):
            found.add(label)
    return found


def _scores(
    before: Leaderboard, after: Leaderboard, method: str, common: list[str], margin: float
) -> list[Check]:
    """Every ranked metric of the old board: the lead over the random control, then and now."""
    leads = {}
    for metric in before.ranking.metrics:
        if metric.label in after.table.scores and metric.property != "efficiency":
            old = _lead(before, metric.label, method, common)
            leads[metric.label] = (old, _lead(after, metric.label, method, common))
    p_values = [wilcoxon(new - old, "less") for old, new in leads.values()]
    return [
        _score(label, pair, float(p), margin)
        for (label, pair), p in zip(leads.items(), holm(p_values), strict=True)
    ]


def _score(label: str, pair: tuple[Array, Array], p: float, margin: float) -> Check:
    old, new = pair
    known = np.isfinite(old) & np.isfinite(new)
    if not known.any():
        measured = bool(np.isfinite(old).any())
        why = "is no longer measured" if measured else "was not measured before"
        return Check(label, not measured, f"{label} {why}.")
    was, now = float(old[known].mean()), float(new[known].mean())
    loss = mean_interval(old[known] - new[known])
    lost = was > 0 and loss.value > margin * was and p < 0.05
    text = (
        f"{label}: the lead over the random control was {was:.3f} and is {now:.3f} "
        f"(loss {loss.value:.3f} [{loss.low:.3f}, {loss.high:.3f}], Holm p = {p:.2g})."
    )
    return Check(label, not lost, text)


def _lead(board: Leaderboard, metric: str, method: str, common: list[str]) -> Array:
    """How much better than the random control, per image in common; NaN where undefined."""
    table = board.table
    score = table.scores[metric]
    noise = table.named("random")
    values = score.info.sign * score.values[:, table.column(method)]
    if noise is not None:
        values = values - score.info.sign * score.values[:, noise]
    place = {image: i for i, image in enumerate(table.images)}
    found = np.array([values[place[image]] for image in common], dtype=np.float64)
    return np.where(np.isfinite(found), found, math.nan)
