"""Watching what a method reads besides its arguments: files, frames of its callers, image names.

Python's audit hook sees every file that is opened and every folder that is listed. It cannot be
taken away again, so there is one, and it sleeps unless somebody watches.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from xbench.streams import Streams

_LISTING: Final = ("os.listdir", "os.scandir", "glob.glob", "glob.glob/2", "os.walk", "os.fwalk")
_OBJECTS: Final = ("gc.get_objects", "gc.get_referrers", "gc.get_referents")
_CODE: Final = (".py", ".pyc", ".so", ".pth")
_SYSTEM: Final = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib")
_LOOKERS: Final = ("inspect", "traceback")
_NAMES: Final = "reads the images' names, which hold the folder of the label"


@dataclass
class Watch:
    """What was noticed, one clause a kind ("opens files while explaining (cats/1.jpg)").

    Attributes:
        found: the clauses.
        files: source files whose code is watched for looking into frames.
    """

    files: frozenset[str] = frozenset()
    found: list[str] = field(default_factory=list)

    def note(self, clause: str) -> None:
        """Keep a clause, the first of its kind."""
        if not any(known.split(" (")[0] == clause.split(" (")[0] for known in self.found):
            self.found.append(clause)


class WatchedStreams(Streams):
    """Streams that notice who asks for the names of the images."""

    watch: Watch

    def __getattribute__(self, name: str) -> Any:
        """Every attribute; `image_ids` is noted where other code than the streams' reads it."""
        if name == "image_ids":
            caller = sys._getframe(1).f_code.co_filename
            watch: Watch = object.__getattribute__(self, "watch")
            if caller in watch.files:
                watch.note(_NAMES)
        return object.__getattribute__(self, name)


def watched_streams(streams: Streams, watch: Watch) -> Streams:
    """The same streams, watched, and all that is derived from them too."""
    kind = type("_Watched", (WatchedStreams,), {"watch": watch})
    derived: Streams = kind(**vars(streams))
    return derived


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Notice files, folders and frames that are read inside the block."""
    global _watch
    _install()
    before, _watch = _watch, watch
    try:
        yield
    finally:
        _watch = before


_watch: Watch | None = None
_busy = False
_installed = False


def _install() -> None:
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    global _busy
    watch = _watch
    if watch is None or _busy:
        return
    _busy = True  # looking at frames below is an event itself
    try:
        if event == "open":
            _opened(watch, arguments[0])
        elif event in _LISTING:
            _listed(watch, arguments[0] if arguments else "")
        elif event in _OBJECTS and _from(watch):
            watch.note("searches the objects of the process (gc) for what it was not given")
        elif event == "sys._getframe" and _from(watch):
            watch.note("looks into the frames of its callers for what it was not given")
    finally:
        _busy = False


def _opened(watch: Watch, path: object) -> None:
    text = _text(path)
    if text and not _harmless(text):
        watch.note(f"opens files while explaining ({_short(text)})")


def _listed(watch: Watch, path: object) -> None:
    text = _text(path) or "."
    if not _harmless(text):
        watch.note(f"lists folders while explaining ({_short(text)})")


def _text(path: object) -> str:
    if isinstance(path, bytes):
        return path.decode(errors="replace")
    return str(path) if isinstance(path, str | Path) else ""


def _harmless(path: str) -> bool:
    """Code and what libraries read when they are first used; no data of the user's."""
    inside = any(path.startswith(folder) for folder in (sys.prefix, sys.base_prefix, *_SYSTEM))
    return inside or path.endswith(_CODE) or "torchinductor" in path


def _short(path: str) -> str:
    return "/".join(Path(path).parts[-3:]) or path


def _from(watch: Watch) -> bool:
    """Whether watched code asks, itself or through `inspect`."""
    step: FrameType | None = sys._getframe(2)
    while step is not None:
        name = step.f_globals.get("__name__", "")
        if step.f_code.co_filename in watch.files:
            return True
        if name.partition(".")[0] not in _LOOKERS:
            return False
        step = step.f_back
    return False
