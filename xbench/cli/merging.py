"""`xbench merge`: join the parts of a run."""

from pathlib import Path
from typing import Annotated

import typer

from xbench.cli.app import app, err, out, teach

Target = Annotated[Path, typer.Argument(metavar="OUT", help="The new run folder.")]
Parts = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Folders that `xbench run --shard` wrote.")
]


@app.command()
@teach
def merge(target: Target, parts: Parts) -> None:
    """Join runs of one command that differ in --shard only, and write the report of the whole."""
    from xbench.report import write_all
    from xbench.report.terminal import print_leaderboard
    from xbench.running.session import open_run
    from xbench.running.sharding import merge as join

    for sentence in join(target, parts):
        err.print(sentence, markup=False, soft_wrap=True)
    joined = open_run(target)
    written = write_all(joined)
    print_leaderboard(out, joined.leaderboard())
    out.print(f"Report: {written}", markup=False, soft_wrap=True)
