"""Charts of a run: curves with bands, ranks with tie groups, skill against cost, agreement."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from xbench.report.curves import Family
from xbench.report.svg import Axes, Style, clip, log_ticks, picture, short, spread, ticks
from xbench.statistics.intervals import Interval
from xbench.statistics.ranking import Ranking

Array = NDArray[np.float64]
LABEL = 26


def curve_chart(family: Family, styles: Mapping[str, Style], places: Mapping[str, int]) -> str:
    """Means over images with their 95 % bands, names at the right ends.

    Args:
        family: the curves.
        styles: of every method.
        places: number of every method, by which the page shows and hides it.
    """
    bands = family.bands
    seen = [band for method, band in bands.items() if styles[method].shown] or list(bands.values())
    every = np.concatenate([part for band in seen for part in (band.mean, band.low, band.high)])
    finite = every[np.isfinite(every)]
    low, high = min(0.0, float(finite.min())), float(finite.max())
    marks = ticks(low, high if high > low else low + 1)
    x = family.x
    axes = Axes(760, 350, 52, 210, 12, 44, (x[0], x[-1]), (marks[0], marks[-1]))
    parts = axes.grid(list(x) if len(x) <= 10 else ticks(x[0], x[-1]), marks)
    ends: list[tuple[str, float]] = []
    for method, band in bands.items():
        style = styles[method]
        points = [
            f"{axes.at_x(a):.1f},{axes.at_y(float(b)):.1f}"
            for a, b in zip(x, band.mean, strict=True)
            if np.isfinite(b)
        ]
        hidden = "" if style.shown else " hidden"
        parts.append(
            f'<g data-m="{places[method]}" class="series {style.color}{hidden}">'
            f"<title>{escape(method)}</title>{_area(axes, x, band.low, band.high)}"
            f'<polyline points="{" ".join(points)}" stroke-dasharray="{style.dash}"/></g>'
        )
        last = band.mean[np.isfinite(band.mean)][-1]
        ends.append((method, axes.at_y(float(last))))
    parts += _end_labels(axes, ends, styles, places)
    parts += axes.titles(family.x_label, f"mean {family.name.replace('_', ' ')}")
    title = f"{family.metric}: {family.name} by {family.x_label}, mean of {family.images} images"
    return picture(axes.width, axes.height, title, parts, "curves")


def _area(axes: Axes, x: Sequence[float], low: Array, high: Array) -> str:
    known = np.isfinite(low) & np.isfinite(high)
    if not known.any() or float((high - low)[known].max()) == 0:
        return ""
    at = [i for i in range(len(x)) if known[i]]
    there = [f"{axes.at_x(x[i]):.1f},{axes.at_y(float(high[i])):.1f}" for i in at]
    back = [f"{axes.at_x(x[i]):.1f},{axes.at_y(float(low[i])):.1f}" for i in reversed(at)]
    return f'<polygon points="{" ".join(there + back)}"/>'


def _end_labels(
    axes: Axes,
    ends: Sequence[tuple[str, float]],
    styles: Mapping[str, Style],
    places: Mapping[str, int],
) -> list[str]:
    """Names beside the ends of the lines; the page pushes them apart again when some are hidden."""
    shown = [end for end in ends if styles[end[0]].shown]
    spots = spread([y for _, y in shown], 14, axes.top + 4, axes.height - axes.bottom)
    spot = dict(zip((method for method, _ in shown), spots, strict=True))
    x = axes.width - axes.right + 6
    parts = []
    for method, y in ends:
        style = styles[method]
        hidden = "" if style.shown else " hidden"
        parts.append(
            f'<g data-m="{places[method]}" data-y="{y:.1f}" class="end {style.color}{hidden}" '
            f'transform="translate({x:g} {spot.get(method, y):.1f})"><line x1="0" x2="18" '
            f'stroke-dasharray="{style.dash}"/><text x="22" y="4">{escape(clip(method, LABEL))}'
            "</text></g>"
        )
    return parts


def rank_chart(ranking: Ranking) -> str:
    """Mean ranks with intervals, ties as bars and the critical difference (after Demšar 2006).

    Rows instead of the usual fan of labels, so that any number of methods can be read; controls
    are hollow, at the rank that each would take.
    """
    rows = [(s.method, s.mean_rank, False) for s in ranking.standings]
    rows += [
        (m, Interval(r, float("nan"), float("nan")), True) for m, r in ranking.controls.items()
    ]
    rows.sort(key=lambda row: (row[1].value, row[0]))
    lanes = _lanes(ranking.groups, {method: i for i, (method, _, _) in enumerate(rows)})
    high, row, left, top = max(2.0, float(np.ceil(max(r.value for _, r, _ in rows)))), 20, 220, 46
    right = 24 + 12 * (1 + max((lane for lane, _, _ in lanes), default=-1))
    axes = Axes(760, top + row * len(rows) + 14, left, right, top, 14, (1, high), (0, 1))
    parts = []
    for value in ticks(1, high):
        if 1 <= value <= high:
            at = axes.at_x(value)
            parts.append(
                f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 6}" '
                f'y2="{axes.height - 10:g}"/><text x="{at:.1f}" y="{top - 12}" '
                f'text-anchor="middle">{short(value)}</text>'
            )
    for i, (method, rank, control) in enumerate(rows):
        parts.append(_rank_row(axes, top + row * (i + 0.5), method, rank, control=control))
    for lane, first, last in lanes:
        x = axes.width - right + 16 + 12 * lane
        parts.append(
            f'<line class="tie" x1="{x}" x2="{x}" y1="{top + row * (first + 0.2):g}" '
            f'y2="{top + row * (last + 0.8):g}"/>'
        )
    critical = ranking.friedman.critical_difference if ranking.friedman else float("nan")
    if critical < high - 1:
        end = axes.at_x(1 + critical)
        parts.append(
            f'<line class="tie" x1="{left}" x2="{end:.1f}" y1="10" y2="10"/><text '
            f'x="{end + 6:.1f}" y="14">critical difference {critical:.2f}</text>'
        )
    title = "Mean ranks, 1 the best, with intervals and groups of ties"
    return picture(axes.width, axes.height, title, parts, "ranks")


def _rank_row(axes: Axes, y: float, method: str, rank: Interval, *, control: bool) -> str:
    x, kind = axes.at_x(rank.value), "hollow" if control else "dot"
    whisker = ""
    if np.isfinite(rank.low):
        low, high = axes.at_x(max(1.0, rank.low)), axes.at_x(min(axes.x[1], rank.high))
        whisker = f'<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"/>'
    return (
        f"<g><title>{escape(method)}: mean rank {rank.value:.2f}</title>"
        f'<text class="name" x="{axes.left - 10:g}" y="{y + 4:g}" text-anchor="end">'
        f'{escape(clip(method, LABEL))}</text><line class="stem" x1="{axes.left:g}" x2="{x:.1f}" '
        f'y1="{y:g}" y2="{y:g}"/>{whisker}'
        f'<circle class="{kind}" cx="{x:.1f}" cy="{y:g}" r="4.5"/></g>'
    )


def _lanes(
    groups: Sequence[Sequence[str]], places: Mapping[str, int]
) -> list[tuple[int, int, int]]:
    """Every group as (lane, first row, last row), overlapping groups in lanes side by side."""
    spans = sorted(
        (min(rows), max(rows))
        for group in groups
        if len(rows := [places[m] for m in group if m in places]) > 1
    )
    ends: list[int] = []
    found = []
    for first, last in spans:
        lane = next((i for i, end in enumerate(ends) if end < first), len(ends))
        if lane == len(ends):
            ends.append(last)
        ends[lane] = last
        found.append((lane, first, last))
    return found


def cost_chart(
    points: Mapping[str, tuple[float, float]],
    front: Sequence[str],
    *,
    y_label: str,
    controls: Sequence[str] = (),
    higher: bool = True,
) -> str:
    """Quality against model calls (logarithmic, 0 drawn at the left end), with the Pareto front.

    Args:
        points: (calls, quality) by method.
        front: methods that nothing cheaper beats, joined by a line.
        y_label: what quality is.
        controls: methods drawn hollow.
        higher: whether a higher quality is better; else the axis runs downwards.
    """
    calls = [max(0.5, cost) for cost, _ in points.values()]
    marks_x = log_ticks(min(calls), max(calls))
    quality = [value for _, value in points.values()]
    marks_y = ticks(min(quality), max(quality) if max(quality) > min(quality) else min(quality) + 1)
    ends = (marks_y[0], marks_y[-1]) if higher else (marks_y[-1], marks_y[0])
    axes = Axes(760, 380, 56, 130, 14, 44, (marks_x[0], marks_x[-1]), ends, log_x=True)
    parts = axes.grid(marks_x, marks_y)
    at = {m: (axes.at_x(max(0.5, c)), axes.at_y(v)) for m, (c, v) in points.items()}
    line = sorted(at[method] for method in front if method in at)
    if len(line) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
        parts.append(f'<polyline class="front" points="{path}"/>')
    named = list(front) + [method for method in points if method not in front]
    taken = [(x - 6, x + 6, y + 4) for x, y in at.values()]  # no label across a point
    for method in named:
        x, y = at[method]
        kind = "front-dot" if method in front else "hollow" if method in controls else "dot"
        cost, value = points[method]
        text = escape(f"{method}: {short(round(cost, 1))} calls, {value:.2f}")
        label = _free_label(method, x, y, taken)
        parts.append(
            f'<g><title>{text}</title><circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            f"{label}</g>"
        )
    parts += axes.titles("model calls for a map (logarithmic)", y_label)
    return picture(axes.width, axes.height, f"{y_label} against model calls", parts, "cost")


def _free_label(method: str, x: float, y: float, taken: list[tuple[float, float, float]]) -> str:
    """A label at the first free place around a point; none where all are taken."""
    text = clip(method, 22)
    width = 6.4 * len(text)
    for dx, dy in ((9, 4), (9, 16), (9, -8), (-9 - width, 4), (-9 - width, 16), (-9 - width, -8)):
        start, line = x + dx, y + dy
        if start < 60 or start + width > 756 or not 12 < line < 334:
            continue
        if all(
            abs(line - other) > 12 or start + width < low or start > high
            for low, high, other in taken
        ):
            taken.append((start, start + width, line))
            return f'<text x="{start:.1f}" y="{line:.1f}">{escape(text)}</text>'
    return ""


def heat_chart(names: Sequence[str], values: Array, *, title: str) -> str:
    """A symmetric matrix; numbers in the cells where there is room, blanks where undefined."""
    cell = 34 if len(names) <= 16 else 20
    left, top = 200, 140
    side = cell * len(names)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    low = min(0.0, low)
    parts = []
    for i, name in enumerate(names):
        y = top + (i + 0.5) * cell + 4
        x = left + (i + 0.5) * cell + 4
        parts.append(
            f'<text class="name" x="{left - 6}" y="{y:g}" text-anchor="end">'
            f'{escape(clip(name, LABEL))}</text><text class="name" transform="translate({x:g} '
            f'{top - 6}) rotate(-55)">{escape(clip(name, LABEL))}</text>'
        )
        for j, other in enumerate(names):
            value = float(values[i, j])
            if not np.isfinite(value):
                continue
            share = (value - low) / ((high - low) or 1.0)
            ink = "light" if share > 0.55 else "deep"
            number = (
                f'<text class="small {ink}" x="{left + (j + 0.5) * cell:g}" y="{y:g}" '
                f'text-anchor="middle">{value:.2f}</text>'
                if len(names) <= 16
                else ""
            )
            parts.append(
                f"<g><title>{escape(name)} and {escape(other)}: {value:.3f}</title>"
                f'<rect x="{left + j * cell}" y="{top + i * cell}" width="{cell - 1}" '
                f'height="{cell - 1}" fill="{_blue(share)}"/>{number}</g>'
            )
    return picture(left + side + 90, top + side + 8, title, parts, "heat")


def _blue(share: float) -> str:
    light, dark = (237, 244, 250), (0, 71, 125)
    mixed = (round(a + (b - a) * share) for a, b in zip(light, dark, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
