"""Networks whose backward pass carries relevance instead of gradients.

The prepared model's graph is run node by node. Forward it is the model; backward every node has a
rule: affine layers one of `_relevance_rules`, additions and averages share in proportion, functions
of one signal hand on all they get, max pooling gives to the winner, and what only moves values
(concatenation, reshaping) moves relevance back.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from xbench.classifier import Classifier
from xbench.classifier.network import target_logit

from ._relevance_plan import Plan, operation_name
from ._relevance_rules import Affine, Share, proportional


@dataclass(frozen=True)
class Rules:
    """Which rule every affine layer gets.

    Attributes:
        conv, dense: of convolutions and of linear layers.
        first, last: of the first and the last affine layer, None for no exception.
        positive: whether only positive inputs of additions and averages take part.
    """

    conv: Share
    dense: Share
    first: Share | None = None
    last: Share | None = None
    positive: bool = False


class RelevanceNetwork(nn.Module):
    """The model forward, relevance backward, down to one node.

    Args:
        plan: of the prepared model.
        rules: of affine layers.
        stop: the node whose relevance is asked for, default the input.

    Attributes:
        kept: the value at `stop` in the last forward pass; differentiate for it.
    """

    def __init__(self, plan: Plan, rules: Rules, stop: fx.Node | None = None) -> None:
        super().__init__()
        self.graph = plan.graph
        self.stop = stop or plan.cuts[0]
        self.kept: Tensor | None = None
        self._operations = dict(_operations(plan, rules))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of normalized images."""
        logits: Tensor = _Run(self.graph, self._operations, self).run(x)
        return logits


class _Run(fx.Interpreter):
    """One forward pass, in which some nodes are replaced."""

    def __init__(
        self,
        graph: fx.GraphModule,
        operations: Mapping[fx.Node, Callable[..., Any]],
        network: RelevanceNetwork,
    ) -> None:
        super().__init__(graph)
        self.operations = operations
        self.network = network

    def run_node(self, n: fx.Node) -> Any:
        if n in self.operations:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            result = self.operations[n](*args, **kwargs)
        else:
            result = super().run_node(n)
        if n is self.network.stop and torch.is_grad_enabled():
            self.network.kept = result = result.detach().requires_grad_(True)
        return result


class _Replaced(torch.autograd.Function):
    """A function with a backward pass of our own."""

    @staticmethod
    def forward(ctx: Any, function: Any, back: Any, *signals: Tensor) -> Tensor:
        """function(*signals)."""
        ctx.back = back
        ctx.save_for_backward(*signals)
        result: Tensor = function(*signals)
        return result.view_as(result) if any(result is x for x in signals) else result

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> Any:
        """back(signals, relevance)."""
        return (None, None, *ctx.back(ctx.saved_tensors, relevance[0]))


def _operations(plan: Plan, rules: Rules) -> list[tuple[fx.Node, Callable[..., Any]]]:
    first, last = next(iter(plan.affine)), next(reversed(plan.affine))
    found: list[tuple[fx.Node, Callable[..., Any]]] = [(n, _unchanged) for n in plan.merged]
    for node, layer in plan.affine.items():
        rule = rules.conv if isinstance(layer.layer, nn.Conv2d) else rules.dense
        if node is first and rules.first is not None:
            rule = rules.first
        if node is last and rules.last is not None:
            rule = rules.last
        found.append((node, partial(_affine, layer, rule)))
    for node in plan.handing - plan.merged:
        found.append((node, partial(_replaced, plan, node, _hand_on)))
    for node in plan.averaging:
        found.append((node, partial(_replaced, plan, node, partial(_average, rules.positive))))
    return found


def _unchanged(x: Tensor) -> Tensor:
    return x


def _affine(layer: Affine, rule: Share, x: Tensor) -> Tensor:
    def back(signals: tuple[Tensor, ...], relevance: Tensor) -> tuple[Tensor]:
        with torch.no_grad():
            return (rule(layer, signals[0], relevance),)

    result: Tensor = _Replaced.apply(layer, back, x)
    return result


def _replaced(plan: Plan, node: fx.Node, back: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a node with another backward pass; its other arguments stay as they are."""
    places = [i for i, arg in enumerate(node.args) if arg in plan.signals]

    def function(*signals: Tensor) -> Any:
        filled = list(args)
        for place, signal in zip(places, signals, strict=True):
            filled[place] = signal
        target: Any = node.target
        if node.op == "call_module":
            target = plan.graph.get_submodule(target)
        elif node.op == "call_method":
            target = getattr(type(filled[0]), operation_name(node))  # add, not add_
        return target(*filled, **kwargs)

    return _Replaced.apply(function, partial(back, function), *[args[i] for i in places])


def _hand_on(_: Any, signals: tuple[Tensor, ...], relevance: Tensor) -> tuple[Tensor, ...]:
    return (relevance.sum_to_size(signals[0].shape),)


def _average(
    positive: bool, function: Any, signals: tuple[Tensor, ...], relevance: Tensor
) -> tuple[Tensor, ...]:
    return proportional(function, signals, relevance, positive)


def relevances(
    model: Classifier,
    network: RelevanceNetwork,
    images: Tensor,
    targets: Tensor,
    start: Callable[[Tensor], Tensor],
) -> Tensor:
    """Relevance at the network's stop, float32 (N, ...); one forward and backward an image.

    Args:
        model: whose plan the network runs; calls count on it.
        network: forward and backward.
        images: (N, C, H, W) in [0, 1].
        targets: int64 (N,).
        start: the relevance of the target logits (B,), from those logits.
    """
    copy = model.sibling(network)

    def work(index: Tensor) -> Tensor:
        with torch.enable_grad():
            chosen = target_logit(copy.network(images[index]), targets[index])
        assert network.kept is not None
        (found,) = torch.autograd.grad(chosen, network.kept, start(chosen.detach()))
        network.kept = None
        return found

    return torch.cat(list(model.in_batches("backward", len(images), images, work)))
