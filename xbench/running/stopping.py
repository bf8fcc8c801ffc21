"""Stopping in order: the first signal finishes the unit in flight, the second stops at once."""

import os
import shlex
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from xbench.errors import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def resume_command(command: Sequence[str], path: Path) -> str:
    """What to type to go on with a run.

    >>> resume_command(["xbench", "run", "--limit", "4"], Path("runs/a b"))
    "xbench run --limit 4 --out 'runs/a b' --resume"
    """
    if list(command) == ["xbench.run"]:
        return f"xbench.run(..., out={str(path)!r}, resume=True)"
    words = list(command)
    if not any(word == "--out" or word.startswith("--out=") for word in words):
        words += ["--out", str(path)]
    if "--resume" not in words:
        words.append("--resume")
    return shlex.join(words)


class Stopper:
    """Catches SIGINT (Ctrl-C) and SIGTERM (a job that has to go) while it is entered.

    After the first one, `check` raises between two units; the second one interrupts at once, and
    the signals' own handlers are back, so that a third ends even a call that never returns. Outside
    the main thread, where Python delivers no signals, it does nothing.

    Args:
        resume: the command that goes on with the run.
        tell: shows a sentence; called inside a signal handler.
    """

    def __init__(self, resume: str, tell: Callable[[str], None] | None = None) -> None:
        self._resume = resume
        self._tell = tell or _to_stderr
        self._before: dict[signal.Signals, Any] = {}
        self._caught: int | None = None

    def __enter__(self) -> "Stopper":
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._handle) for one in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            raise self._stopped("at once") from None

    def check(self) -> None:
        """Between two units.

        Raises:
            StoppedError: a signal came; the sentence holds the command that goes on.
        """
        if self._caught is not None:
            raise self._stopped("after the unit in flight")

    def _stopped(self, when: str) -> StoppedError:
        return StoppedError(
            f"Stopped {when}; everything finished is kept. Go on with: {self._resume}",
            signal=self._caught or signal.SIGINT,
        )

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._caught is not None:
            self._restore()
            raise KeyboardInterrupt
        self._caught = number
        self._tell("xbench: stopping after the unit in flight; once more stops at once.")

    def _restore(self) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}


def _to_stderr(text: str) -> None:
    os.write(2, f"\n{text}\n".encode())  # not through a buffer that the handler may interrupt
