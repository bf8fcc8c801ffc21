"""What every operation of a network is for relevance, and which operations have no rule."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, fx, nn

from xbench.classifier import Classifier
from xbench.classifier.preparation import ACTIVATIONS, prepared
from xbench.errors import UnsupportedError

from ._relevance_rules import Affine, BatchNorm

# fmt: off
_JUMPING = (nn.Sigmoid, nn.Hardsigmoid, nn.Softplus)  # not zero at zero
_HANDING_ON: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, *ACTIVATIONS)
_MOVING = (
    nn.MaxPool2d, nn.Dropout, nn.Dropout2d, nn.AlphaDropout, nn.Identity, nn.Flatten, nn.Unflatten,
    nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ChannelShuffle, nn.PixelShuffle,
)
_AVERAGING = (nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Upsample)
_F_MOVING = frozenset((
    "cat", "concat", "stack", "flatten", "reshape", "view", "contiguous", "permute", "transpose",
    "t", "expand", "squeeze", "unsqueeze", "getitem", "chunk", "split", "unbind", "pad", "dropout",
    "dropout2d", "feature_dropout", "stochastic_depth", "channel_shuffle", "pixel_shuffle",
    "clone", "float", "to",
))
_F_AVERAGING = frozenset((
    "add", "mean", "sum", "adaptive_avg_pool2d", "avg_pool2d", "interpolate",
))
_F_HANDING_ON = frozenset(("add", "sub", "rsub", "neg", "mul", "div", "truediv"))
_F_NO_SIGNAL = frozenset(("size", "dim", "getattr", "eq", "ne", "floordiv", "_assert"))
# fmt: on


@dataclass
class Plan:
    """What every node of a graph is for relevance.

    Attributes:
        graph: the traced network.
        signals: nodes that depend on the image.
        affine: convolutions and linear layers in order of execution.
        merged: batch normalizations that run inside an affine layer.
        handing: functions of one signal, each output of one input.
        averaging: sums and means of signals.
        cuts: nodes that all signal passes, in order of execution.
    """

    graph: fx.GraphModule
    signals: set[fx.Node] = field(default_factory=set)
    affine: dict[fx.Node, Affine] = field(default_factory=dict)
    merged: set[fx.Node] = field(default_factory=set)
    handing: set[fx.Node] = field(default_factory=set)
    averaging: set[fx.Node] = field(default_factory=set)
    cuts: list[fx.Node] = field(default_factory=list)


def plan_of(model: Classifier, images: Tensor | None = None) -> Plan:
    """The plan of a model's prepared copy; `images` as in `prepared`.

    Raises:
        UnsupportedError: an operation has no rule; the sentence names it.
    """
    graph = prepared(model, images).module
    if not isinstance(graph, fx.GraphModule):
        raise UnsupportedError("The model cannot be traced by torch.fx; its graph is not known.")
    plan = Plan(graph)
    for node in graph.graph.nodes:
        _read(plan, node)
    if not plan.affine:
        raise UnsupportedError("The model has no convolution or linear layer to share relevance.")
    plan.cuts = _cuts(plan)
    return plan


def _read(plan: Plan, node: fx.Node) -> None:
    if node.op == "placeholder":
        plan.signals.add(node)
        return
    signals = [n for n in node.all_input_nodes if n in plan.signals]
    if not signals or node.op == "output":
        return
    if node.op == "call_module":
        plan.signals.add(node)
        _read_module(plan, node, plan.graph.get_submodule(str(node.target)))
        return
    name = operation_name(node)
    if name in _F_NO_SIGNAL:
        return
    plan.signals.add(node)
    if plan.signals.intersection(_flat(list(node.kwargs.values()))) and name not in _F_MOVING:
        raise UnsupportedError(
            f"Relevance has no rule for named inputs of '{name}' ({node.name}); pass them by place."
        )
    alone = len(signals) == 1 and sum(arg in plan.signals for arg in _flat(node.args)) == 1
    reversed_quotient = name in ("div", "truediv") and node.args[0] not in plan.signals
    if name in _F_HANDING_ON and alone and not reversed_quotient:
        plan.handing.add(node)
    elif name in _F_AVERAGING and "alpha" not in node.kwargs:
        plan.averaging.add(node)
    elif name not in _F_MOVING:
        raise UnsupportedError(
            f"Relevance has no rule for '{name}' of {'a signal' if alone else 'two signals'} "
            f"({node.name}), such as gates and attention have."
        )


def _read_module(plan: Plan, node: fx.Node, module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        before = _neighbor(plan, node.args[0])
        after = next(iter(node.users)) if len(node.users) == 1 else None
        found = [_norm_beside(plan, other, module) for other in (before, after)]
        plan.affine[node] = Affine(module, *found)
        plan.merged |= {n for n, norm in zip((before, after), found, strict=True) if norm and n}
    elif isinstance(module, _JUMPING):
        raise UnsupportedError(
            f"Relevance has no rule for {type(module).__name__} ('{node.target}'), which is not "
            "zero at zero."
        )
    elif isinstance(module, _AVERAGING):
        plan.averaging.add(node)
    elif isinstance(module, _HANDING_ON):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is None:
            raise UnsupportedError(
                f"'{node.target}' normalizes by the batch; relevance needs running statistics."
            )
        plan.handing.add(node)
    elif not isinstance(module, _MOVING):
        raise UnsupportedError(
            f"Relevance has no rule for {type(module).__name__} ('{node.target}')."
        )


def _neighbor(plan: Plan, node: Any) -> fx.Node | None:
    """A node that a layer reads, if nothing else does and nothing has merged it yet."""
    alone = isinstance(node, fx.Node) and len(node.users) == 1 and node not in plan.merged
    return node if alone else None


def _norm_beside(plan: Plan, node: fx.Node | None, layer: nn.Module) -> BatchNorm | None:
    if node is None or node.op != "call_module":
        return None
    module = plan.graph.get_submodule(str(node.target))
    kind = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
    return module if isinstance(module, kind) and module.running_mean is not None else None


def _cuts(plan: Plan) -> list[fx.Node]:
    """Nodes such that no signal from before them is read after them."""
    order = {node: i for i, node in enumerate(plan.graph.graph.nodes)}
    cuts, reach = [], -1
    for node in sorted(plan.signals, key=order.__getitem__):
        if reach <= order[node] and node not in plan.merged:
            cuts.append(node)
        readers = [order[n] for n in node.users if n in plan.signals or n.op == "output"]
        reach = max([reach, *readers])
    return cuts


def _flat(args: Any) -> list[fx.Node]:
    """Every node among arguments, as often as it is there."""
    if isinstance(args, tuple | list):
        return [leaf for arg in args for leaf in _flat(arg)]
    return [args] if isinstance(args, fx.Node) else []


def operation_name(node: fx.Node) -> str:
    """The name of what a node calls, in-place operations like others."""
    target: Any = node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return str(name).rstrip("_")
