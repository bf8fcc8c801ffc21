"""Both orders of removal, most and least relevant first: ABPC, and ROAD with its imputation."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.curves import area
from xbench.operations.imputers import check_imputer
from xbench.registry import METRICS
from xbench.streams import Streams

from ._removal import Outputs, blank_where, check_curve, outputs_at, sound_maps
from .deletion import deletion_curve, pixel_order

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


@METRICS.register
@dataclass(frozen=True)
class Abpc(Metric):
    """Area between the two deletion curves: least relevant first minus most relevant first.

    Attributes:
        steps: K of both curves; both ends count.
        imputer: what takes the place of removed pixels.
    """

    steps: int = 28
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="abpc",
        summary="Deletion area with the least relevant pixels first minus the most relevant first.",
        paper="Samek et al., TNNLS 2017; Li et al., M4: a unified XAI benchmark, NeurIPS 2023",
        limitations="A fixed fill leaves the shape of the removed set visible to the model.",
        property="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards="2 * steps",
        shared="2",
        invariances=("monotone", "scale", "shift"),
        chance="0",
    )

    def __post_init__(self) -> None:
        check_curve(self.steps, self.imputer)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Area between the curves per image; curves `morf` and `lerf`, details their areas."""
        maps, finite = sound_maps(case)
        morf, lerf = (
            deletion_curve(case, maps, streams, self.steps, self.imputer, least=least).probability
            for least in (False, True)
        )
        return blank_where(
            finite,
            area(lerf) - area(morf),
            curves={"morf": morf, "lerf": lerf},
            details={"morf": area(morf), "lerf": area(lerf)},
        )


@METRICS.register
@dataclass(frozen=True)
class Road(Metric):
    """Remove and debias: p_c and accuracy with 10 to 90 % of the pixels linearly imputed.

    Removed pixels obey x_i = sum_j w_ij x_j over their eight neighbors (1/6 direct, 1/12 diagonal)
    plus noise N(0, 0.01), solved on the unnormalized image, so that the shape of the removed set
    says little. `gap` is the mean of p_c with the least relevant pixels removed minus the mean
    with the most relevant removed; accuracy is against the label, where there is one.

    Attributes:
        order: "gap" for both orders, "morf" or "lerf" for one.
        imputer: what takes the place of removed pixels.
    """

    order: Literal["gap", "morf", "lerf"] = "gap"
    imputer: str = "noisy_linear"

    card: ClassVar[MetricCard] = MetricCard(
        name="road",
        summary="Gap of the probability between removing the least and the most relevant pixels, "
        "imputed so that the mask does not show.",
        paper="Rong et al., A consistent and efficient evaluation strategy for attribution "
        "methods, ICML 2022",
        limitations="Favors blurred maps; only five shares of pixels are tried.",
        property="faithfulness",
        direction="higher",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards="10 if order == 'gap' else 5",
        invariances=("monotone", "scale", "shift"),
        chance="0",
        default=True,
    )

    def __post_init__(self) -> None:
        check_imputer(self.imputer)
        if self.order not in ("gap", "morf", "lerf"):
            raise ParameterError(f"road takes the order gap, morf or lerf, not '{self.order}'.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Gap or mean probability; curves `morf`, `lerf`, details with the accuracies."""
        maps, finite = sound_maps(case)
        orders = ("morf", "lerf") if self.order == "gap" else (self.order,)
        found = {order: self._outputs(case, maps, streams, order) for order in orders}
        means = {order: one.probability.mean(dim=1) for order, one in found.items()}
        value = means["lerf"] - means["morf"] if self.order == "gap" else means[self.order]
        return blank_where(
            finite,
            value,
            curves={order: one.probability for order, one in found.items()},
            details={
                **means,
                **{f"accuracy_{order}": accuracy(one, case) for order, one in found.items()},
            },
        )

    def _outputs(self, case: Case, maps: Tensor, streams: Streams, order: str) -> Outputs:
        ranks = pixel_order(maps, streams)
        pixels = ranks.shape[1]
        ranks = pixels - 1 - ranks if order == "lerf" else ranks
        counts = torch.tensor([round(share * pixels) for share in SHARES])
        return outputs_at(case, ranks, counts, self.imputer, streams)


def accuracy(found: Outputs, case: Case) -> Tensor:
    """Share of the K variants whose largest score is the label, (N,); NaN without a label."""
    labels = torch.full((len(case),), -1) if case.labels is None else case.labels.cpu()
    right = (found.top == labels[:, None]).double().mean(dim=1)
    return right.masked_fill(labels < 0, float("nan"))


METRICS.preset(
    "road_morf",
    Road,
    card={
        "summary": "Mean probability with the most relevant pixels imputed.",
        "direction": "lower",
        "range": (0.0, 1.0),
        "chance": "the random control",
        "default": False,
    },
    order="morf",
)
METRICS.preset(
    "road_lerf",
    Road,
    card={
        "summary": "Mean probability with the least relevant pixels imputed.",
        "range": (0.0, 1.0),
        "chance": "the random control",
        "default": False,
    },
    order="lerf",
)
