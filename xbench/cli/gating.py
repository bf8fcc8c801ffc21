"""`xbench gate`: for continuous integration, may the recommended method still be trusted?"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli.app import app, out, teach
from xbench.errors import ParameterError, RunError


@app.command()
@teach
def gate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run of the changed model.")],
    baseline: Annotated[
        Path, typer.Option(help="Run or published board of the model before the change.")
    ],
    use: Annotated[str, typer.Option(help="A board, see `xbench leaderboards`.")] = "general",
    method: Annotated[
        str | None, typer.Option(help="Guard this one instead of the recommended method.")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="Share of its lead over the random control that it may lose.")
    ] = 0.25,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML here.")] = None,
    summary: Annotated[Path | None, typer.Option(help="Append a Markdown summary here.")] = None,
    as_json: o.JsonFlag = False,
) -> None:
    """Exit with 1 and one reason where a changed model makes the recommended method worse."""
    from xbench.gating import gate as hold
    from xbench.gating import junit as junit_text
    from xbench.gating import summary as summary_text

    if not 0 <= margin <= 1:
        raise ParameterError(f"--margin takes a share between 0 and 1, not {margin:g}.")
    found = hold(baseline, run, use=use, method=method, margin=margin)
    for path, text, mode in (
        (junit, junit_text(found), "w"),
        (summary, summary_text(found), "a"),
    ):
        if path is not None:
            _write(path, text, mode)
    if as_json:
        out.print_json(json.dumps({**dataclasses.asdict(found), "passed": found.passed}))
    else:
        out.print(found.reason, markup=False, soft_wrap=True)
    if not found.passed:
        raise typer.Exit(1)


def _write(path: Path, text: str, mode: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        raise RunError(f"{path} cannot be written ({error.strerror or error}).") from error
