"""What the model says of the explained part alone: average drop, increase, gain; ERASER's pair."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.imputers import STATIC, check_imputer
from xbench.registry import METRICS
from xbench.streams import Streams

from ._removal import (
    Outputs,
    blank_where,
    clean_outputs,
    imputer_of,
    outputs_at,
    sound_maps,
)
from .deletion import pixel_order

BINS = (0.01, 0.05, 0.10, 0.20, 0.50)

ROUNDING = 1e-6


@METRICS.register
@dataclass(frozen=True)
class MaskedConfidence(Metric):
    """The target's probability on the image seen through the map, against the whole image.

    With L the positive part of the map divided by its maximum, Y = p_c(x) and
    O = p_c(L x + (1 - L) b): drop max(0, Y - O) / Y, increase 1[O > Y], gain max(0, O - Y) /
    (1 - Y). A difference of up to 1e-6 is rounding and no increase. A map without positive values
    explains no part of the image: undefined.

    Attributes:
        kind: "drop", "increase" or "gain".
        imputer: the picture b behind; "mean" is zero in the space of the normalized image.
    """

    kind: Literal["drop", "increase", "gain"] = "drop"
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="average_drop",
        summary="Share of the target's probability lost on the image seen through the map.",
        paper="Chattopadhyay et al., Grad-CAM++, WACV 2018",
        limitations="A map that is one everywhere is perfect: it rewards showing much.",
        property="faithfulness",
        direction="lower",
        range=(0.0, 1.0),
        needs=("model",),
        forwards="2",
        shared="1",
        invariances=("scale",),
        chance="the random control; 0 for a constant positive map",
    )

    def __post_init__(self) -> None:
        if self.imputer not in STATIC:
            raise ParameterError(
                f"{self.card.name} blends with a fixed picture ({', '.join(STATIC)}), "
                f"not '{self.imputer}'."
            )
        if self.kind not in ("drop", "increase", "gain"):
            raise ParameterError(f"The kind is drop, increase or gain, not '{self.kind}'.")

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Drop, increase or gain per image, as shares; detail `masked` is O."""
        maps, finite = sound_maps(case)
        before = clean_outputs(case).probability[:, 0]
        after = seen_through(case, maps, self.imputer, streams).probability[:, 0]
        value = {
            "drop": (before - after).clamp(min=0) / before,
            "increase": (after > before + ROUNDING).double(),
            "gain": (after - before).clamp(min=0) / (1 - before),
        }[self.kind]
        some = (maps.flatten(1).amax(dim=1) > 0).cpu()
        return blank_where(
            finite & some,
            value,
            details={"masked": after},
            reason="the map has no positive value or is not finite",
        )


def seen_through(case: Case, maps: Tensor, imputer: str, streams: Streams) -> Outputs:
    """Outputs on images seen through the maps, K = 1; one forward an image."""
    content = imputer_of(case, imputer, streams).content
    assert content is not None
    part = maps.clamp(min=0)[:, None]
    part = part / part.amax(dim=(2, 3), keepdim=True).clamp(min=torch.finfo(part.dtype).tiny)

    def build(index: Tensor) -> Tensor:
        return content[index] + part[index] * (case.images[index] - content[index])

    logits = case.model.rows(len(case), build, like=case.images)
    return Outputs.of(logits[:, None], case.targets)


METRICS.preset(
    "average_increase",
    MaskedConfidence,
    card={
        "summary": "Share of images whose probability rises on the image seen through the map.",
        "direction": "higher",
        "chance": "the random control; 0 for a constant map",
    },
    kind="increase",
)
METRICS.preset(
    "average_gain",
    MaskedConfidence,
    card={
        "summary": "Share of the missing probability won on the image seen through the map.",
        "paper": "Zhang et al., Opti-CAM, 2023; Englebert et al., Poly-CAM, 2022",
        "direction": "higher",
        "chance": "the random control; 0 for a constant map",
    },
    kind="gain",
)


@METRICS.register
@dataclass(frozen=True)
class Sufficiency(Metric):
    """How much probability is lost when only the most relevant pixels are kept, or are removed.

    sufficiency = mean over b of p_c(x) - p_c(x with only the top b kept), comprehensiveness =
    mean over b of p_c(x) - p_c(x without the top b), b in 1, 5, 10, 20, 50 % of the pixels.

    Attributes:
        keep: whether the top pixels are kept (sufficiency) or removed (comprehensiveness).
        imputer: what takes the place of removed pixels.
    """

    keep: bool = True
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="sufficiency",
        summary="Probability lost when only the most relevant 1 to 50 % of the pixels are kept.",
        paper="DeYoung et al., ERASER, ACL 2020",
        limitations="Scattered kept pixels are off the distribution of the images.",
        property="faithfulness",
        direction="lower",
        range=(-1.0, 1.0),
        needs=("model",),
        forwards="6",
        shared="1",
        invariances=("monotone", "scale", "shift"),
        chance="the random control",
    )

    def __post_init__(self) -> None:
        check_imputer(self.imputer)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Mean loss per image; curve `probability` over the shares."""
        maps, finite = sound_maps(case)
        ranks = pixel_order(maps, streams)
        pixels = ranks.shape[1]
        counts = torch.tensor([max(1, round(share * pixels)) for share in BINS])
        if self.keep:
            ranks, counts = pixels - 1 - ranks, pixels - counts
        found = outputs_at(case, ranks, counts, self.imputer, streams).probability
        loss = clean_outputs(case).probability - found
        return blank_where(finite, loss.mean(dim=1), curves={"probability": found})


METRICS.preset(
    "comprehensiveness",
    Sufficiency,
    card={
        "summary": "Probability lost when the most relevant 1 to 50 % of the pixels are removed.",
        "direction": "higher",
        "limitations": "Scattered removed pixels act as adversarial noise.",
    },
    keep=False,
)
