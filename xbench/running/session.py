"""From what a user asks for to a finished run folder."""

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from xbench.checked_store import open_checked
from xbench.clocks import CLOCKS
from xbench.contracts import Board
from xbench.errors import RunError
from xbench.files import replacing
from xbench.records import Store, read_frame
from xbench.registry import LEADERBOARDS
from xbench.running.deciding import Decider
from xbench.running.folder import RunFolder, identity_of
from xbench.running.grid import Grid
from xbench.running.local import Progress, Tally
from xbench.running.lock import RunLock
from xbench.running.making import LEADERS as LEADERS
from xbench.running.making import MAX_CALLS as MAX_CALLS
from xbench.running.making import MAX_MAP_CALLS as MAX_MAP_CALLS
from xbench.running.making import Settings as Settings
from xbench.running.making import engine
from xbench.running.making import make_grid as make_grid
from xbench.running.manifest import build
from xbench.running.maps import MapCache
from xbench.running.stopping import Stopper, resume_command
from xbench.running.timing import write_timing
from xbench.statistics.advice import Recommendation
from xbench.statistics.leaderboard import Leaderboard, build_leaderboard
from xbench.statistics.recommendation import recommend
from xbench.statistics.sequential import decision_sentence


@dataclass(frozen=True)
class Run:
    """A finished (or interrupted) run.

    Attributes:
        path: the run folder.
        tally: what this call computed, kept and failed; None for a run that was only opened.
    """

    path: Path
    tally: Tally | None = None

    @property
    def folder(self) -> RunFolder:
        """The files of the run."""
        return RunFolder(self.path)

    @property
    def manifest(self) -> dict[str, Any]:
        """Cards, versions, hashes, seed and command line."""
        return self.folder.manifest()

    @property
    def records(self) -> pd.DataFrame:
        """One typed row per image x method x metric, see `xbench.records.Record`."""
        return read_frame(self.folder.store_path)

    @property
    def curves(self) -> pd.DataFrame:
        """All curves: image_id, method, metric, repetition, name, points."""
        with closing(Store(self.folder.store_path, readonly=True)) as store:
            return store.curves()

    def leaderboard(self, board: Board | None = None) -> Leaderboard:
        """Methods by mean rank, with intervals and gates, on a board (default: overall)."""
        return build_leaderboard(self.records, self.manifest, board)

    def recommend(self, use: str = "general") -> Recommendation:
        """Which method to use, which never, and how firm that is.

        Args:
            use: a board by name, for example `debugging`; see `xbench leaderboards`.

        Raises:
            UnknownNameError: there is no such board.
        """
        return recommend(self.records, self.manifest, LEADERBOARDS.create(use).value)

    def _repr_html_(self) -> str:
        """The leaderboard with the path of the report, for notebooks."""
        return f"{self.leaderboard()._repr_html_()}<p>{escape(str(self.path))}</p>"


def open_run(path: Path | str) -> Run:
    """A run folder that is there already.

    Args:
        path: of the folder that `xbench run` (or `xbench.run`) wrote.

    Returns:
        the run; its records are read when they are asked for.

    Raises:
        RunError: it is no run folder.
    """
    run = Run(Path(path))
    run.folder.manifest()
    return run


def run_grid(
    settings: Settings,
    *,
    progress: Progress | None = None,
    started: Callable[[Path], None] = lambda path: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Run:
    """Run a grid into a folder.

    SIGINT and SIGTERM end it after the unit in flight, a second one at once.

    Args:
        settings: what to do.
        progress: told after every unit.
        started: told the folder before the first unit.
        notice: given a sentence for every file that was damaged and set aside, for every method
            that does not fit a budget, and for what was decided.

    Raises:
        XbenchError: one clear sentence about what is wrong.
    """
    return run_made(
        make_grid(settings), settings, progress=progress, started=started, notice=notice
    )


def run_made(
    grid: Grid,
    settings: Settings,
    *,
    progress: Progress | None = None,
    started: Callable[[Path], None] = lambda path: None,
    notice: Callable[[str], None] = lambda text: None,
    before: Callable[[Store, RunFolder], None] = lambda store, folder: None,
) -> Run:
    """Run a grid that is made already into a folder, see `run_grid`.

    Args:
        grid: what to do.
        settings: where, whether to resume, and what to write into the manifest.
        progress, started, notice: as in `run_grid`.
        before: given the open store before the first unit, to put in records that are known.

    Raises:
        XbenchError: one clear sentence about what is wrong.
    """
    path = settings.out or new_folder(grid)
    folder = RunFolder(path)
    folder.create()
    log = _Log(path / "errors.log")

    def tell(text: str) -> None:
        log(text)
        notice(text)

    manifest = build(grid, settings.command, settings.request())
    decider = Decider(grid, manifest, settings.leaders) if settings.until_decided else None
    with RunLock(path):
        folder.prepare(manifest, resume=settings.resume, tell=tell)
        started(path)
        for sentence in () if grid.budgets is None else grid.budgets.sentences:
            notice(sentence)
        with (
            closing(open_checked(folder.store_path, identity_of(manifest), tell)) as store,
            Stopper(resume_command(settings.command, path)) as stopper,
        ):
            before(store, folder)
            cache = MapCache(folder.maps_path, tell)
            work = engine(settings, grid, cache)
            if decider is not None:
                work = partial(work, settled=decider.judge)
            spent, start = CLOCKS.read(), time.perf_counter()
            tally = work(grid, store, cache, progress=progress, log=log, check=stopper.check)
            tally.timing.wall = time.perf_counter() - start
            tally.timing.disk = CLOCKS.since(spent)["disk"]
            write_timing(folder, tally.timing)
        if decider is not None:
            decision = decider.row()
            folder.write_json(folder.manifest_path, {**folder.manifest(), "decision": decision})
            notice(decision_sentence(decision))
    return Run(path, tally)


def new_folder(grid: Grid) -> Path:
    """A new folder under runs/, named by model, data and time."""
    words = f"{grid.model.name}-{grid.source.name}"
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in words).strip("-")[:60]
    path = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    while path.exists():
        time.sleep(1)
        path = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}"
    return path


def export(run: Run) -> None:
    """Write the tables of a run: records.parquet, leaderboard.csv, leaderboard.md.

    Raises:
        RunError: the folder cannot be written.
    """
    target = run.path / "records.parquet"
    try:
        with replacing(target) as temporary:
            run.records.to_parquet(temporary, index=False, compression="zstd")
    except OSError as error:
        raise RunError(
            f"{target} cannot be written ({error.strerror or error}); the records are kept in "
            f"{run.folder.store_path.name}."
        ) from error


def command_text(command: Sequence[str]) -> str:
    """The command line as one would type it."""
    return shlex.join(command)


class _Log:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, text: str) -> None:
        with suppress(OSError), self.path.open("a", encoding="utf-8") as handle:
            handle.write(text + "\n")  # a full disk is told by what writes the records
