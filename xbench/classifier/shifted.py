"""The same network for shifted inputs (Kindermans et al., 2017)."""

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbench.classifier.classifier import Classifier


def shifted(model: "Classifier", offset: float) -> "Classifier":
    """A classifier g with g(x + offset) = f(x) for every image x.

    It runs the very same module; only the mean that the input is normalized with moves, which is
    the first layer's bias in other words.
    """
    other = model.sibling(model.module, f"{model.name} for inputs shifted by {offset}")
    mean = tuple(value + offset for value in model.normalization.mean)
    other.normalization = replace(model.normalization, mean=mean)
    other.network.get_buffer("mean").add_(offset)
    return other
