"""Silent failures: maps that are constant, or the same for two classes, are no explanations."""

import torch

from xbench.contracts import Method, TruthMethod
from xbench.registry import Chosen
from xbench.running.cases import bind
from xbench.running.grid import Grid
from xbench.streams import Streams

IMAGES = 2
MOST_CALLS = 1500


def silent_failure(grid: Grid, method: Chosen[Method]) -> str | None:
    """What is wrong with a method on this model, in words, or None.

    The first images are explained for their top and their second class, with the same draws.
    Controls are left out, and methods whose probe would need more than 1500 model calls. The
    calls are not counted.
    """
    card, value = method.card, method.value
    if card.control or isinstance(value, TruthMethod):
        return None
    images = grid.source.read(range(min(IMAGES, len(grid.source)))).images.to(grid.model.device)
    with grid.model.counter.paused():
        count = len(images)
        if value.cost(grid.model.facts(images.shape)).calls * 2 * count > MOST_CALLS:
            return None
        classes = grid.model.logits(images).topk(2, dim=1).indices
        ids = [str(i) for i in range(count)]
        streams = Streams(grid.seed, ids * 2, method.identity)
        twice = images.repeat(2, 1, 1, 1)
        targets = classes.T.flatten()
        maps = bind(value, grid.model, twice, targets, streams)(twice)
    flat = maps.flatten(1)
    if bool((flat.amax(dim=1) == flat.amin(dim=1)).all()):
        return f"gives a constant map on the first {count} images and their top two classes"
    first, second = flat[:count], flat[count:]
    if not card.class_agnostic and torch.equal(first, second):
        return "gives the same map for two classes, so it does not look at the class"
    return None
