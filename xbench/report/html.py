"""The HTML report: one self-contained page, offline, no libraries."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from xbench.report import board_view
from xbench.report.budgets import budget_chart, budget_curves, budget_numbers
from xbench.report.cautions import cautions
from xbench.report.charts import cost_chart, curve_chart, heat_chart, rank_chart
from xbench.report.curves import Family, curve_families
from xbench.report.findings import Findings
from xbench.report.gallery import SIDE, chosen_images, pictures
from xbench.report.method_pages import method_pages
from xbench.report.numbers import cost_numbers, curve_numbers, matrix_numbers, rank_numbers
from xbench.report.slices import slices
from xbench.running.maps import MapCache
from xbench.running.session import command_text

SECTIONS: Mapping[str, str] = {
    "advice": "Advice",
    "leaderboard": "Leaderboard",
    "ranks": "Ranks and ties",
    "gates": "Gates",
    "skill": "Skill",
    "cost": "Cost",
    "budget": "Budget",
    "curves": "Curves",
    "agreement": "Agreement",
    "gallery": "Gallery",
    "slices": "Slices",
    "methods": "Methods",
    "metrics": "Metrics",
    "reproduce": "Reproduce",
}
PUBLISHED = tuple(name for name in SECTIONS if name not in ("curves", "gallery", "slices"))
"""What the page of a published board shows: what its cells suffice for."""
HEAT_METHODS = 30
GALLERY_METHODS = 24


def render(findings: Findings, sections: Collection[str] = tuple(SECTIONS)) -> str:
    """The report as one HTML text, a pure function of the run folder.

    Args:
        findings: the run.
        sections: which of `SECTIONS` to show.
    """
    environment = Environment(
        loader=PackageLoader("xbench.report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    groups = board_view.columns(findings)
    budget = _budget(findings)
    sections = [name for name in sections if budget or name != "budget"]
    sliced_methods, parts = slices(findings) if "slices" in sections else ([], [])
    shown, further = _curves(findings) if "curves" in sections else ([], [])
    return environment.get_template("report.html.j2").render(
        sections={name: title for name, title in SECTIONS.items() if name in sections},
        manifest=findings.manifest,
        board=findings.board,
        command=command_text(findings.manifest["command"]),
        environment_json=json.dumps(findings.manifest["environment"], indent=1, sort_keys=True),
        data=json_script(_data(findings)),
        groups=groups,
        lines=board_view.lines(findings, groups),
        families=sorted({row.family for row in findings.board.rows}),
        gates=board_view.gates(findings),
        skills=board_view.skills(findings),
        ranks=_ranks(findings),
        cost=_cost(findings),
        budget=budget,
        curves=shown,
        more_curves=further,
        agreement=_agreement(findings),
        gallery=_gallery(findings) if "gallery" in sections else [],
        damaged=MapCache(findings.maps).aside() if "gallery" in sections else [],
        side=SIDE,
        slice_methods=sliced_methods,
        slices=parts,
        places=findings.places,
        pages=method_pages(findings),
        advice=findings.advice,
        uses=findings.uses,
        exposure=findings.exposure,
        cautions=cautions(findings),
    )


def breakable(name: str) -> Markup:
    """A name that may be broken behind its underscores and brackets, where it is too long."""
    escaped = str(escape(name))
    for mark in ("_", "[", ","):
        escaped = escaped.replace(mark, f"{mark}<wbr>")
    return Markup(escaped)


def json_script(content: object) -> Markup:
    """JSON that is safe inside a script element: no `<`, so nothing can close it."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    for sign, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(sign, code)
    return Markup(text)


def _data(findings: Findings) -> dict[str, Any]:
    """What the page's script needs."""
    return {
        "methods": [
            {"label": row.method, "shown": findings.styles[row.method].shown}
            for row in findings.board.rows
        ]
    }


