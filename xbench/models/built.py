"""What every kind of specification is built into, before it becomes a classifier."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from xbench.classifier import Normalization
from xbench.contracts import Geometry


@dataclass
class Built:
    """A network and what it was trained with.

    Attributes:
        module: maps normalized images to logits, weights loaded.
        normalization: None where nothing says so.
        geometry: how image files become inputs, None where nothing says so.
        class_names: by class index, empty where unknown.
        layers: layers by role, where the maker of the network names them.
        notes: what was assumed or repaired, one sentence each.
        masked_training: whether it was trained on images with parts removed, so that removal is in
            domain.
        own: whether nobody else holds the module.
    """

    module: nn.Module
    normalization: Normalization | None = None
    geometry: Geometry | None = None
    class_names: Sequence[str] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    masked_training: bool = False
    own: bool = True


def nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A hint that starts with a space and offers the nearest names, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(prefix + one for one in near)}?" if near else ""
