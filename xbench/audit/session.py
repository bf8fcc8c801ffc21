"""The audit from beginning to end: measure in worker processes, grade, write."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import torch

from xbench.audit.grading import Grade, grade
from xbench.audit.ladders import reading_ladder, steady_ladder, truth_ladder
from xbench.audit.measuring import Measured, Plan, join, measure
from xbench.audit.table import audit_json, audit_markdown, summary
from xbench.errors import RunError
from xbench.running.local import Silent

BEGIN: Final = "<!-- the table below is written by `xbench audit` -->"


class _Told(Silent):
    def __init__(self, title: str, tell: Callable[[str], None]) -> None:
        self.title, self.tell = title, tell

    def start(self, total: int, done: int) -> None:
        """Say what begins."""
        self.tell(f"{self.title}: {total} units")


def run_audit(
    plan: Plan, *, jobs: int = 2, tell: Callable[[str], None] = lambda text: None
) -> list[Grade]:
    """Measure and grade.

    Args:
        plan: how much.
        jobs: worker processes, each with one thread; 1 stays in this process.
        tell: given one line whenever a grid begins (in this process only).
    """
    if jobs == 1:
        return grade(join([measure(plan, lambda title: _Told(title, tell))]))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_one_thread) as pool:
        parts = list(pool.map(_share, [(plan, number, jobs) for number in range(jobs)]))
    return grade(join(parts))


def write_audit(grades: list[Grade], plan: Plan, verdicts: Path, page: Path | None) -> None:
    """Write the verdicts, and the table into the page, below its prose.

    Args:
        grades: one a metric.
        plan: what they were measured with.
        verdicts: the JSON file.
        page: a Markdown page; what stands above the mark `BEGIN` is kept.

    Raises:
        RunError: a file cannot be written.
    """
    facts: dict[str, Any] = {
        "images": plan.images,
        "few": plan.few,
        "seed": plan.seed,
        "panel": plan.panel,
    }
    try:
        verdicts.write_text(audit_json(grades, facts), encoding="utf-8")
        if page is not None:
            page.parent.mkdir(parents=True, exist_ok=True)
            old = page.read_text(encoding="utf-8") if page.is_file() else "# The audit of metrics\n"
            prose = old.split(BEGIN)[0].rstrip()
            page.write_text(f"{prose}\n\n{BEGIN}\n\n{audit_page(grades, plan)}", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{error.filename} cannot be written ({error.strerror}).") from error


def audit_page(grades: list[Grade], plan: Plan) -> str:
    """What was measured, how to read it, and the tables."""
    ladders = "\n".join(
        f"- *{one.name}*: {one.says}."
        for one in (truth_ladder(), reading_ladder(), steady_ladder())
    )
    return (
        f"## The table\n\n{summary(grades)}\n\n"
        f"Measured on the embedded reference network: {plan.images} planted scenes, {plan.few} for "
        f"metrics of more than {plan.cheap} model calls a map, for those that explain again and "
        f"for repetitions; seed {plan.seed}. A step is the share of images on which the metric "
        "puts the better map above the worse one (ties count one half, chance is .50), with its "
        "95 % bootstrap interval. The ladders, best rung first (localization and faithfulness "
        "stand on *truth*, randomization on *reading*, robustness on *steady*):\n\n"
        f"{ladders}\n\n"
        "*retest*: Pearson's r of all values under another seed. *halves*: Spearman of the ranks "
        "of methods on two halves of the images, mean of 50 splits. *fills*: the same under other "
        "fills. *kin*: mean Spearman with the other metrics of its property. *calls*: model calls "
        f"a map, with the gradient where it explains again. Methods ranked: `{plan.panel}`.\n\n"
        f"{audit_markdown(grades)}"
    )


def _one_thread() -> None:
    torch.set_num_threads(1)


def _share(job: tuple[Plan, int, int]) -> Measured:
    plan, number, jobs = job
    return measure(plan, lambda title: Silent(), (number, jobs))
