"""Batch normalizations folded into the convolutions before them, for calls that nobody watches.

In evaluation mode a normalization behind a convolution is an affine map of its output, so both are
one convolution: the same logits and gradients to rounding, with less memory to pass through.
"""

from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules import module as hooks
from torch.nn.utils.fusion import fuse_conv_bn_weights

from xbench.classifier.packing import PackedConv2d, can_pack

_GLOBAL = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")
_OWN = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Folded:
    """A network without its batch normalizations.

    All other modules are the network's own; only the folded convolutions hold weights, which are
    renewed when those of the network change.

    Args:
        module: the network, in evaluation mode.
        graph: of the network, without the folded normalizations.
        pairs: the names of a convolution and of its normalization, and what stands for both.
    """

    def __init__(
        self,
        module: nn.Module,
        graph: fx.GraphModule,
        pairs: list[tuple[str, str, nn.Conv2d]],
    ) -> None:
        self._module = module
        self._graph = graph
        self._names = pairs
        parts = dict(module.named_modules())
        self._pairs = [(parts[first], parts[second], both) for first, second, both in pairs]
        self._tables = [
            (convolution._parameters, norm._parameters, norm._buffers)
            for convolution, norm, _ in self._pairs
        ]
        self._norms = [vars(norm) for _, norm, _ in self._pairs]
        self._watch = Watch(module)
        self._states: list[list[tuple[int, int]]] = [[] for _ in pairs]

    def get(self) -> nn.Module | None:
        """The folded network, None while the network is watched, trained or otherwise built."""
        if not self._watch.is_quiet() or any(norm["training"] for norm in self._norms):
            return None
        for place, tables in enumerate(self._tables):
            state = []
            for table in tables:
                for tensor in table.values():
                    if tensor is not None:
                        if tensor.requires_grad:
                            return None
                        state.append((tensor.data_ptr(), tensor._version))
            if state != self._states[place]:
                self._renew(*self._pairs[place])
                self._states[place] = state
        return self._graph

    def twin(self, module: nn.Module) -> "Folded":
        """The same for a copy of the network, whatever its weights; spares another trace."""
        pairs = []
        for first, second, both in self._names:
            other = _like(attrgetter(first)(module), isinstance(both, PackedConv2d))
            if isinstance(other, PackedConv2d) and isinstance(both, PackedConv2d):
                other.activation = both.activation
            pairs.append((first, second, other))
        graph = self._graph.graph
        targets = {str(n.target) for n in graph.nodes if n.op in ("call_module", "get_attr")}
        parts = {name: attrgetter(name)(module) for name in targets}
        parts.update({first: other for first, _, other in pairs})
        return Folded(module, _graph_module(parts, graph), pairs)

    @staticmethod
    @torch.no_grad()
    def _renew(convolution: nn.Module, norm: nn.Module, both: nn.Conv2d) -> None:
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        assert both.bias is not None
        both.weight.copy_(weight)
        both.bias.copy_(bias)
        if isinstance(both, PackedConv2d):
            both.renewed()


class Watch:
    """Tells at every call, in microseconds, whether a network is as it was and no hook listens.

    Args:
        module: the network as it is meant to be.
    """

    def __init__(self, module: nn.Module) -> None:
        parts = list(module.modules())
        self._children = [(part._modules, list(part._modules.values())) for part in parts]
        self._attributes = [(vars(part), vars(part).get("forward")) for part in parts]
        self._hooks = [[vars(part)[name] for part in parts] for name in _OWN]

    def is_quiet(self) -> bool:
        """Whether all parts are in their places, with their own forward, and nobody listens."""
        if any(getattr(hooks, name) for name in _GLOBAL) or any(map(any, self._hooks)):
            return False
        return (
            all(list(table.values()) == parts for table, parts in self._children)
            and all(own.get("forward") is forward for own, forward in self._attributes)
            and all(
                own[name] is table
                for name, tables in zip(_OWN, self._hooks, strict=True)
                for (own, _), table in zip(self._attributes, tables, strict=True)
            )
        )


