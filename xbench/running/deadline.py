"""A time limit for one cell, which interrupts even a method that never returns."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

from xbench.errors import ParameterError, XbenchError

Result = TypeVar("Result")
REPEAT = 0.5  # seconds; code that swallows the interruption is interrupted again


class TooLongError(XbenchError):
    """A cell that took longer than it may."""


class _Interrupted(BaseException):
    """Raised inside the cell; no Exception, so that its own `except Exception` lets it pass."""


def within(seconds: float | None, work: Callable[[], Result]) -> Result:
    """What the work returns, if it does in time.

    A timer of the operating system interrupts Python code between two of its instructions: loops,
    sleeping and waiting end at once; a single call into a library (one convolution, one solver) is
    waited for. It works in the main thread alone, where Python handles signals.

    Args:
        seconds: the limit, None for none.
        work: what to do.

    Raises:
        TooLongError: it took longer.
        ParameterError: this system, or this thread, has no such timer.
    """
    if seconds is None:
        return work()
    check_limit(seconds)
    armed = True

    def ring(number: int, frame: FrameType | None) -> None:
        if armed:
            raise _Interrupted

    before = signal.signal(signal.SIGALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT)
            return work()
        finally:
            armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _Interrupted:
        raise TooLongError(
            f"It took longer than the {seconds:g} seconds that --cell-seconds allows."
        ) from None
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_limit(seconds: float) -> None:
    """Refuse a time limit that makes no sense or could not be kept.

    Raises:
        ParameterError: it is not positive, or there is no such timer here.
    """
    if not seconds > 0:
        raise ParameterError("--cell-seconds takes a number of seconds above 0.")
    if not hasattr(signal, "setitimer"):
        raise ParameterError("--cell-seconds needs a timer that this operating system lacks.")
    if threading.current_thread() is not threading.main_thread():
        raise ParameterError("--cell-seconds works in the main thread only; run it from there.")
