"""`xbench recommend` and `xbench leaderboard`: judging a run that is there."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from xbench.cli import options as o
from xbench.cli.app import app, out, teach

if TYPE_CHECKING:
    from rich.console import Console

    from xbench.statistics.advice import Recommendation
    from xbench.statistics.leaderboard import Leaderboard

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `xbench run` wrote.")]
Use = Annotated[
    str,
    typer.Option(help="debugging, localization, audit, interactive, general, or a board's name."),
]
BoardName = Annotated[str, typer.Option("--board", help="See `xbench leaderboards`.")]


@app.command()
@teach
def recommend(run: RunArgument, use: Use = "general", as_json: o.JsonFlag = False) -> None:
    """Say which method to use, which never, how firm that is, and what would settle the rest."""
    from xbench.registry import LEADERBOARDS
    from xbench.running.session import open_run
    from xbench.statistics.recommendation import recommend as judge

    opened = open_run(run)
    advice = judge(opened.records, opened.manifest, LEADERBOARDS.create(use).value)
    if as_json:
        out.print_json(json.dumps(advice.data()))
    else:
        print_advice(out, advice)


@app.command()
@teach
def leaderboard(
    run: RunArgument, board: BoardName = "overall", as_json: o.JsonFlag = False
) -> None:
    """Print a board of a run: places, gates, ties and critical differences."""
    from xbench.registry import LEADERBOARDS
    from xbench.report.terminal import print_leaderboard
    from xbench.running.session import open_run

    opened = open_run(run)
    judged = opened.leaderboard(LEADERBOARDS.create(board).value)
    if as_json:
        out.print_json(judged.frame().to_json(orient="records"))
        return
    print_leaderboard(out, judged)
    _print_gates(out, judged)
    _print_tests(out, judged)


def print_advice(console: "Console", advice: "Recommendation") -> None:
    """The sentences, and below them what is open and what favors the pick."""
    from xbench.statistics.words import enumerated, grouped

    console.print(advice.text, markup=False, soft_wrap=True)
    for caution in advice.cautions:
        console.print(f"Caution: {caution}.", markup=False, soft_wrap=True)
    for open_question in advice.settle:
        console.print(f"Open: {open_question}.", markup=False, soft_wrap=True, style="dim")
    for reason, methods in grouped(advice.left_out).items():
        text = f"Left out {enumerated(methods)}: {reason}."
        console.print(text, markup=False, soft_wrap=True, style="dim")


def _print_gates(console: "Console", board: "Leaderboard") -> None:
    if not board.card.gates:
        return
    table = Table("method", *(gate.replace("_", " ") for gate in board.card.gates), title="Gates")
    for row in board.rows:
        results = [board.gates[row.method][gate] for gate in board.card.gates]
        cells = [
            result.verdict
            if result.value != result.value
            else f"{result.verdict} ({result.value:.3g})"
            for result in results
        ]
        table.add_row(row.method, *cells, style="dim" if row.control else "")
    console.print(table)


def _print_tests(console: "Console", board: "Leaderboard") -> None:
    ranking = board.ranking
    for metric, reason in ranking.dropped.items():
        console.print(f"Not ranked by {metric}: {reason}", markup=False, soft_wrap=True)
    for group in ranking.groups:
        console.print(f"Not shown to differ: {', '.join(group)}.", markup=False, soft_wrap=True)
    if ranking.friedman is not None:
        test = ranking.friedman
        console.print(
            f"Friedman: chi-square {test.statistic:.1f}, p = {test.p:.2g}; critical difference of "
            f"mean ranks (Nemenyi) {test.critical_difference:.2f}.",
            markup=False,
            soft_wrap=True,
        )
    if ranking.concordance == ranking.concordance:
        console.print(
            f"Agreement of the metrics on the order (Kendall's W): {ranking.concordance:.2f}."
        )
