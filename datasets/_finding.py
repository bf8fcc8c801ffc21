"""Folders and files that a source expects, or a sentence that shows the layout."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from xbench.errors import DataError

from ._images import SUFFIXES


def folder_of(text: str, kind: str, layout: str) -> Path:
    """The folder that an argument names.

    Raises:
        DataError: there is none; the message shows the expected layout.
    """
    folder = Path(text).expanduser()
    if not folder.exists():
        raise DataError(f"There is no folder '{text}'; {kind} expects {layout}.")
    if not folder.is_dir():
        raise DataError(f"'{text}' is a file; {kind} expects {layout}.")
    return folder


def part_of(root: Path, parts: Iterable[str], kind: str, layout: str) -> Path:
    """The first of these paths below the root that exists.

    Raises:
        DataError: none does; the message shows the expected layout.
    """
    names = list(parts)
    for name in names:
        if (root / name).exists():
            return root / name
    raise DataError(f"'{root}' has no {' or '.join(names)}; {kind} expects {layout}.")


def walk_images(folder: Path) -> list[Path]:
    """Every image file below a folder, by suffix, sorted by relative path; links are followed."""
    return sorted(_walk(folder), key=lambda path: path.relative_to(folder).as_posix())


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(where, name)
