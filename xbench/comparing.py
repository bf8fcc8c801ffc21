"""A new method beside the baselines: checked first, run under equal limits, then judged."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from xbench.conformance import check
from xbench.contracts import Board, Method
from xbench.errors import XbenchError
from xbench.honesty import cheats
from xbench.plugins.loading import anew, as_class, enter, load_method
from xbench.records import Store
from xbench.registry import LEADERBOARDS, METHODS, Chosen
from xbench.report import write_all
from xbench.report.versus import latex_table, markdown_page
from xbench.reusing import reuse_records
from xbench.running.folder import RunFolder
from xbench.running.grid import Grid
from xbench.running.local import Progress
from xbench.running.session import Run, Settings, make_grid, run_made
from xbench.statistics.versus import Versus, compare_with

BASELINES: Final = (
    "gradient,input_x_gradient,integrated_gradients[n_steps=20],smoothgrad[n_samples=10],"
    "guided_backprop,deeplift,lrp_epsilon_plus,gradcam,layercam,xgradcam,fullgrad,"
    "occlusion[stride=8,window=16]"
)
CONTROLS: Final = "random,random_smooth,center_prior,edges,intensity,oracle"
METRICS: Final = (
    "deletion,deletion_blur,insertion,road,noise_stability[draws=2],pointing_game,rank_accuracy,"
    "cascading_randomization[depths=3],label_randomization,class_sensitivity,sparseness"
)
CHECKED: Final = 3
"""Images on which the method is checked before anything runs."""


class MisconductError(XbenchError):
    """A method that does not conform or cheats.

    Attributes:
        findings: what was found, one sentence each.
    """

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__(" ".join(findings))
        self.findings = list(findings)


@dataclass(frozen=True)
class Compared:
    """A finished comparison.

    Attributes:
        run: the run folder, with everything that a run has and `comparison.md`, `.json`, `.tex`.
        versus: the judgment.
        findings: what the checks found, where it was run in spite of them.
        reused: units of work whose records came from an earlier run.
    """

    run: Run
    versus: Versus
    findings: tuple[str, ...]
    reused: int


def compare(  # noqa: PLR0913 - what a comparison is takes this many words
    method: Any,
    settings: Settings,
    *,
    baselines: str = "default",
    reuse: Path | None = None,
    board: str = "overall",
    force: bool = False,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Compared:
    """Check a new method, run it beside baselines under equal limits, and judge it.

    Args:
        method: `PATH.py:NAME`, the name of a method, a function `(model, images, targets) ->
            maps`, a method class, or an object of captum or grad-cam.
        settings: model, data, metrics ("compare" for a set that takes minutes), limits; its
            `methods` are replaced.
        baselines: names, globs, `all`, or `default` for twelve known methods.
        reuse: a run folder or published board whose records of baselines are taken over.
        board: what is ranked and gated.
        force: run it although the checks found something.
        progress: told after every unit.
        tell: told what happens, one sentence each.

    Raises:
        MisconductError: the checks found something.
        XbenchError: one clear sentence about what else is wrong.
    """
    names = BASELINES if baselines == "default" else baselines
    metrics = METRICS if settings.metrics == "compare" else settings.metrics
    kind = None if _known(method) else _kind(method)
    grid = make_grid(replace(settings, methods=f"{names},{CONTROLS}", metrics=metrics))
    images = grid.source.read(range(min(CHECKED, len(grid.source)))).images.to(grid.model.device)
    chosen = METHODS.create(method) if kind is None else enter(kind, grid.model, images)
    chosen = grid.reading.pooled(chosen)
    findings = _findings(chosen, grid, images, method)
    if findings and not force:
        raise MisconductError(findings)
    tell(f"{chosen.label} was checked on {len(images)} images: {' '.join(findings) or 'in order.'}")
    others = [one for one in grid.methods if one.identity != chosen.identity]
    grid = replace(grid, methods=[chosen, *others])
    run, reused = _execute(grid, settings, reuse, progress, tell)
    write_all(run)
    judged = compare_with(
        run.records, run.manifest, chosen.label, board=_board(board), baselines=_explainers(others)
    )
    write_comparison(run, judged)
    return Compared(run, judged, tuple(findings), reused)


def write_comparison(run: Run, found: Versus) -> None:
    """Write comparison.md, comparison.json and comparison.tex into a run folder."""
    manifest = run.manifest
    texts = {
        "comparison.md": markdown_page(found, manifest),
        "comparison.json": json.dumps(found.data(), indent=1) + "\n",
        "comparison.tex": latex_table(found, manifest),
    }
    for name, text in texts.items():
        run.folder.write_text(run.path / name, text)


def examine_method(chosen: Chosen[Method], model: Any, images: Tensor, source: Any) -> list[str]:
    """Conformance and honesty of a method, one sentence each.

    Args:
        chosen: the method.
        model: the classifier.
        images: at least two, on its device.
        source: where the method came from; a `PATH.py:NAME` is imported anew for some checks.
    """
    own = isinstance(source, str) and ".py" in source
    fresh = (lambda: anew(source, chosen.value)) if own else None
    found = [*check(chosen, model, images), *cheats(chosen, model, images, fresh)]
    return list(dict.fromkeys(found))


def _findings(chosen: Chosen[Method], grid: Grid, images: Tensor, source: Any) -> list[str]:
    refusal = chosen.value.supports(grid.model)
    if refusal is not None:
        raise XbenchError(f"The method '{chosen.label}' cannot run on this model: {refusal}")
    return examine_method(chosen, grid.model, images, source)


def _execute(
    grid: Grid,
    settings: Settings,
    reuse: Path | None,
    progress: Progress | None,
    tell: Callable[[str], None],
) -> tuple[Run, int]:
    taken: list[int] = []

    def before(store: Store, folder: RunFolder) -> None:
        if reuse is not None:
            taken.append(reuse_records(store, grid, folder, reuse))
            tell(f"{taken[0]} units of work are taken over from {reuse}.")

    run = run_made(
        grid,
        settings,
        progress=progress,
        started=lambda path: tell(f"Writing to {path}"),
        notice=tell,
        before=before,
    )
    return run, sum(taken)


def _known(method: Any) -> bool:
    return isinstance(method, str) and ".py" not in method


def _kind(method: Any) -> type[Method]:
    return load_method(method) if isinstance(method, str) else as_class(method)


def _board(name: str) -> Board | None:
    return None if name == "overall" else LEADERBOARDS.create(name).value


def _explainers(others: Sequence[Chosen[Method]]) -> list[str]:
    return [one.label for one in others if not one.card.control]
