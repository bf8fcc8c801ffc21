"""Excitation backprop and its contrastive form: winners are drawn top-down, layer by layer."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import UnsupportedError
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams

from ._pixel import require
from ._relevance_network import RelevanceNetwork, Rules, relevances
from ._relevance_plan import Plan, plan_of
from ._relevance_rules import contrastive_rule, excitation_rule

_PAPER = "Zhang et al. 2016, Top-down Neural Attention by Excitation Backprop"


@METHODS.register
@dataclass(frozen=True)
class ExcitationBackprop(Method):
    """Marginal winning probabilities, P(a_j) = sum_i P(a_j | a_i) P(a_i), from P = 1 at the class.

        P(a_j | a_i) = a_j w_ij+ / sum_j' a_j' w_ij'+

    Biases take no part. Inputs that may be negative (pixels, outputs without activation) win by
    positive contributions a_j w_ij. Additions and average pooling share among positive inputs in
    proportion, max pooling gives all to the winner, batch normalization is merged into its
    convolution. The map is the sum over channels at one layer, enlarged; it sums to 1 before that,
    less what units without positive contributions keep.

    Attributes:
        layer: where the probabilities are read. "middle" is what the last stage of the network
            reads: the last place that all signal passes before the convolution that first has the
            resolution of the last feature maps (pool4 of VGG16, layer3 of ResNet50, the layers of
            TorchRay's benchmark). "input" are the pixels; else the dotted name of a module.
    """

    layer: str = "middle"

    card: ClassVar[MethodCard] = MethodCard(
        name="excitation_backprop",
        family="relevance",
        summary="Probability that a unit wins when winners are drawn down from the class.",
        paper=_PAPER,
        limitations="Coarse as the layer it reads; much alike for all classes; no rule for gates, "
        "LayerNorm and attention.",
        needs=("gradients",),
        signed=False,
        forwards="1",
        backwards="1",
    )

    def __post_init__(self) -> None:
        require(bool(self.layer), "layer is middle, input or the name of a module.")

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks with operations that have no rule."""
        try:
            plan_of(model)
        except UnsupportedError as error:
            return str(error)
        return None

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps, float32 (N, H, W)."""
        plan = plan_of(model, images)
        network = RelevanceNetwork(plan, self._rules(), self._place(model, plan, images))
        found = relevances(model, network, images, targets, torch.ones_like)
        return self._read(upsample(found.sum(dim=1), (images.shape[2], images.shape[3])))

    def _rules(self) -> Rules:
        return Rules(excitation_rule, excitation_rule, positive=True)

    def _read(self, maps: Tensor) -> Tensor:
        return maps

    def _place(self, model: Classifier, plan: Plan, images: Tensor) -> fx.Node:
        if self.layer == "input":
            return plan.cuts[0]
        shapes = _shapes(model, plan, images)
        place = (
            _before_last_stage(plan, shapes)
            if self.layer == "middle"
            else _output_of(plan, self.layer)
        )
        if len(shapes.get(place, ())) != 4:
            raise UnsupportedError(f"The layer '{self.layer}' has no feature maps to read.")
        return place


@METHODS.register
@dataclass(frozen=True)
class ContrastiveExcitationBackprop(ExcitationBackprop):
    """Excitation of the class minus that of its dual, the unit whose weights are the opposite.

    The difference is taken right below the last layer. Everything further down is linear in what it
    shares out, so one pass carries the difference.

    Attributes:
        positive: keep the positive part only, as the authors show it; else the map is signed and
            sums to 0.
    """

    positive: bool = True

    card: ClassVar[MethodCard] = MethodCard(
        name="contrastive_excitation_backprop",
        family="relevance",
        summary="Excitation backprop of the class minus that of its negated unit.",
        paper=_PAPER,
        limitations="Coarse as the layer it reads; no rule for gates, LayerNorm and attention.",
        needs=("gradients",),
        signed=False,
        forwards="1",
        backwards="1",
    )

    def _rules(self) -> Rules:
        return Rules(excitation_rule, excitation_rule, last=contrastive_rule, positive=True)

    def _read(self, maps: Tensor) -> Tensor:
        return maps.clamp(min=0) if self.positive else maps


class _Shapes(fx.Interpreter):
    """Notes the shape of every signal."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.found: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run one node and note what it gives."""
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n] = tuple(result.shape)
        return result


@torch.no_grad()
def _shapes(model: Classifier, plan: Plan, images: Tensor) -> dict[fx.Node, tuple[int, ...]]:
    interpreter = _Shapes(plan.graph)
    interpreter.run(model.network.normalize(images[:1]))
    return interpreter.found


def _before_last_stage(plan: Plan, shapes: dict[fx.Node, tuple[int, ...]]) -> fx.Node:
    maps = [n for n in plan.affine if len(shapes[n]) == 4 and shapes[n][2:] != (1, 1)]
    if not maps:
        return plan.cuts[0]
    stage = next(n for n in maps if shapes[n][2:] == shapes[maps[-1]][2:])
    order = {node: i for i, node in enumerate(plan.graph.graph.nodes)}
    return [n for n in plan.cuts if order[n] < order[stage]][-1]


def _output_of(plan: Plan, name: str) -> fx.Node:
    """The last node that ran inside a module, leaf or container."""
    inside: list[fx.Node] = [
        n
        for n in plan.graph.graph.nodes
        if n in plan.signals and (n.target == name or name in n.meta.get("nn_module_stack", ()))
    ]
    if not inside:
        raise UnsupportedError(f"The model has no layer '{name}' that reads the image.")
    return inside[-1]
