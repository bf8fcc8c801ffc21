"""The leaderboard as LaTeX: one booktabs table a property."""

from collections.abc import Mapping, Sequence
from typing import Any

from xbench.report.tables import number, rank_text
from xbench.statistics.leaderboard import Cell, Leaderboard, MetricInfo

_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$", "none": ""}


def plain(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> plain("smoothgrad[n=5] & 10 %")
    'smoothgrad[n=5] \\& 10 \\%'
    """
    return "".join(_SIGNS.get(sign, sign) for sign in text.replace("\n", " "))


def latex(board: Leaderboard, manifest: Mapping[str, Any]) -> str:
    """Tables for a paper: place, method, metrics of a property, cost; needs booktabs."""
    groups: dict[str, list[MetricInfo]] = {}
    for metric in board.metrics:
        if any(row.cells[metric.label].defined for row in board.rows):
            groups.setdefault(metric.property, []).append(metric)
    about = f"{manifest['model']['name']} on {manifest['dataset']['name']}"
    head = (
        f"% {about}, {board.images} images, seed {manifest['seed']}, xbench {manifest['xbench']}\n"
        "% needs \\usepackage{booktabs}\n"
    )
    tables = [_table(board, about, name, metrics) for name, metrics in groups.items()]
    return head.replace("\r", " ") + "\n".join(tables)


def _table(board: Leaderboard, about: str, name: str, metrics: Sequence[MetricInfo]) -> str:
    headings = [f"{plain(m.label.replace('_', ' '))} {_ARROWS[m.direction]}" for m in metrics]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{plain(name.capitalize())}: {plain(about)}. Mean over {board.images} images "
        r"and its 95\,\% bootstrap interval; controls in italics.}",
        rf"\begin{{tabular}}{{rl{'r' * len(metrics)}r}}",
        r"\toprule",
        " & ".join(["Place", "Method", *headings, "Calls"]) + r" \\",
        r"\midrule",
    ]
    for row in board.rows:
        method = plain(row.method)
        cells = [rank_text(row), rf"\textit{{{method}}}" if row.control else method]
        cells += [_cell(row.cells[metric.label]) for metric in metrics]
        lines.append(" & ".join([*cells, number(row.calls, 0)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    if cell.defined == 0:
        return "--"
    mean = _math(number(cell.mean))
    if cell.low != cell.low:
        return mean
    return f"{mean} {{\\scriptsize [{_math(number(cell.low))}, {_math(number(cell.high))}]}}"


def _math(text: str) -> str:
    return f"${text.replace(',', '{,}')}$" if text.startswith("-") else text
