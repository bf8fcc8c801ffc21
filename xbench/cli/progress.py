"""A live progress bar on standard error; plain lines where that is no terminal."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class LiveProgress:
    """Shows units done, what runs now, time gone and time left.

    Args:
        console: where to show it.
        quiet: show nothing.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._plain = not console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or self._plain,
        )
        self._task: TaskID | None = None
        self._total = self._done = self._kept = 0
        self._began = self._told = time.monotonic()

    def __enter__(self) -> "LiveProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, total: int, done: int) -> None:
        """Show the bar with what was finished before."""
        self._total, self._done, self._kept = total, done, done
        self._began = self._told = time.monotonic()
        self._task = self._bar.add_task("starting", total=total, completed=done)

    def step(self, what: str) -> None:
        """One unit more."""
        self._done += 1
        if self._task is not None:
            self._bar.update(self._task, advance=1, description=f"{what[:44]:<44}")
        now = time.monotonic()
        if self._plain and not self._quiet and now - self._told > 10:
            self._told = now
            fresh = max(1, self._done - self._kept)
            left = (now - self._began) / fresh * (self._total - self._done)
            self._console.print(
                f"{self._done}/{self._total} units, about {duration(left)} left ({what})",
                markup=False,
            )


def duration(seconds: float) -> str:
    """Seconds in words: 42 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