def is_watched(module: nn.Module) -> bool:
    """Whether a hook listens to any part of a network."""
    return any(getattr(hooks, name) for name in _GLOBAL) or any(
        getattr(child, name) for child in module.modules() for name in _OWN
    )


def fold(module: nn.Module, sample: Tensor, *, pack: bool = True) -> Folded | None:
    """The folded network, None where there is nothing to fold or it does not agree.

    Args:
        module: the network, in evaluation mode, with nobody watching it.
        sample: an input on which both must agree, normalized, (1, C, H, W).
        pack: keep the folded weights in the order in memory that convolutions on a CPU want.
    """
    folded = _fold(module, pack)
    network = None if folded is None else folded.get()
    if network is None:
        return None
    try:
        with torch.no_grad():
            expected, found = module(sample), network(sample)
    except Exception:
        return None
    if not (isinstance(expected, Tensor) and isinstance(found, Tensor)):
        return None
    scale = float(expected.abs().amax().clamp(min=1e-6))
    return folded if float((expected - found).abs().amax()) < 1e-3 * scale else None


def _fold(module: nn.Module, pack: bool) -> Folded | None:
    if not any(isinstance(child, nn.BatchNorm2d) for child in module.modules()):
        return None
    try:
        graph = fx.symbolic_trace(module)
    except Exception:  # control flow that depends on values, and whatever a user's code does
        return None
    named = dict(module.named_modules())
    calls: dict[str, int] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module":
            calls[node.target] = calls.get(node.target, 0) + 1
    pairs = []
    for node in list(graph.graph.nodes):
        found = _pair(node, named, calls)
        if found is not None:
            before, convolution = found
            both = _like(convolution, pack)
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)
            graph.set_submodule(str(before.target), both)
            pairs.append((str(before.target), str(node.target), both))
    if not pairs:
        return None
    _take_activations(graph, named)
    graph.delete_all_unused_submodules()
    graph.recompile()
    graph.graph.owning_module = None  # a cycle would keep all weights until the next collection
    return Folded(module, graph.eval(), pairs)


def _graph_module(parts: dict[str, Any], graph: fx.Graph) -> fx.GraphModule:
    """A graph over other parts by the same names."""
    found = fx.GraphModule(parts, graph)
    graph.owning_module = None
    return found.eval()


def _take_activations(graph: fx.GraphModule, named: dict[str, nn.Module]) -> None:
    """Let packed convolutions apply the activation that alone follows them."""
    parts = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        convolution, activation = parts.get(str(before.target)), named.get(str(node.target))
        if isinstance(convolution, PackedConv2d) and convolution.takes(activation):
            node.replace_all_uses_with(before)
            graph.graph.erase_node(node)


def _pair(
    node: fx.Node, named: dict[str, nn.Module], calls: dict[str, int]
) -> tuple[fx.Node, nn.Conv2d] | None:
    if node.op != "call_module" or type(named.get(str(node.target))) is not nn.BatchNorm2d:
        return None
    before = node.args[0]
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
        return None
    convolution, norm = named[str(before.target)], named[str(node.target)]
    if type(convolution) is not nn.Conv2d or not isinstance(norm, nn.BatchNorm2d):
        return None
    once = calls[str(before.target)] == calls[str(node.target)] == 1
    return (before, convolution) if once and norm.running_mean is not None else None


def _like(convolution: nn.Conv2d, pack: bool) -> nn.Conv2d:
    """A convolution of the same shape, with a bias."""
    kind: Any = PackedConv2d if pack and can_pack(convolution) else nn.Conv2d
    both: nn.Conv2d = kind(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        convolution.stride,
        convolution.padding,
        convolution.dilation,
        convolution.groups,
        True,
        convolution.padding_mode,
        device="meta",
    )
    weight = torch.empty_like(convolution.weight)  # keeps the order in memory
    both.weight = nn.Parameter(weight, requires_grad=False)
    both.bias = nn.Parameter(weight.new_empty(convolution.out_channels), requires_grad=False)
    return both
