"""`xbench audit`: metrics graded on planted truth."""

from pathlib import Path
from typing import Annotated

import typer

from xbench.cli import options as o
from xbench.cli.app import app, out, teach
from xbench.errors import ParameterError


@app.command()
@teach
def audit(
    metrics: o.Metrics = "all",
    images: Annotated[int, typer.Option(help="Scenes for metrics that cost little.")] = 32,
    few: Annotated[int, typer.Option(help="Scenes for the others, and for repetitions.")] = 16,
    jobs: Annotated[int, typer.Option(help="Worker processes.")] = 2,
    seed: o.Seed = 0,
    verdicts: Annotated[Path | None, typer.Option(help="Write the verdicts here, as JSON.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write the table into this page.")] = None,
) -> None:
    """Grade every metric on planted truth: does it rank the truth above noise, does it repeat?

    The default takes about ten minutes on two cores.
    """
    if min(images, few) < 4 or jobs < 1:
        raise ParameterError("--images and --few take at least 4 scenes, --jobs at least 1.")
    from xbench.audit.measuring import Plan
    from xbench.audit.session import run_audit, write_audit
    from xbench.audit.table import audit_markdown, summary

    plan = Plan(images=images, few=few, metrics=metrics, seed=seed)
    grades = run_audit(plan, jobs=jobs, tell=lambda text: out.print(text, markup=False))
    typer.echo(audit_markdown(grades))
    out.print(summary(grades), markup=False, soft_wrap=True)
    if verdicts is not None:
        write_audit(grades, plan, verdicts, page)
        out.print(f"Written to {verdicts}", markup=False, soft_wrap=True)
    elif page is not None:
        raise ParameterError("--page needs --verdicts, so that both say the same.")


@app.command()
@teach
def reproduce(
    images: Annotated[int, typer.Option(help="Planted scenes.")] = 32,
    few: Annotated[int, typer.Option(help="Images for rows that explain again.")] = 8,
    photos: Annotated[int, typer.Option(help="Photographs, 0 for none.")] = 16,
    page: Annotated[Path | None, typer.Option(help="Write the table into this page.")] = None,
) -> None:
    """Check what must reproduce, and print it: expected, found, verdict.

    Exits with 1 where a hard row does not hold.
    """
    if min(images, few) < 4 or photos < 0:
        raise ParameterError("--images and --few take at least 4, --photos at least 0.")
    from xbench.audit.findings import findings_markdown, findings_summary
    from xbench.audit.reproduction import reproduce as run
    from xbench.audit.reproduction import write_page

    found = run(
        images=images, few=few, photos=photos, tell=lambda text: out.print(text, markup=False)
    )
    typer.echo(findings_markdown(found))
    out.print(findings_summary(found), markup=False, soft_wrap=True)
    if page is not None:
        write_page(found, page)
        out.print(f"Written to {page}", markup=False, soft_wrap=True)
    if any(one.verdict == "DOES NOT HOLD" for one in found):
        raise typer.Exit(1)
