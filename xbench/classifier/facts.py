"""What cost formulas may use of a network."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xbench.cost import Facts
from xbench.errors import ModelError

if TYPE_CHECKING:
    from xbench.classifier.classifier import Classifier


def facts_of(model: "Classifier", shape: Sequence[int]) -> Facts:
    """Height, width, classes, layers (that have weights), and channels and tail of a layer.

    Of `last_conv`, or another layer by `at`: its channels, and whether the network can be cut
    behind it (tail).

    Args:
        model: the classifier.
        shape: of its images, (..., C, H, W).
    """
    sample = torch.zeros(1, *shape[-3:], device=model.device)
    read = partial(_of_layer, model, sample)
    with model.counter.paused():
        layers, classes = model.layer_count(sample), model.classes(sample)
    facts = {"layers": layers, "height": shape[-2], "width": shape[-1], "classes": classes}
    return Facts({**facts, **read("last_conv")}, read)


def _of_layer(model: "Classifier", sample: Tensor, role: str) -> dict[str, object]:
    with model.counter.paused(), suppress(*(() if role == "last_conv" else (ModelError,))):
        if layer := model.find_layer(role, sample):
            return {"channels": layer.channels, "tail": model.can_cut(layer, sample)}
    return {"channels": 0, "tail": False}
