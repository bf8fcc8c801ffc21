"""Catalogues of one's own: a folder of the same layout as the repository, or a single file."""

from pathlib import Path
from typing import Any

from xbench.errors import XbenchError
from xbench.models.own import own_models
from xbench.models.reference import VARIANTS
from xbench.probes.contract import PROBES
from xbench.registry import DATASETS, LEADERBOARDS, METHODS, METRICS, Registry
from xbench.user_files import import_catalogue

REGISTRIES: tuple[Registry[Any], ...] = (METHODS, METRICS, DATASETS, LEADERBOARDS, PROBES)


def use_catalogue(path: Path) -> list[str]:
    """Import a catalogue, so that its entries are known by their names like all others.

    Args:
        path: a folder with any of methods/, metrics/, datasets/, leaderboards/ and probes/, whose
            files register their entries and may import one another relatively (files that start
            with an underscore are helpers), and models/, where `NAME.py` has a function `build`
            that returns the network of `--model NAME`; or one file.

    Returns:
        the names that came in, for example "method signed_square".

    Raises:
        XbenchError: nothing there, a file that fails (with the line), or a name that is taken.
    """
    for registry in REGISTRIES:
        registry.discover()
    before = set(_names())
    import_catalogue(path)
    for name in own_models():
        if name in VARIANTS:
            raise XbenchError(f"There is a model '{name}' already; rename models/{name}.py.")
    return [name for name in _names() if name not in before]


def _names() -> list[str]:
    found = [f"{registry.kind} {entry.name}" for registry in REGISTRIES for entry in registry]
    return found + [f"model {name}" for name in own_models()]
