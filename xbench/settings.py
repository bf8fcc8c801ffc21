"""The parameters that a map was made with, exported beside it."""

import json
import pickle
from pathlib import Path

from xbench import __version__
from xbench.contracts import Method
from xbench.registry import Chosen


def describe(method: Chosen[Method]) -> dict[str, object]:
    """What made a map: names, every parameter, paper and version; plain values only."""
    return {
        "method": method.label,
        "identity": method.identity,
        "parameters": method.value.settings(),
        "summary": method.card.summary,
        "paper": method.card.paper,
        "xbench": __version__,
    }


def write_settings(path: Path, method: Chosen[Method], *, pickled: bool = False) -> list[Path]:
    """Write the parameters of a method beside its map.

    Args:
        path: the map's file; its suffix is replaced by `.json` (and `.pkl`).
        method: as the registry gives it.
        pickled: also write a pickle of the same dictionary, for tools that want one. Nothing in
            this package reads a pickle, and a pickle from somebody else should not be read.

    Returns:
        The files written.
    """
    content = describe(method)
    written = [path.with_suffix(".json")]
    written[0].write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    if pickled:
        written.append(path.with_suffix(".pkl"))
        written[1].write_bytes(pickle.dumps(content))
    return written
