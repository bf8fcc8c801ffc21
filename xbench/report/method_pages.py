"""A page for each method: standing, strengths, failures, settings and cost."""

from typing import Any

from xbench.report.findings import Findings
from xbench.report.tables import cell_text, number, rank_text
from xbench.statistics.leaderboard import Leaderboard, MetricInfo, Row

FEW = 4


def method_pages(findings: Findings) -> list[dict[str, Any]]:
    """One page a method, in the order of the leaderboard."""
    board = findings.board
    orders = {metric.label: _order(board, metric) for metric in board.metrics}
    entries = {entry["label"]: entry for entry in findings.manifest["methods"]}
    return [
        {
            "place": findings.places[row.method],
            "label": row.method,
            "entry": entries[row.method],
            "standing": _standing(board, row),
            "metrics": _metrics(findings, row, orders),
            "strengths": _extremes(board, row, orders, good=True),
            "weaknesses": _extremes(board, row, orders, good=False),
            "gates": [
                f"{gate.replace('_', ' ')}: {result.verdict}; {result.reason}"
                for gate, result in board.gates[row.method].items()
            ],
            "cost": _cost(findings, row),
            "blanks": _blanks(row),
        }
        for row in board.rows
    ]


def _order(board: Leaderboard, metric: MetricInfo) -> list[str]:
    """Explainers with a value, the best first; empty for metrics without a direction."""
    if metric.direction == "none":
        return []
    rows = [r for r in board.rows if not r.control and r.cells[metric.label].defined]
    return [r.method for r in sorted(rows, key=lambda r: -metric.sign * r.cells[metric.label].mean)]


def _standing(board: Leaderboard, row: Row) -> str:
    if row.control:
        rank = "" if row.mean_rank is None else f" It would take mean rank {row.mean_rank:.2f}."
        return f"A control: a yardstick, no explanation.{rank}"
    if row.rank is None:
        return f"No place: {row.note or 'nothing was ranked'}."
    if row.mean_rank is None:
        return f"Place {rank_text(row)}: it fails no gate of the board."
    tied = [
        m for m in board.ranking.methods if m != row.method and board.ranking.tied(row.method, m)
    ]
    words = f"Place {rank_text(row)}, mean rank {row.mean_rank:.2f}"
    words += f", position {row.low} to {row.high} (95 %), first in {row.best:.0%} of resamples."
    if tied:
        more = f" and {len(tied) - 6} more" if len(tied) > 6 else ""
        words += f" Not shown to differ from {', '.join(tied[:6])}{more}."
    return words


def _metrics(findings: Findings, row: Row, orders: dict[str, list[str]]) -> list[dict[str, str]]:
    lines = []
    for metric in findings.board.metrics:
        cell = row.cells[metric.label]
        skill = findings.skills.get(metric.label)
        order = orders[metric.label]
        place = f"{order.index(row.method) + 1} of {len(order)}" if row.method in order else ""
        lines.append(
            {
                "label": metric.label,
                "property": metric.property,
                "value": cell_text(cell),
                "skill": number(skill.mean[row.method].value, 2) if skill else "",
                "place": place,
                "images": f"{cell.defined} of {cell.total}",
            }
        )
    return lines


def _extremes(
    board: Leaderboard, row: Row, orders: dict[str, list[str]], *, good: bool
) -> list[str]:
    """Metrics in whose best or worst quarter of explainers it stands, the most extreme first."""
    found = []
    for metric in board.metrics:
        order = orders[metric.label]
        if row.method not in order or len(order) < 3:
            continue
        place = order.index(row.method)
        share = place / (len(order) - 1)
        if (share if good else 1 - share) <= 0.25:
            value = number(row.cells[metric.label].mean)
            place_text = f"{metric.label} {value} ({place + 1} of {len(order)})"
            found.append((share if good else 1 - share, place_text))
    return [text for _, text in sorted(found)[:FEW]]


def _cost(findings: Findings, row: Row) -> str:
    records = findings.records
    own = records[(records["metric"] == "explain") & (records["method"] == row.method)]
    own = own[own["status"] == "ok"]
    if own.empty:
        return "No map was computed."
    calls = ", ".join(
        f"{number(float(own[name].mean()), 0)} {kind} pass{'' if own[name].mean() == 1 else 'es'}"
        for name, kind in (("forwards", "forward"), ("backwards", "backward"), ("tails", "tail"))
        if own[name].mean() > 0
    )
    memory = float(own["peak_mb"].max())
    return (
        f"{calls or 'no model call'} and {number(row.seconds * 1000, 1)} ms an image"
        + (f", {number(memory, 0)} MB at most" if memory > 0 else "")
        + "."
    )


def _blanks(row: Row) -> list[str]:
    """Reasons of missing values, once each with the metrics that have it."""
    metrics: dict[str, list[str]] = {}
    for label, cell in row.cells.items():
        if cell.reason and cell.defined < cell.total:
            metrics.setdefault(cell.reason, []).append(label)
    return [f"{', '.join(labels)}: {reason}" for reason, labels in metrics.items()]
