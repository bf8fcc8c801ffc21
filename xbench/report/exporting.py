"""A finished run for other tools: files, test reports, experiment trackers."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from xbench.contracts import Board
from xbench.errors import ParameterError
from xbench.report.findings import gather
from xbench.report.junit import junit
from xbench.report.latex import latex
from xbench.report.structured import structured
from xbench.report.tracking import to_mlflow, to_wandb
from xbench.report.writing import write_all
from xbench.running.session import Run, export

_TEXTS: Mapping[str, tuple[str, Callable[[Run, Board | None], str]]] = {
    "json": ("leaderboard.json", lambda run, board: structured(gather(run, board))),
    "latex": ("leaderboard.tex", lambda run, board: latex(run.leaderboard(board), run.manifest)),
    "junit": ("junit.xml", lambda run, board: junit(run.leaderboard(board), run.manifest)),
}
_TRACKERS = {"mlflow": to_mlflow, "wandb": to_wandb}
FORMATS: Final = ("parquet", *_TEXTS, *_TRACKERS)
_SENT = ("report.html", "leaderboard.csv", "leaderboard.json", "manifest.json", "records.parquet")


def export_run(
    run: Run,
    to: str,
    *,
    out: Path | None = None,
    board: Board | None = None,
    project: str = "xbench",
) -> str:
    """Export a run.

    Args:
        run: a finished run.
        to: one of `FORMATS`.
        out: the file to write, default one of a fixed name in the run folder; not for trackers.
        board: which board, None for overall with all metrics.
        project: the experiment (MLflow) or project (Weights & Biases).

    Returns:
        where it is, for people.

    Raises:
        ParameterError: an unknown format, or a file for a tracker.
        UnsupportedError: the tracker's library is not installed.
        RunError: the file cannot be written.
    """
    if to not in FORMATS:
        raise ParameterError(f"--to takes {', '.join(FORMATS)}, not '{to}'.")
    if to in _TRACKERS:
        if out is not None:
            raise ParameterError(f"--out is for files; {to} decides itself where runs go.")
        if not (run.path / "report.html").is_file():
            write_all(run)
        files = [run.path / name for name in _SENT if (run.path / name).is_file()]
        return _TRACKERS[to](run.leaderboard(board), run.manifest, files, project)
    if to == "parquet":
        export(run)
        path = run.path / "records.parquet"
        return str(path if out is None else shutil.copyfile(path, out))
    name, make = _TEXTS[to]
    path = out or run.path / name
    run.folder.write_text(path, make(run, board))
    return str(path)
