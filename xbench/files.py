"""Files that are whole or not there: written beside, synced, renamed; damaged ones set aside."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; after the block it is synced and takes the place of `path`.

    A kill at any moment leaves the old file or the new one. After an exception nothing of the new
    one is left.

    Args:
        path: the file to write.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_leftover(path: Path) -> bool:
    """Whether a file is a temporary one that `replacing` could not finish."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes were writing; call it only while nobody else writes there."""
    for path in folder.glob(f".*{_SUFFIX}") if folder.is_dir() else ():
        path.unlink(missing_ok=True)


def set_aside(path: Path, word: str) -> Path:
    """Rename a damaged file, so that nobody reads it again and nothing is lost.

    Args:
        path: the file.
        word: what is wrong with it, the end of its new name: `torn` or `foreign`.

    Returns:
        Its new path; files of that name from before are kept.
    """
    target, number = path.with_name(f"{path.name}.{word}"), 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.{word}-{number}")
    path.rename(target)
    return target
