"""The HTML report: one self-contained page, offline, no libraries."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from xbench.report.figures import heat_map, line_chart
from xbench.report.gallery import colored, data_uri, read_maps, read_thumbnails
from xbench.report.tables import cell_text, heading, number, rank_text
from xbench.running.session import Run, command_text
from xbench.statistics.leaderboard import Leaderboard

GALLERY_IMAGES = 8
CHART_METHODS = 16


def render(run: Run, board: Leaderboard, manifest: Mapping[str, Any]) -> str:
    """The report as one HTML text, a pure function of the run folder."""
    environment = Environment(
        loader=PackageLoader("xbench.report"), autoescape=select_autoescape(default=True)
    )
    page = environment.get_template("report.html.j2")
    return page.render(
        manifest=manifest,
        environment_json=json.dumps(manifest["environment"], indent=1, sort_keys=True),
        command=command_text(manifest["command"]),
        board=board,
        columns=[heading(metric.label, metric.direction) for metric in board.metrics],
        lines=_lines(board),
        charts=_charts(run.curves, board),
        agreement=_agreement(run.records, board),
        gallery=_gallery(run, board, manifest),
        cards=_cards(manifest),
    )


def _lines(board: Leaderboard) -> list[dict[str, Any]]:
    lines = []
    for row in board.rows:
        cells = []
        for metric in board.metrics:
            cell = row.cells[metric.label]
            cells.append(
                {
                    "text": cell_text(cell),
                    "sort": "" if cell.defined == 0 else repr(cell.mean),
                    "title": cell.reason or f"{cell.defined} of {cell.total} images",
                }
            )
        lines.append(
            {
                "method": row.method,
                "family": row.family,
                "control": row.control,
                "rank": rank_text(row),
                "cells": cells,
                "calls": number(row.calls, 0),
                "ms": number(row.seconds * 1000, 1),
            }
        )
    return lines


def _charts(curves: pd.DataFrame, board: Leaderboard) -> list[dict[str, Any]]:
    """Mean curves of every metric that keeps them."""
    labels = [row.method for row in board.rows][:CHART_METHODS]
    charts = []
    for (metric, name), group in curves.groupby(["metric", "name"], sort=True):
        series = {}
        for label in labels:
            points = group.loc[group["method"] == label, "points"].tolist()
            lengths = {len(one) for one in points}
            if len(lengths) == 1 and lengths != {0}:
                series[label] = _mean(points)
        if series and len(next(iter(series.values()))) > 1:
            title = f"{metric}: {name}"
            chart = line_chart(
                series, title=title, x_label="step (share of all)", y_label=str(name)
            )
            charts.append({"title": title, "svg": Markup(chart)})
    return charts


def _mean(points: Sequence[Sequence[float]]) -> Any:
    table = np.asarray(points, dtype=np.float64)
    known = np.isfinite(table)
    count = known.sum(axis=0)
    total = np.where(known, table, 0.0).sum(axis=0)
    return np.divide(total, count, out=np.full(table.shape[1], np.nan), where=count > 0)


def _agreement(records: pd.DataFrame, board: Leaderboard) -> list[dict[str, Any]]:
    """One heat map a pairwise metric."""
    figures = []
    names = [row.method for row in board.rows]
    places = {name: i for i, name in enumerate(names)}
    for metric in (metric for metric in board.metrics if metric.pairwise):
        rows = records[(records["metric"] == metric.label) & (records["status"] == "ok")]
        if rows.empty:
            continue
        values = np.full((len(names), len(names)), np.nan)
        means = rows.groupby(["method", "other"])["value"].mean().reset_index()
        for a, b, value in means.itertuples(index=False):
            values[places[a], places[b]] = values[places[b], places[a]] = value
        svg = heat_map(names, values, title=f"{metric.label} between methods")
        figures.append({"title": metric.label, "svg": Markup(svg)})
    return figures


def _gallery(run: Run, board: Leaderboard, manifest: Mapping[str, Any]) -> dict[str, Any]:
    signed = {entry["label"]: entry["card"]["signed"] for entry in manifest["methods"]}
    methods = [row.method for row in board.rows]
    ids, pictures = read_thumbnails(run.folder.maps_path, GALLERY_IMAGES)
    maps = read_maps(run.folder.maps_path, methods, GALLERY_IMAGES)
    rows = []
    for i, image_id in enumerate(ids):
        cells = [
            {"method": method, "uri": data_uri(colored(maps[method][i], signed=signed[method]))}
            for method in methods
            if method in maps and i < len(maps[method])
        ]
        rows.append({"id": image_id, "uri": data_uri(pictures[i]), "cells": cells})
    return {"rows": rows, "methods": methods}


def _cards(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "label": entry["label"],
            "identity": entry["identity"],
            "card": entry["card"],
            "kind": kind,
        }
        for kind in ("methods", "metrics")
        for entry in manifest[kind]
    ]
