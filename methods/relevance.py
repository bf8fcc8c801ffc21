"""Layer-wise relevance propagation: rules and their usual combinations."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import MethodCard
from xbench.errors import UnsupportedError
from xbench.registry import METHODS
from xbench.streams import Streams

from ._pixel import PixelMethod, require
from ._relevance_network import RelevanceNetwork, Rules, relevances
from ._relevance_plan import Plan, plan_of
from ._relevance_rules import (
    Share,
    alpha_beta_rule,
    box_rule,
    epsilon_rule,
    flat_rule,
    gamma_rule,
    square_rule,
)

Rule = Literal["epsilon", "gamma", "zplus", "alphabeta"]
FirstRule = Literal["same", "box", "flat", "wsquare", "epsilon", "gamma", "zplus", "alphabeta"]

_BACH = "Bach et al. 2015, On Pixel-Wise Explanations for Non-Linear Classifier Decisions by "
_MONTAVON = "Montavon et al. 2019, Layer-Wise Relevance Propagation: An Overview"


@METHODS.register
@dataclass(frozen=True)
class LRP(PixelMethod):
    """Layer-wise relevance propagation, R_j = sum_k (share of j in z_k) R_k, from R = f_c(x).

    Rules of convolutions and linear layers, with z_jk = x_j w_jk and b_k the bias:

        epsilon     z_jk / (z_k + epsilon rms(z) sign z_k), rms over the outputs for the image
        gamma       (z_jk + gamma z_jk+) / (z_k + gamma sum z_jk+ + gamma b_k+)   where z_k > 0,
                    the same with negative parts where z_k < 0
        zplus       z_jk+ / (sum_j z_jk+ + b_k+)
        alphabeta   alpha z_jk+ / sum z_jk+  -  (alpha - 1) z_jk- / sum z_jk-
        wsquare     w_jk^2 / sum w_jk^2
        flat        1 / (number of inputs)
        box         (x_j w_jk - l w_jk+ - h w_jk-) / sum, pixels lie between l (black) and h (white)

    Batch normalization is merged into the layer before it, else into the layer right behind it;
    between an activation or concatenation and another activation it hands on relevance one to one.
    Additions and average pooling share by what each input adds, max pooling gives all to the
    winner, activations hand on everything. What biases and epsilon absorb is lost to the sum. The
    map is the relevance of the normalized pixels. With R = f_c(x) the maps of a class with a
    negative logit are negative under zplus: there is only evidence against it.

    Attributes:
        conv: rule of convolutions.
        dense: rule of linear layers.
        first: rule of the layer that reads the pixels, "same" as the others of its kind.
        epsilon: of the rule epsilon; relative, unlike the absolute one of Bach 2015, so that
            layers with faint or loud signals are treated alike (0.25 in Montavon 2019).
        gamma: of the rule gamma.
        alpha: of the rule alphabeta; beta = alpha - 1.
    """

    conv: Rule = "epsilon"
    dense: Rule = "epsilon"
    first: FirstRule = "same"
    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 2.0

    card: ClassVar[MethodCard] = MethodCard(
        name="lrp_epsilon",
        family="relevance",
        summary="LRP, each layer sharing relevance by signed contributions (epsilon rule).",
        paper=f"{_BACH}Layer-Wise Relevance Propagation",
        limitations="No rule for gates, LayerNorm and attention; with a small epsilon in a ReLU "
        "network it is gradient x input.",
        needs=("gradients",),
        forwards="1",
        backwards="1",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, options in (("conv", Rule), ("dense", Rule), ("first", FirstRule)):
            known = get_args(options)
            require(getattr(self, name) in known, f"{name} is one of {', '.join(known)}.")
        require(self.epsilon > 0, "epsilon is larger than 0.")
        require(self.gamma >= 0, "gamma is at least 0.")
        require(self.alpha >= 1, "alpha is at least 1 (beta = alpha - 1).")

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks with operations that have no rule."""
        try:
            self._check(plan_of(model))
        except UnsupportedError as error:
            return str(error)
        return None

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Relevance of every normalized pixel and channel, float32 (N, C, H, W)."""
        plan = plan_of(model, images)
        self._check(plan)
        network = RelevanceNetwork(plan, self._rules(model, images))
        return relevances(model, network, images, targets, _all_of_it)

    def _rules(self, model: Classifier, images: Tensor) -> Rules:
        rules: dict[str, Callable[[], Share]] = {
            "epsilon": lambda: epsilon_rule(self.epsilon),
            "gamma": lambda: gamma_rule(self.gamma),
            "zplus": lambda: alpha_beta_rule(1.0),
            "alphabeta": lambda: alpha_beta_rule(self.alpha),
            "wsquare": lambda: square_rule,
            "flat": lambda: flat_rule,
            "box": lambda: _box(model, images),
        }
        first = None if self.first == "same" else rules[self.first]()
        return Rules(rules[self.conv](), rules[self.dense](), first)

    def _check(self, plan: Plan) -> None:
        """Refuse bounds of pixels for a first layer that reads something else."""
        first = next(iter(plan.affine))
        if self.first == "box" and first.args[0] is not plan.cuts[0]:
            raise UnsupportedError(
                f"The first layer ('{first.target}') does not read the pixels as they are, so its "
                "inputs have no known bounds; choose another rule for `first`."
            )


def _all_of_it(logits: Tensor) -> Tensor:
    return logits


def _box(model: Classifier, images: Tensor) -> Share:
    black = torch.zeros(1, images.shape[1], 1, 1, device=images.device)
    return box_rule(model.network.normalize(black), model.network.normalize(black + 1))


def _preset(name: str, summary: str, paper: str = _MONTAVON, **values: str | float) -> None:
    limits = "No rule for gates, LayerNorm and attention."
    METHODS.preset(
        name, LRP, card={"summary": summary, "paper": paper, "limitations": limits}, **values
    )


_preset(
    "lrp_gamma",
    "LRP favoring contributions of the output's sign (gamma rule).",
    conv="gamma",
    dense="gamma",
)
_preset(
    "lrp_zplus",
    "LRP over positive contributions only (z+ rule, also called alpha 1, beta 0).",
    "Montavon et al. 2017, Explaining Nonlinear Classification Decisions with Deep Taylor "
    "Decomposition",
    conv="zplus",
    dense="zplus",
)
_preset(
    "lrp_alpha2beta1",
    "LRP, positive contributions weighing 2, negative ones -1.",
    f"{_BACH}Layer-Wise Relevance Propagation",
    conv="alphabeta",
    dense="alphabeta",
)
_KOHLBRENNER = "Kohlbrenner et al. 2020, Towards Best Practice in Explaining Neural Network "
for _suffix, _first, _words in (("", "same", ""), ("_flat", "flat", ", pixels flat")):
    _preset(
        f"lrp_epsilon_plus{_suffix}",
        f"LRP composite: z+ in convolutions, epsilon in linear layers{_words}.",
        f"{_KOHLBRENNER}Decisions with LRP",
        conv="zplus",
        first=_first,
    )
    _preset(
        f"lrp_epsilon_alpha2beta1{_suffix}",
        f"LRP composite: alpha 2, beta 1 in convolutions, epsilon in linear layers{_words}.",
        f"{_KOHLBRENNER}Decisions with LRP",
        conv="alphabeta",
        first=_first,
    )
_preset(
    "lrp_epsilon_gamma_box",
    "LRP composite: z^B at the pixels, gamma in convolutions, epsilon in linear layers.",
    conv="gamma",
    first="box",
)
