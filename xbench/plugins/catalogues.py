"""Catalogues of one's own: a folder of the same layout as the repository, or a single file."""

import importlib
from pathlib import Path
from typing import Any

from xbench.errors import XbenchError
from xbench.registry import DATASETS, LEADERBOARDS, METHODS, METRICS, Registry
from xbench.user_files import import_file, import_folder, importable

REGISTRIES: tuple[Registry[Any], ...] = (METHODS, METRICS, DATASETS, LEADERBOARDS)


def use_catalogue(path: Path) -> list[str]:
    """Import a catalogue, so that its entries are known by their names like all others.

    Args:
        path: a folder with any of methods/, metrics/, datasets/ and leaderboards/, whose files
            register their entries and may import one another relatively (files that start with an
            underscore are helpers); or one file.

    Returns:
        the names that came in, for example "method signed_square".

    Raises:
        XbenchError: nothing there, a file that fails (with the line), or a name that is taken.
    """
    for registry in REGISTRIES:
        registry.discover()
    before = {registry.kind: set(_names(registry)) for registry in REGISTRIES}
    if path.is_file():
        import_file(path)
    else:
        _import_folders(path)
    return [
        f"{registry.kind} {name}"
        for registry in REGISTRIES
        for name in _names(registry)
        if name not in before[registry.kind]
    ]


def _import_folders(path: Path) -> None:
    folders = [path / registry.plural for registry in REGISTRIES]
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        raise XbenchError(
            f"'{path}' is no catalogue; it is a file, or a folder that has any of "
            f"{', '.join(f'{folder.name}/' for folder in folders)}."
        )
    for folder in present:
        for file, name in import_folder(folder):
            with importable(path):
                try:
                    importlib.import_module(name)
                except XbenchError:
                    raise
                except Exception as error:
                    raise XbenchError(
                        f"'{file}' cannot be imported ({type(error).__name__}: {error})."
                    ) from error


def _names(registry: Registry[Any]) -> list[str]:
    return [entry.name for entry in registry.entries()]
