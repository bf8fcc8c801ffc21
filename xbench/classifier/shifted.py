"""The same network for shifted inputs (Kindermans et al. 2017)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbench.classifier.classifier import Classifier


def shifted(model: "Classifier", offset: float) -> "Classifier":
    """A classifier g with g(x + offset) = f(x) for every image x.

    It runs the very same module; only what is subtracted from the input moves, which is the first
    layer's bias in other words. Its stated normalization stays, so that reference colors that
    methods take from there do not move along.
    """
    other = model.sibling(model.module, f"{model.name} for inputs shifted by {offset}")
    other.network.get_buffer("mean").add_(offset)
    return other
