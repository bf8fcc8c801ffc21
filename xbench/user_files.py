"""Python files and catalogues of the user's own: imported by path, kept apart by a hash of it."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from xbench.errors import XbenchError

ENTRIES = ("methods", "metrics", "datasets", "leaderboards", "probes")
"""Folders of a catalogue whose files register their entries."""
MODELS = "models"
"""Its folder of networks, a file each; they are built when they are named."""
IN_USE: list[Path] = []
"""Catalogues that this process was given, in order; a worker is given them too."""


def import_file(path: Path, error: type[XbenchError] = XbenchError) -> ModuleType:
    """Import a Python file under a name of its own; its folder is importable while it runs.

    Args:
        path: the file.
        error: what to raise.

    Raises:
        error: there is no such file, or it fails; one sentence. Other interruptions pass.
    """
    if not path.is_file():
        raise error(f"There is no file '{path}'; write PATH.py:NAME.")
    name = f"_xbench_user_{path.stem}_{_digest(path)}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise error(f"'{path}' is no Python file; its name has to end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with importable(path.parent):
        try:
            spec.loader.exec_module(module)
        except XbenchError:
            del sys.modules[name]
            raise
        except BaseException as cause:
            del sys.modules[name]
            if not isinstance(cause, Exception):
                raise
            raise error(f"'{path}' cannot be imported ({_where(cause, path)}).") from cause
    return module


def import_folder(folder: Path) -> list[tuple[str, str]]:
    """A folder made a package, so that its files may import one another relatively.

    Returns:
        The file and the dotted name of every module in it that has no leading underscore, ready
        for `importlib.import_module`.
    """
    package = f"_xbench_user_{folder.name}_{_digest(folder)}"
    if package not in sys.modules:
        module = ModuleType(package)
        module.__path__ = [str(folder.resolve())]
        sys.modules[package] = module
    files = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    return [(str(path), f"{package}.{path.stem}") for path in files]


def import_catalogue(path: Path) -> None:
    """Import a folder of the repository's layout, or one file, and remember it for workers.

    Args:
        path: a folder with any of `ENTRIES` and `MODELS`; or one file. Files that start with an
            underscore are helpers; the others register their entries.

    Raises:
        XbenchError: nothing there, a file that fails, or a name that is taken.
    """
    path = path.expanduser().resolve()
    if path.is_file():
        import_file(path)
    else:
        folders = [path / name for name in (*ENTRIES, MODELS)]
        if not any(folder.is_dir() for folder in folders):
            raise XbenchError(
                f"'{path}' is no catalogue; it is a file, or a folder that has any of "
                f"{', '.join(f'{folder.name}/' for folder in folders)}."
            )
        for file, name in (pair for folder in folders[:-1] for pair in import_folder(folder)):
            with importable(path):
                try:
                    importlib.import_module(name)
                except XbenchError:
                    raise
                except Exception as error:
                    raise XbenchError(
                        f"'{file}' cannot be imported ({type(error).__name__}: {error})."
                    ) from error
    if path not in IN_USE:
        IN_USE.append(path)


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """A folder at the front of the import path, for as long as a user's file runs."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]


def _where(cause: BaseException, path: Path) -> str:
    """The exception with the line of the user's file that it came from."""
    line = getattr(cause, "lineno", None) if isinstance(cause, SyntaxError) else None
    step = cause.__traceback__
    while step is not None and line is None:
        if step.tb_frame.f_code.co_filename == str(path):
            line = step.tb_lineno
        step = step.tb_next
    place = "" if line is None else f", line {line}"
    return f"{type(cause).__name__}: {cause}{place}"
