"""One method against baselines on the same images: better, equal, worse, at what cost, how sure.

Pure functions of records. Tests are paired over images (Wilcoxon), corrected by Holm over the
family of one question: all baselines for the mean rank, all baselines and metrics for the metrics.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from xbench.contracts import Board
from xbench.errors import RunError
from xbench.statistics.comparisons import (
    WILCOXON_EFFICIENCY,
    cohen_dz,
    holm,
    images_needed,
    wilcoxon,
)
from xbench.statistics.gates import GateResult
from xbench.statistics.intervals import Interval, mean_interval
from xbench.statistics.leaderboard import Leaderboard, build_leaderboard
from xbench.statistics.ranking import combine

Array = NDArray[np.float64]
Verdict = Literal["better", "worse", "open"]
RANK = "mean rank"


@dataclass(frozen=True)
class Duel:
    """The method against one baseline in one metric.

    Attributes:
        metric: its label, or "mean rank".
        baseline: label of the other method.
        gain: mean over images of how much better the method is, in the metric's unit, with its
            95 % bootstrap interval; above 0 is better, whichever the metric's direction.
        p, corrected: of the two-sided paired Wilcoxon test, before and after Holm's correction.
        dz: mean over standard deviation of the gains.
        images: where both have a value.
        needed: images that would show this gain with 80 % power; inf where none would.
        verdict: "better" or "worse" where shown, else "open".
    """

    metric: str
    baseline: str
    gain: Interval
    p: float
    corrected: float
    dz: float
    images: int
    needed: float
    verdict: Verdict


@dataclass(frozen=True)
class Versus:
    """What a run says of one method against the others.

    Attributes:
        method: its label.
        baselines: labels of the explainers that it was compared with; controls are not among them.
        board: the leaderboard, with ranks, gates and the values behind all this.
        overall: duels by mean rank; empty where the method has no rank, see `unranked`.
        metrics: duels by every ranked metric, and by every other one with a direction.
        unranked: why there is no mean rank, or empty.
        alpha: level of the tests, after correction.
        detectable: the effect dz that so many images show with 80 % power in the overall family.
        calls, seconds: of one map: the method's.
        baseline_calls: median over the baselines.
    """

    method: str
    baselines: tuple[str, ...]
    board: Leaderboard
    overall: tuple[Duel, ...]
    metrics: tuple[Duel, ...]
    unranked: str
    alpha: float
    detectable: float
    calls: float
    seconds: float
    baseline_calls: float

    @property
    def gates(self) -> Mapping[str, GateResult]:
        """The method's gates."""
        return self.board.gates[self.method]

    @property
    def failed(self) -> tuple[GateResult, ...]:
        """The gates of the board that it fails."""
        return tuple(
            result
            for gate, result in self.gates.items()
            if gate in self.board.card.gates and result.verdict == "fail"
        )

    @property
    def verdict(self) -> Literal["better", "equal", "worse", "mixed", "refused", "unranked"]:
        """In one word: against all baselines by mean rank, behind the gates."""
        if self.failed:
            return "refused"
        if not self.overall:
            return "unranked"
        found = {duel.verdict for duel in self.overall}
        if "better" in found and "worse" in found:
            return "mixed"
        if found == {"open"}:
            return "equal"
        return "better" if "better" in found else "worse"

    def of(self, verdict: Verdict, metric: str = RANK) -> list[str]:
        """Baselines with this verdict in a metric."""
        duels = self.overall if metric == RANK else self.metrics
        return [d.baseline for d in duels if d.metric == metric and d.verdict == verdict]

    def data(self) -> dict[str, Any]:
        """Everything as plain data, None where a number is not finite."""
        return {
            "method": self.method,
            "verdict": self.verdict,
            "baselines": list(self.baselines),
            "images": self.board.images,
            "alpha": self.alpha,
            "unranked": self.unranked,
            "calls": _finite(self.calls),
            "seconds": _finite(self.seconds),
            "baseline_calls": _finite(self.baseline_calls),
            "detectable_dz": _finite(self.detectable),
            "gates": {
                gate: {"verdict": r.verdict, "value": _finite(r.value), "reason": r.reason}
                for gate, r in self.gates.items()
            },
            "duels": [
                {
                    "metric": duel.metric,
                    "baseline": duel.baseline,
                    "gain": _finite(duel.gain.value),
                    "low": _finite(duel.gain.low),
                    "high": _finite(duel.gain.high),
                    "p": _finite(duel.p),
                    "p_holm": _finite(duel.corrected),
                    "dz": _finite(duel.dz),
                    "images": duel.images,
                    "images_needed": _finite(duel.needed),
                    "verdict": duel.verdict,
                }
                for duel in (*self.overall, *self.metrics)
            ],
        }


