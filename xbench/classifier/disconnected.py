"""A classifier of mosaics whose cells cannot influence each other's logits."""

import torch
from torch import Tensor, fx, nn

from xbench.classifier.batching import BatchSizes
from xbench.classifier.classifier import Classifier
from xbench.classifier.layers import Layer
from xbench.classifier.tail import build_tail
from xbench.errors import UnsupportedError
from xbench.operations.mosaics import tile, untile


class DisconnectedGrid(nn.Module):
    """n x n copies of a network, each seeing one cell: logits (N, n * n * K), cell by cell.

    The feature maps of all cells are joined to one in the module `joined`, so that methods that
    work on feature maps see the whole mosaic, and taken apart again behind it.

    Args:
        front: pixels to feature maps, or to logits where there are no feature maps.
        tail: feature maps to logits; identity where there are none.
        n: cells a side.
    """

    def __init__(self, front: nn.Module, tail: nn.Module | None, n: int) -> None:
        super().__init__()
        self.front = front
        self.joined = nn.Identity()
        self.tail = tail
        self.n = n

    def forward(self, images: Tensor) -> Tensor:
        """Logits of mosaics (N, C, n H, n W)."""
        count = images.shape[0]
        found = self.front(untile(images, self.n).flatten(0, 1))
        if self.tail is not None:
            whole = self.joined(tile(found.unflatten(0, (count, self.n**2))))
            found = self.tail(untile(whole, self.n).flatten(0, 1))
        logits: Tensor = found.reshape(count, -1)
        return logits


def disconnect(model: Classifier, images: Tensor, n: int) -> Classifier:
    """The classifier of mosaics built of a model, sharing its weights.

    Cell k's logit of class c stands at k * K + c.

    Args:
        model: the classifier of single images.
        images: any images of the size of a cell, (N, C, H, W).
        n: cells a side.

    Raises:
        UnsupportedError: the network has feature maps but cannot be cut behind them.
    """
    layer = model.find_layer("last_conv", images)
    if layer is None:
        grid = DisconnectedGrid(model.module, None, n)
    else:
        with model.counter.paused():
            sample = (images[:1] - model.network.get_buffer("mean")) / model.network.get_buffer(
                "std"
            )
            front, tail = _front(model.module, layer, sample), None
            if front is not None:
                tail = build_tail(model.module, layer.name, sample)
        if front is None or tail is None:
            raise UnsupportedError(
                "The network cannot be cut behind its last convolution, so its mosaic cannot be "
                "taken apart; DiFull needs a network that torch.fx can trace."
            )
        grid = DisconnectedGrid(front, tail, n)
    other = model.sibling(grid.eval(), f"{model.name}, disconnected")
    other.roles = {} if layer is None else {"last_conv": "joined"}
    other._sizes = BatchSizes(model.batch_size, model.device)
    return other


def _front(module: nn.Module, layer: Layer, sample: Tensor) -> nn.Module | None:
    """The network up to a layer's output (N, C, h, w), or None if it cannot be traced."""
    if layer.layout != "nchw" or layer.calls != 1:
        return None
    try:
        stop = module.get_submodule(layer.name)
        graph = _Leaf(stop).trace(module)
    except Exception:
        return None
    (call,) = [
        node for node in graph.nodes if node.op == "call_module" and node.target == layer.name
    ]
    needed, stack = {call}, [call]
    while stack:
        for node in stack.pop().all_input_nodes:
            if node not in needed:
                needed.add(node)
                stack.append(node)
    kept, mapping = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node in needed:
            mapping[node] = kept.node_copy(node, lambda n: mapping[n])
    kept.output(mapping[call])
    front = fx.GraphModule(module, kept).eval()
    with torch.no_grad():
        fits = front(sample).shape[1:] == torch.Size(layer.shape)
    return front if fits else None


class _Leaf(fx.Tracer):
    def __init__(self, stop: nn.Module) -> None:
        super().__init__()
        self.stop = stop

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is self.stop or super().is_leaf_module(m, module_qualified_name)
