"""How the shipped networks are trained and examined, and the cards beside their weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import nn

from xbench.contracts import Source
from xbench.models.augment import Augment, chain, erased, later, noisy, recolored, turned
from xbench.models.fitting import Pixels, accuracy, write_atomically
from xbench.models.reference import GEOMETRY, VARIANTS
from xbench.registry import DATASETS

TWIN_SCENES: Final = "planted[count=512,split=train]"
"""What the shipped twin knows by heart."""

_HELD_OUT: Final = 1000
_EXAMS: Final = (
    "planted",
    "planted-clutter",
    "planted-small",
    "planted-faint",
    "planted-texture",
    "planted-shortcut",
    "planted-conflict",
)


@dataclass(frozen=True)
class Recipe:
    """How a shipped network is trained from scratch.

    Attributes:
        scenes: data sets by name.
        epochs: passes over them.
        augment: changes of each batch.
    """

    scenes: tuple[str, ...]
    epochs: int
    augment: Augment


RECIPES: Final = {
    "reference": Recipe(
        (
            "planted[count=5000,split=train]",
            "planted-small[count=2500,split=train]",
            "planted-faint[count=2500,split=train]",
        ),
        9,
        chain(turned, recolored, later(noisy(0.25)), later(erased(0.5))),
    ),
    # A mark that is turned or inverted would be another mark.
    "reference-shortcut": Recipe(("planted-shortcut[count=5000,split=train]",), 6, noisy(0.25)),
}


def open_scenes(name: str) -> Source:
    """Scenes by the name of their data set, for the shipped networks' input."""
    return DATASETS.create(name).value.open(GEOMETRY, limit=None, seed=0, classes=None)


def examined(network: nn.Module) -> dict[str, float]:
    """Accuracy on 1000 held-out scenes of each level; the network takes images in [0, 1]."""
    return {
        name: accuracy(network, Pixels.read(open_scenes(f"{name}[count={_HELD_OUT}]")))
        for name in _EXAMS
    }


def write_card(out: Path, variant: str, training: dict[str, Any], found: dict[str, float]) -> None:
    """Write the card of a network beside its weights."""
    card = {
        "name": variant,
        "summary": VARIANTS[variant],
        "class_names": list(open_scenes("planted").class_names),
        "training": training,
        "accuracy": {key: round(value, 4) for key, value in found.items()},
    }
    write_atomically(out.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode())