def _curves(findings: Findings) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Charts shown at once (deletion, insertion, cascade) and those behind a click."""
    families = curve_families(findings.curves, findings.manifest)
    names = {e["label"]: e["card"]["name"] for e in findings.manifest["metrics"]}
    headline = ("deletion", "insertion", "cascading_randomization")

    def first(family: Family) -> bool:
        return family.main and names[family.metric] in headline

    order = sorted((f for f in families if first(f)), key=lambda f: headline.index(names[f.metric]))
    rest = [family for family in families if not first(family)]
    return [_chart(findings, f) for f in order], [_chart(findings, f) for f in rest]


def _chart(findings: Findings, family: Family) -> dict[str, Any]:
    directions = {metric.label: metric for metric in findings.board.metrics}
    svg = curve_chart(family, findings.styles, findings.places)
    return {
        "title": family.metric.replace("_", " "),
        "name": family.name.replace("_", " "),
        "images": family.images,
        "direction": directions[family.metric].direction,
        "main": family.main,
        "svg": Markup(svg),
        "numbers": curve_numbers(family, list(findings.places)),
    }


def _ranks(findings: Findings) -> dict[str, Any]:
    """Mean ranks with ties; empty where nothing is ranked."""
    ranking = findings.board.ranking
    if not ranking.methods:
        return {}
    nan = float("nan")
    rows = {
        one.method: (one.mean_rank.value, one.mean_rank.low, one.mean_rank.high)
        for one in ranking.standings
    }
    rows |= {control: (rank, nan, nan) for control, rank in ranking.controls.items()}
    ordered = dict(sorted(rows.items(), key=lambda row: (row[1][0], row[0])))
    return {"svg": Markup(rank_chart(ranking)), "numbers": rank_numbers(ordered)}


def _cost(findings: Findings) -> dict[str, Any]:
    """Skill (or the mean rank, where the run has no skill) against model calls."""
    points = [point for point in findings.advice.pareto if np.isfinite(point.calls)]
    if len(points) < 2:
        return {}
    skilled = all(np.isfinite(point.skill) for point in points)
    chart = cost_chart(
        {p.method: (p.calls, p.skill if skilled else p.mean_rank) for p in points},
        [p.method for p in points if p.calls_front],
        y_label="skill (0 random, 1 oracle)" if skilled else "mean rank",
        higher=skilled,
    )
    return {"svg": Markup(chart), "numbers": cost_numbers(points, skilled=skilled)}


def _budget(findings: Findings) -> dict[str, Any]:
    """Quality of the methods at every budget; empty for a run without budgets."""
    found = budget_curves(findings.board, findings.manifest)
    if found is None:
        return {}
    return {
        "svg": Markup(budget_chart(found)),
        "numbers": budget_numbers(found),
        "own": found.own,
        "refused": found.refused,
    }


def _agreement(findings: Findings) -> list[dict[str, Any]]:
    """One heat map a pairwise metric, alike methods side by side."""
    figures = []
    chosen = list(findings.places)[:HEAT_METHODS]
    for metric in (metric for metric in findings.board.metrics if metric.pairwise):
        rows = findings.records
        rows = rows[(rows["metric"] == metric.label) & (rows["status"] == "ok")]
        means = rows.groupby(["method", "other"])["value"].mean().reset_index()
        values = np.full((len(chosen), len(chosen)), np.nan)
        spots = {name: i for i, name in enumerate(chosen)}
        for a, b, value in means.itertuples(index=False):
            if a in spots and b in spots:
                values[spots[a], spots[b]] = values[spots[b], spots[a]] = value
        if not np.isfinite(values).any():
            continue
        order = alike(values)
        names = [chosen[i] for i in order]
        ordered = values[np.ix_(order, order)]
        svg = heat_chart(names, ordered, title=f"{metric.label} of methods")
        figures.append(
            {
                "title": metric.label.replace("_", " "),
                "svg": Markup(svg),
                "numbers": matrix_numbers(names, ordered),
                "left_out": len(findings.places) - len(chosen),
            }
        )
    return figures


def alike(values: NDArray[np.float64]) -> list[int]:
    """An order of rows that puts alike methods side by side (average linkage)."""
    if len(values) < 3:
        return list(range(len(values)))
    known = np.where(np.isfinite(values), values, np.nanmin(values))
    distances = known.max() - (known + known.T) / 2
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return [int(i) for i in leaves_list(tree)]


def _gallery(findings: Findings) -> Sequence[Any]:
    reasons = chosen_images(findings.board.table, findings.facts)
    methods = list(findings.places)[:GALLERY_METHODS]
    signed = {method: bool(findings.cards[method]["signed"]) for method in methods}
    return pictures(
        MapCache(findings.maps),
        reasons,
        findings.facts,
        signed=signed,
        class_name=findings.class_name,
    )
