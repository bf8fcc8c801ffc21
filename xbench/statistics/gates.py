"""Gates: sanity checks that a method passes or fails; never ranks.

Randomization is judged by the signed Spearman correlation alone: absolute Spearman and SSIM stay
high for maps that merely share their zeros with the image (Adebayo et al. 2018; Binder et al.
2023), so no threshold on them means anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xbench.contracts.boards import GATES
from xbench.statistics.comparisons import holm, wilcoxon
from xbench.statistics.intervals import Interval, mean_interval
from xbench.statistics.table import MetricScores, ScoreTable

Array = NDArray[np.float64]
Verdict = Literal["pass", "fail", "not tested"]

AFTER_LOGITS = 0.6
"""Limit of the mean correlation once the logits are random: guided backpropagation has .65 to 1,
methods that read the weights at most .56 (Adebayo et al. 2018)."""
CASCADE = 0.4
"""Limit of its mean over the cascade: guided backpropagation has .45 to .65."""
OTHER_CLASS = 0.75
"""Limit of the mean correlation with the map of another class: maps that cannot tell classes have
.9 to 1, others stay below .6; two classes may rightly share evidence."""
OTHER_LABELS = 0.75
"""Limit of the mean correlation with the map of a twin that was trained on permuted labels."""
LIMITS = {GATES[0]: CASCADE, GATES[1]: OTHER_LABELS, GATES[2]: OTHER_CLASS}
"""Where a gate is the mean of one metric: from which value on a method fails."""
BLIND = ("random", "random_smooth", "center_prior", "edges", "intensity")
"""Controls that know nothing of the model; an explainer has to beat each of them."""
FAMILIES = 2
"""Faithfulness metrics on which each control has to be beaten, where there are as many."""


@dataclass(frozen=True)
class GateResult:
    """One gate of one method.

    Attributes:
        gate: which.
        verdict: pass, fail or not tested.
        value: the figure that decides, NaN where not tested.
        low, high: its 95 % interval, NaN where it has none.
        limit: what the figure is held against.
        reason: the verdict in words, with the figure.
    """

    gate: str
    verdict: Verdict
    value: float
    low: float
    high: float
    limit: float
    reason: str

    @property
    def close(self) -> bool:
        """Whether the interval contains the limit."""
        return self.low < self.limit < self.high


def gate_results(
    table: ScoreTable, *, alpha: float = 0.05, seed: int = 0
) -> dict[str, dict[str, GateResult]]:
    """Every gate of every method, by method and gate."""
    controls = controls_gate(table, alpha=alpha)
    return {
        method.label: {
            GATES[0]: _cascade(table, i, seed),
            GATES[1]: _correlation(table, GATES[1], i, "a network of permuted labels", seed),
            GATES[2]: _correlation(table, GATES[2], i, "another class", seed),
            GATES[3]: controls[method.label],
            GATES[4]: _valid(table, method.label),
        }
        for i, method in enumerate(table.methods)
    }


def controls_gate(table: ScoreTable, *, alpha: float = 0.05) -> dict[str, GateResult]:
    """Whether a method beats each blind control in faithfulness.

    One-sided paired Wilcoxon tests over images against each control on each faithfulness metric,
    corrected by Holm over all tests of the method. Each control has to be beaten on at least two
    metrics (on one where the run has one): a single metric may favor the look of a map. A control
    is tested against the others.
    """
    metrics = [
        score
        for score in table.scores.values()
        if score.info.property == "faithfulness"
        and score.info.direction != "none"
        and not score.info.pairwise
    ]
    blind = [i for i, method in enumerate(table.methods) if method.name in BLIND]
    return {
        method.label: _against(table, metrics, i, [j for j in blind if j != i], alpha)
        for i, method in enumerate(table.methods)
    }


def _against(
    table: ScoreTable, metrics: Sequence[MetricScores], own: int, blind: Sequence[int], alpha: float
) -> GateResult:
    pairs, p_values = [], []
    for score in metrics:
        for control in blind:
            differences = score.info.sign * (score.values[:, own] - score.values[:, control])
            if np.isfinite(differences).any():
                pairs.append((score.info.label, control))
                p_values.append(wilcoxon(differences, "greater"))
    if not pairs:
        reason = "no control and faithfulness metric to compare with"
        return _untested("controls", reason)
    images = int(max(np.isfinite(score.values[:, own]).sum() for score in metrics))
    if len(pairs) * 0.5**images >= alpha:
        return _untested("controls", f"{images} images cannot show it in {len(pairs)} tests")
    tested = len({metric for metric, _ in pairs})
    wanted = min(FAMILIES, tested)
    wins = dict.fromkeys({control for _, control in pairs}, 0)
    for (_, control), p in zip(pairs, holm(p_values), strict=True):
        wins[control] += int(p < alpha)
    worst = min(sorted(wins), key=lambda control: wins[control])
    fewest = wins[worst]
    passed = fewest >= wanted
    named = "every control" if passed else table.labels[worst]
    amount = f"at least {fewest}" if passed else f"{fewest}"
    reason = f"beats {named} on {amount} of {tested} faithfulness metrics"
    return GateResult(
        gate="controls",
        verdict="pass" if passed else "fail",
        value=float(fewest),
        low=float("nan"),
        high=float("nan"),
        limit=float(wanted),
        reason=f"{reason} (Holm p < {alpha:g}; {wanted} needed)",
    )


def _cascade(table: ScoreTable, column: int, seed: int) -> GateResult:
    gate = GATES[0]
    score = _of_gate(table, gate)
    if score is None:
        return _untested(gate, f"{gate} was not measured")
    mean = mean_interval(score.values[:, column], seed=seed)
    details = table.details.get(f"{score.info.label}/after_logits")
    after = mean_interval(details[:, column], seed=seed) if details is not None else None
    if np.isnan(mean.value):
        return _untested(gate, "no image has a value")
    if after is not None and after.value >= AFTER_LOGITS:
        return _judged(gate, after, AFTER_LOGITS, "signed Spearman with maps under random logits")
    return _judged(gate, mean, LIMITS[gate], "signed Spearman with maps under random weights")


def _correlation(table: ScoreTable, gate: str, column: int, other: str, seed: int) -> GateResult:
    score = _of_gate(table, gate)
    if score is None:
        return _untested(gate, f"{gate} was not measured")
    mean = mean_interval(score.values[:, column], seed=seed)
    if np.isnan(mean.value):
        return _untested(gate, "no image has a value")
    return _judged(gate, mean, LIMITS[gate], f"signed Spearman with maps of {other}")


def _valid(table: ScoreTable, method: str) -> GateResult:
    count = table.invalid[method]
    return GateResult(
        gate="valid",
        verdict="fail" if count else "pass",
        value=float(count),
        low=float("nan"),
        high=float("nan"),
        limit=0.0,
        reason=f"{count} invalid cells" if count else "no invalid cells",
    )


def _judged(gate: str, found: Interval, limit: float, what: str) -> GateResult:
    failed = found.value >= limit
    sign = "≥" if failed else "<"
    return GateResult(
        gate=gate,
        verdict="fail" if failed else "pass",
        value=found.value,
        low=found.low,
        high=found.high,
        limit=limit,
        reason=f"{what} {found.value:.2f} {sign} {limit:g}",
    )


def _untested(gate: str, reason: str) -> GateResult:
    nan = float("nan")
    return GateResult(gate, "not tested", nan, nan, nan, nan, reason)


def _of_gate(table: ScoreTable, gate: str) -> MetricScores | None:
    """The metric of the run that feeds a gate; the one with default parameters if several do."""
    found = [score for score in table.scores.values() if score.info.gate == gate]
    return min(found, key=lambda score: len(score.info.label)) if found else None
