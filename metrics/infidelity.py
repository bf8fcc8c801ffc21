"""Infidelity (Yeh et al. 2019) over random boxes, with the optimal scale; completeness error."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.imputers import STATIC, check_imputer, imputed_logits
from xbench.operations.subsets import box_sums, inside_boxes, random_boxes
from xbench.registry import METRICS
from xbench.streams import Streams

from ._removal import (
    Outputs,
    blank_where,
    clean_outputs,
    draw_of,
    imputer_of,
    removed_outputs,
    sound_maps,
    targets_key,
)

_UNIT = 32
_LARGEST = 10


def box_sides(height: int, width: int) -> list[int]:
    """Sides of 1/32 to 10/32 of the short side: the 1 to 10 pixels of the paper on 32 x 32.

    >>> box_sides(32, 40)
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    short = min(height, width)
    return [max(1, round(k * short / _UNIT)) for k in range(1, _LARGEST + 1)]


@METRICS.register
@dataclass(frozen=True)
class Infidelity(Metric):
    """How badly the map's sum over a box predicts the drop when the box is removed.

    min_beta E[(beta I.phi - (f_c(x) - f_c(x_I)))^2] / E[(f_c(x) - f_c(x_I))^2], I the indicator of
    a random square, f_c the logit, beta = E[I.phi df] / E[(I.phi)^2]. A map that says nothing has
    1, the exact contributions of a linear model 0. `unscaled` is the same with beta = 1.

    Attributes:
        draws: how many boxes an image.
        imputer: what takes the place of a box.
        positive: whether beta must not be negative; else a map and its negative score the same.
    """

    draws: int = 200
    imputer: str = "mean"
    positive: bool = False

    card: ClassVar[MetricCard] = MetricCard(
        name="infidelity",
        summary="Unexplained share of the squared logit drop over random boxes, optimally scaled.",
        paper="Yeh et al., On the (in)fidelity and sensitivity of explanations, NeurIPS 2019",
        limitations="The optimal scale of the paper may be negative, so the inverted map scores "
        "the same; a constant map is below 1 through the size of the boxes alone.",
        property="faithfulness",
        direction="lower",
        range=(0.0, 1.0),
        needs=("model",),
        forwards="1 + draws",
        shared="1 + draws",
        invariances=("scale", "sign"),
        chance="just below 1",
    )

    def __post_init__(self) -> None:
        check_imputer(self.imputer)
        if self.draws < 2:
            raise ParameterError("infidelity takes draws >= 2.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Normalized infidelity per image; details `unscaled` and `beta`."""
        maps, finite = sound_maps(case)
        boxes, drops = box_drops(case, self.draws, self.imputer, streams)
        sums = box_sums(maps, boxes)
        scale = maps.flatten(1).abs().amax(dim=1).cpu().double()
        sums = sums / torch.where(scale > 0, scale, 1.0)[:, None]
        power = sums.square().mean(dim=1)
        beta = (sums * drops).mean(dim=1) / torch.where(power > 0, power, 1.0)
        beta = beta.clamp(min=0) if self.positive else beta
        whole = drops.square().mean(dim=1)
        whole = whole.masked_fill(whole == 0, float("nan"))
        error = (beta[:, None] * sums - drops).square().mean(dim=1)
        plain = (scale[:, None] * sums - drops).square().mean(dim=1)
        return blank_where(
            finite,
            error / whole,
            details={"unscaled": plain / whole, "beta": beta / torch.where(scale > 0, scale, 1.0)},
            reason="the map is not finite, or removing boxes never changes the output",
        )


def box_drops(case: Case, draws: int, imputer: str, streams: Streams) -> tuple[Tensor, Tensor]:
    """Random boxes and the logit drop without each, (N, D, 4) and (N, D), once for all methods."""
    height, width = case.images.shape[-2:]

    def compute() -> tuple[Tensor, Outputs]:
        shared = streams.shared()
        boxes = random_boxes(shared, height, width, box_sides(height, width), draws)
        placed = boxes.to(case.images.device)
        bound = imputer_of(case, imputer, streams)

        def select(index: Tensor) -> tuple[Tensor, Tensor]:
            owner = index // draws
            return owner, inside_boxes(placed[owner, index % draws], height, width)

        logits = imputed_logits(case.model, bound, len(case) * draws, select)
        return boxes, Outputs.of(logits.view(len(case), draws, -1), case.targets)

    key = ("outputs", "boxes", draws, streams.repetition, draw_of(imputer, streams))
    boxes, found = case.bank.get((*key, targets_key(case)), compute)
    return boxes, clean_outputs(case).logit - found.logit


METRICS.preset(
    "infidelity_positive",
    Infidelity,
    card={
        "summary": "Infidelity whose scale must not be negative, so that inverted maps lose.",
        "limitations": "Not the paper's: there the scale may be negative. A constant map is below "
        "1 through the size of the boxes alone.",
        "invariances": ("scale",),
    },
    positive=True,
)


@METRICS.register
@dataclass(frozen=True)
class CompletenessError(Metric):
    """How far the sum of the map is from the change of the output between baseline and image.

    |sum_i phi_i - (f_c(x) - f_c(b))| / |f_c(x) - f_c(b)|, f_c the logit; undefined where the
    baseline has the same logit.

    Attributes:
        imputer: the baseline b, one that does not depend on what is removed.
    """

    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="completeness_error",
        summary="Distance of the map's sum from f(x) - f(baseline), relative to it.",
        paper="Sundararajan et al., Axiomatic attribution for deep networks, ICML 2017",
        limitations="Only for methods that promise completeness, against their own baseline; maps "
        "of another scale score anything.",
        property="faithfulness",
        direction="lower",
        range=(0.0, float("inf")),
        needs=("model",),
        forwards="2",
        shared="2",
        chance="1 for a map that sums to 0",
    )

    def __post_init__(self) -> None:
        if self.imputer not in STATIC:
            raise ParameterError(
                f"completeness_error needs a fixed baseline ({', '.join(STATIC)}), "
                f"not '{self.imputer}'."
            )

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Relative error per image; details `total` (the map's sum) and `change`."""
        maps, finite = sound_maps(case)
        removed = removed_outputs(case, self.imputer, streams)
        change = (clean_outputs(case).logit - removed.logit)[:, 0]
        total = maps.flatten(1).cpu().double().sum(dim=1)
        error = (total - change).abs() / change.abs()
        return blank_where(
            finite,
            error.masked_fill(change == 0, float("nan")),
            details={"total": total, "change": change},
            reason="the map is not finite, or the baseline has the image's own logit",
        )
