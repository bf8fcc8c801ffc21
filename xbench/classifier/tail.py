"""The network from one layer on, as a module of its own, so that such work starts AT the layer."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from xbench.classifier.layers import Layer
from xbench.classifier.precision import casting
from xbench.clocks import CLOCKS

if TYPE_CHECKING:
    from xbench.classifier.classifier import Classifier


class _Tracer(fx.Tracer):
    def __init__(self, stop: nn.Module) -> None:
        super().__init__()
        self.stop = stop

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m is self.stop or super().is_leaf_module(m, module_qualified_name)


def build_tail(module: nn.Module, name: str, sample: Tensor) -> nn.Module | None:
    """A module that maps the output of layer `name` to the logits, or None if there is none.

    There is none where the network cannot be traced symbolically, where the layer runs more than
    once, or where the input reaches the logits around it. The result is compared with the whole
    network on `sample` before it is trusted.
    """
    try:
        stop = module.get_submodule(name)
        graph = _Tracer(stop).trace(module)
    except Exception:
        return None
    calls = [n for n in graph.nodes if n.op == "call_module" and n.target == name]
    if len(calls) != 1:
        return None
    tail = _cut(module, graph, calls[0])
    return tail if tail is not None and _agrees(module, tail, stop, sample) else None


def _cut(module: nn.Module, graph: fx.Graph, start: fx.Node) -> nn.Module | None:
    output = next(n for n in graph.nodes if n.op == "output")
    needed: set[fx.Node] = set()
    stack = [output]
    while stack:
        node = stack.pop()
        if node in needed or node is start:
            continue
        if node.op == "placeholder":
            return None
        needed.add(node)
        stack.extend(node.all_input_nodes)
    new = fx.Graph()
    mapping: dict[fx.Node, fx.Node] = {start: new.placeholder("activations")}
    for node in graph.nodes:
        if node in needed and node.op != "output":
            mapping[node] = new.node_copy(node, lambda n: mapping[n])
    new.output(fx.map_arg(output.args[0], lambda n: mapping[n]))
    tail = fx.GraphModule(module, new)
    return tail.eval()


@torch.no_grad()
def _agrees(module: nn.Module, tail: nn.Module, stop: nn.Module, sample: Tensor) -> bool:
    kept: list[Tensor] = []

    def hook(_: nn.Module, __: Any, output: Tensor) -> None:
        kept.append(output.clone())

    handle = stop.register_forward_hook(hook)
    try:
        whole = module(sample)
    finally:
        handle.remove()
    try:
        return bool(torch.allclose(tail(kept[0]), whole, rtol=1e-4, atol=1e-5))
    except Exception:
        return False


def tail_rows(
    model: "Classifier",
    tail: nn.Module | None,
    layer: Layer,
    images: Tensor,
    owner: Tensor,
    build: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Logits of rows that differ from an image only from a layer on; see `Classifier.tail_rows`.

    Args:
        model: the classifier.
        tail: what follows the layer, None to run the whole network for every row.
        layer, images, owner, build: as there.
    """
    raw = None
    if tail is not None:

        def first(index: Tensor) -> Tensor:
            with model.captured(layer) as kept:
                model.network(images[index])
            return kept[-1]

        raw = torch.cat(list(model.in_batches("forward", images.shape[0], images, first)))

    def work(index: Tensor) -> Tensor:
        if tail is None or raw is None:
            with model.captured(layer, partial(build, index)):
                return model.network(images[owner[index]]).float()
        model.counter.tails += len(index)
        changed = build(index, raw[owner[index]])
        with CLOCKS.spent("tails"), casting(model.network.precision, changed.device.type):
            logits: Tensor = tail(changed)
        return logits.float()

    like = images if raw is None else raw
    return torch.cat(list(model.in_batches("forward", len(owner), like, work, tail)))
