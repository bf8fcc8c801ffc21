"""Advice in words: two to four sentences, each a pure function of the data behind it."""

from collections.abc import Sequence

from xbench.contracts.boards import GATES
from xbench.statistics.advice import CHEAP, Recommendation, Refusal
from xbench.statistics.ranking import Ranking
from xbench.statistics.words import enumerated

NAMED = 3
"""Methods that a sentence names before it counts the rest."""


def sentences(found: Recommendation, ranking: Ranking) -> list[str]:
    """The advice: what to use, what when it must be cheap, what never, and how firm that is."""
    if found.pick is None:
        return [_nothing(found), *_never(found), *_preliminary(found)]
    return [_use(found, ranking), *_cheap(found), *_never(found), _firm(found, ranking)]


def _use(found: Recommendation, ranking: Ranking) -> str:
    standing = ranking.standing(str(found.pick))
    assert standing is not None
    purpose = found.use if found.use != "overall" else "general"
    text = (
        f"For {purpose} use, take {found.pick}: mean rank {standing.mean_rank.value:.1f} of "
        f"{len(ranking.methods)}"
    )
    if found.pick == ranking.methods[0]:
        text += f", first in {_percent(standing.best)} of resamples"
    if found.tied:
        p = min(ranking.comparison(str(found.pick), other).corrected for other in found.tied)
        text += f"; {_tied(found)} not shown to differ (Holm p ≥ {p:.2g}){_cheapest(found)}"
    elif len(ranking.methods) > 1:
        text += ", and shown to be better than every other that may be used"
    return text + "."


def _tied(found: Recommendation) -> str:
    """The tie group by name, or how many they are."""
    few = len(found.tied) <= NAMED
    group = enumerated(found.tied) if few else f"{len(found.tied)} others"
    return f"{group} {'is' if len(found.tied) == 1 else 'are'}"


def _cheapest(found: Recommendation) -> str:
    """The cheapest of a long tie group: there, cost decides."""
    if len(found.tied) <= NAMED:
        return ""
    calls = {point.method: point.calls for point in found.pareto}
    ordered = sorted(found.tied, key=lambda method: calls[method])  # stable: then by mean rank
    named = [f"{method} ({_calls(calls[method])})" for method in ordered[:NAMED]]
    return f", the cheapest of them {enumerated(named)}"


def _calls(calls: float) -> str:
    return f"{calls:,.0f} model call{'' if round(calls) == 1 else 's'}"


def _cheap(found: Recommendation) -> list[str]:
    calls = {point.method: point.calls for point in found.pareto}
    if found.cheap is not None and found.pick is not None:
        return [
            f"If a map must cost at most {CHEAP} model calls, take {found.cheap} "
            f"({calls[found.cheap]:,.0f} instead of {calls[found.pick]:,.0f})."
        ]
    return []


def _never(found: Recommendation) -> list[str]:
    """Methods behind failed gates, the most tempting first; one gate a method, the gravest."""
    failed: dict[str, Refusal] = {}
    for refusal in found.refused:
        if refusal.verdict == "fail":
            failed.setdefault(refusal.method, refusal)
    unsound = [one for one in failed.values() if one.gate != "controls"]
    unproven = [one for one in failed.values() if one.gate == "controls"]
    parts = []
    if unsound:
        reasons = "; ".join(
            f"{one.method if len(unsound) > 1 else 'it'} failed {one.gate.replace('_', ' ')} "
            f"({one.reason})"
            for one in unsound[:NAMED]
        )
        names = [one.method for one in unsound]
        parts.append(f"Never use {_names(names[:NAMED])}: {reasons}{_nor(names[NAMED:])}.")
    if unproven and not unsound:
        one = unproven[0]
        parts.append(
            f"{_names([o.method for o in unproven])} did not beat the controls: {one.method} "
            f"{one.reason}."
        )
    elif unproven:
        parts[0] = parts[0][:-1] + (
            f"; {_names([one.method for one in unproven])} did not beat the controls."
        )
    return parts


def _nor(methods: Sequence[str]) -> str:
    """Those for which there is no room: one by name, several by number."""
    if not methods:
        return ""
    return f"; nor {methods[0]}" if len(methods) == 1 else f"; nor {len(methods)} others"


def _firm(found: Recommendation, ranking: Ranking) -> str:
    parts = []
    if found.preliminary:
        parts.append(f"ranks are preliminary with {found.images} images")
    if found.fragility is not None:
        kept = found.fragility
        stays = f"the advice holds on {_percent(kept.halves)} of random halves of the images"
        if kept.weightings == kept.weightings:
            stays += f" and under {_percent(kept.weightings)} of random weightings of the metrics"
        parts.append(stays)
        if kept.flips:
            flips = ", ".join(f"{one.what} would favor {one.leader}" for one in kept.flips[:2])
            parts.append(flips)
    if found.settle and found.tied:
        parts.append(found.settle[0])
    text = "; ".join(parts) or f"{len(ranking.metrics)} metrics on {found.images} images say so"
    return text[0].upper() + text[1:] + "."


def _nothing(found: Recommendation) -> str:
    purpose = found.use if found.use != "overall" else "general"
    gates = [
        f"{sum(one.gate == gate for one in found.refused)} on {gate.replace('_', ' ')}"
        for gate in GATES
        if any(one.gate == gate for one in found.refused)
    ]
    reasons = []
    if gates:
        methods = len({one.method for one in found.refused})
        reasons.append(f"{methods} fail or lack a gate that it needs ({', '.join(gates)})")
    if found.left_out:
        method, reason = next(iter(found.left_out.items()))
        reasons.append(f"{len(found.left_out)} are left out ({method}: {reason})")
    said = "; ".join(reasons) or "no metric of the run ranks methods for it"
    return f"For {purpose} use, no method can be advised: {said}."


def _preliminary(found: Recommendation) -> list[str]:
    if not found.preliminary:
        return []
    return [f"{found.images} images are few: at least 32 are needed for ranks worth reading."]


def _names(methods: Sequence[str]) -> str:
    return enumerated(methods, NAMED)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