def compare_with(
    records: pd.DataFrame,
    manifest: Mapping[str, Any],
    method: str,
    *,
    board: Board | None = None,
    baselines: Sequence[str] | None = None,
) -> Versus:
    """Judge one method of a run against the others.

    Args:
        records, manifest: of the run.
        method: label of the method.
        board: what is ranked and gated, default `overall`.
        baselines: labels, default every other explainer of the run.

    Raises:
        RunError: the run has no such method, or nothing to compare it with.
    """
    judged = build_leaderboard(records, manifest, board)
    table, alpha = judged.table, judged.ranking.alpha
    if method not in table.labels:
        raise RunError(f"The run holds no method '{method}'; it holds {', '.join(table.labels)}.")
    others = [m.label for m in table.methods if not m.control and m.label != method]
    chosen = others if baselines is None else [label for label in others if label in baselines]
    if not chosen:
        raise RunError(f"The run holds no baseline to compare '{method}' with; add some.")
    costs = {row.method: row.calls for row in judged.rows}
    own = next(row for row in judged.rows if row.method == method)
    overall = _by_rank(judged, method, chosen, alpha)
    return Versus(
        method=method,
        baselines=tuple(chosen),
        board=judged,
        overall=tuple(overall),
        metrics=tuple(_by_metric(judged, method, chosen, alpha)),
        unranked="" if overall else _why_unranked(judged, method),
        alpha=alpha,
        detectable=detectable(judged.ranking.images, alpha=alpha / len(chosen)),
        calls=own.calls,
        seconds=own.seconds,
        baseline_calls=float(np.nanmedian([costs[label] for label in chosen])),
    )


def detectable(images: int, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The effect dz that a two-sided Wilcoxon test shows on so many images; inf with too few.

    The inverse of `images_needed`.

    >>> round(detectable(36), 2)
    0.5
    """
    z_alpha, z_power = stats.norm.isf(alpha / 2), stats.norm.ppf(power)
    room = images * WILCOXON_EFFICIENCY - z_alpha**2 / 2
    fewest = math.floor(math.log2(2 / alpha)) + 1
    if room <= 0 or images < fewest:
        return math.inf
    return float((z_alpha + z_power) / math.sqrt(room))


def _by_rank(board: Leaderboard, method: str, baselines: Sequence[str], alpha: float) -> list[Duel]:
    ranking = board.ranking
    if method not in ranking.methods:
        return []
    composite = combine(ranking.ranks, np.array(ranking.weights))
    column = {label: composite[:, i] for i, label in enumerate(ranking.methods)}
    gains = {
        (RANK, label): column[label] - column[method] for label in baselines if label in column
    }
    return _duels(gains, alpha)


def _by_metric(
    board: Leaderboard, method: str, baselines: Sequence[str], alpha: float
) -> list[Duel]:
    table = board.table
    own = table.column(method)
    gains: dict[tuple[str, str], Array] = {}
    for score in board.ranking.metrics:
        values = table.scores[score.label].values
        for label in baselines:
            gain = score.sign * (values[:, own] - values[:, table.column(label)])
            if np.isfinite(gain).any():
                gains[score.label, label] = gain
    return _duels(gains, alpha)


def _duels(gains: Mapping[tuple[str, str], Array], alpha: float) -> list[Duel]:
    p_values = [wilcoxon(gain) for gain in gains.values()]
    found = []
    for ((metric, baseline), gain), p, corrected in zip(
        gains.items(), p_values, holm(p_values), strict=True
    ):
        dz, mean = cohen_dz(gain), mean_interval(gain)
        shown: Verdict = "better" if mean.value > 0 else "worse"
        found.append(
            Duel(
                metric=metric,
                baseline=baseline,
                gain=mean,
                p=p,
                corrected=float(corrected),
                dz=dz,
                images=int(np.isfinite(gain).sum()),
                needed=images_needed(dz, alpha=alpha / len(gains)),
                verdict=shown if corrected < alpha else "open",
            )
        )
    return found


def _why_unranked(board: Leaderboard, method: str) -> str:
    reason = board.ranking.unranked.get(method)
    if reason is not None:
        return reason
    if not board.ranking.metrics:
        return "no metric of the run ranks methods"
    return "no baseline has a rank"


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
