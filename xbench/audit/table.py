"""The audit as a Markdown table and as data."""

import json
import math
from collections.abc import Sequence
from typing import Any

from xbench.audit.grading import Grade, correlations
from xbench.statistics.verdicts import as_rows

_ORDER = {"fails": 0, "coarse": 1, "passes": 2, "descriptive": 3, "ungraded": 4}


def audit_markdown(grades: Sequence[Grade]) -> str:
    """One table a property; within it failing metrics first."""
    near = _kin(grades)
    parts = []
    for kind in dict.fromkeys(grade.property for grade in grades):
        mine = [g for g in grades if g.property == kind]
        mine.sort(key=lambda g: (_ORDER[g.verdict.standing], g.metric))
        lines = [
            f"### {kind.capitalize()}",
            "",
            "| metric | verdict | best > near | near > poor | poor > worst | best > poor "
            "| best > worst | retest | halves | fills | kin | calls |",
            "|" + "---|" * 12,
            *(_line(grade, near.get(grade.metric, float("nan"))) for grade in mine),
        ]
        reasons = [f"- `{g.metric}`: {g.verdict.reason}" for g in mine if g.verdict.reason]
        parts.append(
            "\n".join(lines) + "\n" + ("\n" + "\n".join(reasons) + "\n" if reasons else "")
        )
    return "\n".join(parts)


def audit_json(grades: Sequence[Grade], facts: dict[str, Any]) -> str:
    """The verdicts and all figures, as JSON.

    Args:
        grades: one a metric.
        facts: what was measured on: scenes, seed, panel.
    """
    figures = [
        {
            "metric": g.metric,
            "property": g.property,
            "ladder": g.ladder,
            "steps": [
                {
                    "pair": f"{s.upper} > {s.lower}",
                    "accuracy": _number(s.accuracy),
                    "interval": [_number(s.low), _number(s.high)],
                    "images": s.images,
                }
                for s in g.steps
            ],
            "retest": _number(g.retest),
            "halves": _number(g.halves),
            "fills": _number(g.fills),
            "calls": _number(g.calls),
        }
        for g in grades
    ]
    table = correlations(grades)
    content = {
        **facts,
        "verdicts": as_rows({g.metric: g.verdict for g in grades}),
        "figures": figures,
        "correlations": {
            a: {b: _number(float(table.loc[b, a])) for b in table.index if b > a}
            for a in table.columns
        },
    }
    return json.dumps(content, indent=1) + "\n"


def summary(grades: Sequence[Grade]) -> str:
    """How many metrics stand where, one sentence."""
    counts = {name: sum(g.verdict.standing == name for g in grades) for name in _ORDER}
    return (
        f"{len(grades)} metrics: {counts['passes']} pass, {counts['coarse']} are coarse, "
        f"{counts['fails']} fail, {counts['descriptive']} describe, {counts['ungraded']} ungraded."
    )


def _kin(grades: Sequence[Grade]) -> dict[str, float]:
    """Mean rank correlation of each metric with the others of its property."""
    table = correlations(grades)
    kind = {g.metric: g.property for g in grades}
    found = {}
    for label in table.columns:
        others = [b for b in table.index if b != label and kind[b] == kind[label]]
        found[label] = float(table.loc[others, label].mean()) if others else float("nan")
    return found


def _line(grade: Grade, near: float) -> str:
    steps = [_step(s) for s in grade.steps] or ["–"] * 5
    rest = [_short(grade.retest), _short(grade.halves), _short(grade.fills), _short(near)]
    calls = "–" if math.isnan(grade.calls) else f"{grade.calls:,.0f}"
    return (
        f"| `{grade.metric}` | {grade.verdict.standing} | "
        + " | ".join([*steps, *rest, calls])
        + " |"
    )


def _step(step: Any) -> str:
    if step.images == 0:
        return "undefined"
    return f"{step.accuracy:.2f} [{step.low:.2f}, {step.high:.2f}]"


def _short(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _number(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
