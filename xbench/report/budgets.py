"""Quality against budget: each method at several numbers of model calls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from xbench.report.numbers import Numbers
from xbench.report.svg import COLORS, DASHES, Axes, clip, log_ticks, picture, short, spread, ticks
from xbench.report.tables import markdown_text, number
from xbench.statistics.leaderboard import Leaderboard
from xbench.statistics.pareto import pareto

LABEL = 26


@dataclass(frozen=True)
class BudgetCurves:
    """What a run with budgets shows.

    Attributes:
        budgets: in rising order.
        lines: by method without the tuned parameter: (calls, quality) by budget, where it fits and
            has a rank.
        quality: what quality is.
        higher: whether a higher quality is better.
        own: methods that run at their own cost.
        refused: a sentence for every method and budget that do not fit.
    """

    budgets: tuple[int, ...]
    lines: Mapping[str, Mapping[int, tuple[float, float]]]
    quality: str
    higher: bool
    own: tuple[str, ...]
    refused: tuple[str, ...]


def budget_curves(board: Leaderboard, manifest: Mapping[str, Any]) -> BudgetCurves | None:
    """Skill (or the mean rank, where the run has no skill) of every method at every budget.

    Returns:
        None for a run without budgets.
    """
    kept = manifest.get("budget")
    if not kept:
        return None
    points = {point.method: point for point in pareto(board.table, board.ranking)}
    skilled = bool(points) and all(np.isfinite(point.skill) for point in points.values())
    lines: dict[str, dict[int, tuple[float, float]]] = {}
    for one in kept["fitted"]:
        point = points.get(one["label"])
        if point is not None:
            value = point.skill if skilled else point.mean_rank
            lines.setdefault(one["base"], {})[int(one["budget"])] = (float(one["calls"]), value)
    fixed = dict.fromkeys(one["base"] for one in kept["fitted"] if one["parameter"] is None)
    return BudgetCurves(
        budgets=tuple(int(budget) for budget in kept["budgets"]),
        lines=lines,
        quality="skill (0 random, 1 oracle)" if skilled else "mean rank (1 the best)",
        higher=skilled,
        own=tuple(str(base) for base in fixed),
        refused=tuple(str(sentence) for sentence in kept["refused"]),
    )


def budget_numbers(found: BudgetCurves) -> Numbers:
    """Quality by method and budget, with the calls that were used; blank where nothing fits."""
    return Numbers(
        "method",
        tuple(f"{budget:,} calls" for budget in found.budgets),
        tuple(
            (base, tuple(_cell(line.get(budget)) for budget in found.budgets))
            for base, line in _ordered(found)
        ),
    )


def budget_chart(found: BudgetCurves) -> str:
    """Lines of quality over model calls (logarithmic); methods at their own cost are points.

    Empty where nothing has a rank.
    """
    places = [place for line in found.lines.values() for place in line.values()]
    if not places:
        return ""
    calls = [max(0.5, cost) for cost, _ in places]
    marks_x = log_ticks(min(calls), max(calls))
    low, high = min(value for _, value in places), max(value for _, value in places)
    marks_y = ticks(low, high if high > low else low + 1)
    ends = (marks_y[0], marks_y[-1]) if found.higher else (marks_y[-1], marks_y[0])
    axes = Axes(760, 380, 56, 210, 14, 44, (marks_x[0], marks_x[-1]), ends, log_x=True)
    parts = axes.grid(marks_x, marks_y)
    order = _ordered(found)
    tips = [axes.at_y(line[max(line)][1]) for _, line in order]
    spots = spread(tips, 14, axes.top + 4, axes.height - axes.bottom)
    for i, (base, line) in enumerate(order):
        parts.append(_line(axes, base, list(line.values()), i, spots[i], base in found.own))
    parts += axes.titles("model calls for a map (logarithmic)", found.quality)
    return picture(axes.width, axes.height, f"{found.quality} against budget", parts, "budget")


def budget_markdown(found: BudgetCurves) -> list[str]:
    """The table as lines of Markdown, with what did not fit."""
    numbers = budget_numbers(found)
    head = [numbers.what, *numbers.head]
    rows = [(markdown_text(name), *cells) for name, cells in numbers.rows]
    lines = ["## Quality against budget", "", f"{found.quality}, and the model calls of a map.", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    said = [f"At their own cost: {', '.join(found.own)}."] if found.own else []
    return lines + [text for one in (*said, *found.refused) for text in ("", markdown_text(one))]


def _ordered(found: BudgetCurves) -> list[tuple[str, Mapping[int, tuple[float, float]]]]:
    """The lines, the best at its largest budget first."""
    sign = -1.0 if found.higher else 1.0
    return sorted(found.lines.items(), key=lambda one: (sign * one[1][max(one[1])][1], one[0]))


def _cell(place: tuple[float, float] | None) -> str:
    return "" if place is None else f"{number(place[1], 2)} ({short(round(place[0], 1))})"


def _line(
    axes: Axes,
    base: str,
    places: Sequence[tuple[float, float]],
    place: int,
    spot: float,
    fixed: bool,
) -> str:
    """A method's line with its points, and its name at the right."""
    at = [(axes.at_x(max(0.5, cost)), axes.at_y(value)) for cost, value in places]
    color, dash = f"s{place % COLORS}", DASHES[place // COLORS % len(DASHES)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    line = "" if fixed else f'<polyline points="{path}" stroke-dasharray="{dash}"/>'
    dots = "".join(
        f'<circle style="fill: var(--c)" cx="{x:.1f}" cy="{y:.1f}" r="4">'
        f"<title>{escape(base)}: {short(round(cost, 1))} calls, {value:.2f}</title></circle>"
        for (x, y), (cost, value) in zip(at, places, strict=True)
    )
    x = axes.width - axes.right + 6
    mark = "" if fixed else f'<line x1="0" x2="18" stroke-dasharray="{dash}"/>'
    return (
        f'<g class="series {color}"><title>{escape(base)}</title>{line}{dots}</g>'
        f'<g class="end {color}" transform="translate({x:g} {spot:.1f})">{mark}'
        f'<text x="22" y="4">{escape(clip(base, LABEL))}</text></g>'
    )
