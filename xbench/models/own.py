"""Networks of one's own by name: `models/NAME.py` of a catalogue, or an entry point."""

import importlib.metadata
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xbench.errors import ModelError
from xbench.models.built import Built
from xbench.models.python_file import build_called, build_python
from xbench.user_files import IN_USE, MODELS

FUNCTION = "build"
GROUP = f"xbench.{MODELS}"


def own_models() -> dict[str, Callable[[Path | None], Built]]:
    """How to build each network that can be named, from a file of weights or as it comes.

    The first catalogue in use that has the name wins, then installed packages.
    """
    found: dict[str, Callable[[Path | None], Built]] = {}
    for catalogue in IN_USE:
        for path in sorted((catalogue / MODELS).glob("[!_]*.py")):
            found.setdefault(path.stem, partial(build_python, path, FUNCTION))
    for point in importlib.metadata.entry_points(group=GROUP):
        found.setdefault(point.name, partial(_installed, point))
    return found


def _installed(point: importlib.metadata.EntryPoint, weights: Path | None) -> Built:
    try:
        call = point.load()
    except Exception as error:
        raise ModelError(
            f"The model '{point.name}' of an installed package cannot be imported "
            f"({type(error).__name__}: {error})."
        ) from error
    return build_called(call, f"{point.value} of an installed package", weights, point.name)
