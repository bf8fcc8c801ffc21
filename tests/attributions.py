"""What the tests of path methods share."""

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Complete, check_maps
from xbench.registry import METHODS
from xbench.streams import Streams

TARGETS = torch.tensor([1, 4, 0])


def explain(name: str, model: Classifier, images: Tensor, streams: Streams) -> Tensor:
    chosen = METHODS.create(name)
    targets = TARGETS[: len(images)]
    maps = chosen.value.explain(model, images, targets, streams=streams)
    return check_maps(maps, images, chosen.label)


def residual(name: str, model: Classifier, images: Tensor, streams: Streams) -> Tensor:
    method = METHODS.create(name).value
    assert isinstance(method, Complete)
    targets = TARGETS[: len(images)]
    maps = method.explain(model, images, targets, streams=streams)
    return method.residual(model, images, targets, maps, streams=streams)


def correlation(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])
