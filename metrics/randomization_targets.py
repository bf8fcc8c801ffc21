"""Sanity checks that change what is explained: another class, a network of permuted labels."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.ranks import spearman
from xbench.operations.similarity import map_ssim
from xbench.registry import METRICS
from xbench.streams import Streams

OTHERS = ("random", "second")


@METRICS.register
@dataclass(frozen=True)
class ClassSensitivity(Metric):
    """Similarity of the map of the class explained and the map of another class (random logit).

    The value is the signed Spearman correlation with the map of a class drawn at random, one an
    image and the same for all methods, or of the class with the highest logit among the others;
    the details hold both, signed and absolute. A method that cannot tell classes gets 1.

    Attributes:
        other: which comparison is the value: "random" or "second".
    """

    other: str = "random"

    card: ClassVar[MetricCard] = MetricCard(
        name="class_sensitivity",
        summary="Signed Spearman of the maps of the class explained and of a random other class.",
        paper="Sixt et al. 2020, When Explanations Lie; Hedström et al. 2023 (Random Logit)",
        limitations="Two classes may rightly share evidence; below the gate, lower says little.",
        property="randomization",
        direction="lower",
        range=(-1.0, 1.0),
        needs=("model", "explain"),
        forwards="1",
        shared="1",
        explains="2",
        invariances=("monotone", "scale", "shift"),
        chance="0",
        default=True,
        gate="class_sensitivity",
    )

    def __post_init__(self) -> None:
        """Refuse a comparison that is not there."""
        if self.other not in OTHERS:
            raise ParameterError(f"other is {' or '.join(OTHERS)}, not '{self.other}'.")

    def supports(self, case: Case) -> str | None:
        """Why there is no other class, if there is none."""
        if case.model.classes(case.images) < 2:
            return "The model has a single output, so there is no other class to explain."
        return None

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Signed Spearman with the other class's map; lower is better."""
        details: dict[str, Tensor] = {}
        for name, targets in zip(OTHERS, _other_classes(case, streams), strict=True):
            maps = case.explain(case.images, targets=targets, call=f"{name} class")
            details[name] = spearman(case.maps, maps)
            details[f"{name}_abs"] = spearman(case.maps.abs(), maps.abs())
        return Scores.of(
            details[self.other], details=details, reason="One of the two maps is constant."
        )


@METRICS.register
@dataclass(frozen=True)
class LabelRandomization(Metric):
    """Similarity with the map of a twin network that was trained on permuted labels.

    The twin has the same architecture and start and fits its labels by heart; it knows nothing of
    the classes, so maps that reflect what was learned differ. The value is the signed Spearman
    correlation; absolute Spearman and SSIM are details, and separate methods better where the
    images have an empty background.
    """

    card: ClassVar[MetricCard] = MetricCard(
        name="label_randomization",
        summary="Signed Spearman with the map of a twin trained on permuted labels.",
        paper="Adebayo et al. 2018, Sanity Checks for Saliency Maps",
        limitations="Needs a twin, so small networks only; signed values spread widely around 0.",
        property="randomization",
        direction="lower",
        range=(-1.0, 1.0),
        needs=("model", "explain", "twin"),
        explains="1",
        invariances=("monotone", "scale", "shift"),
        chance="0",
        gate="label_randomization",
    )

    def supports(self, case: Case) -> str | None:
        """Why it cannot be measured without a twin."""
        if case.twin is None:
            return "There is no twin of this model trained on permuted labels."
        return None

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Signed Spearman with the twin's map; lower is better."""
        assert case.twin is not None
        case.twin.counter = case.twin.network.counter = case.model.counter  # one bill for both
        maps = case.explain(case.images, model=case.twin, call="permuted labels")
        return Scores.of(
            spearman(case.maps, maps),
            details={
                "abs_spearman": spearman(case.maps.abs(), maps.abs()),
                "ssim": map_ssim(case.maps, maps),
            },
            reason="One of the two maps is constant.",
        )


def _other_classes(case: Case, streams: Streams) -> tuple[Tensor, Tensor]:
    """A random class and the one with the highest logit, among all but the class explained."""

    def compute() -> tuple[Tensor, Tensor]:
        logits = case.model.logits(case.images)
        draws = streams.shared().integers(logits.shape[1] - 1, (1,), "other class")[:, 0]
        drawn = draws.to(case.targets)
        others = logits.scatter(1, case.targets[:, None], -torch.inf)
        return drawn + (drawn >= case.targets).long(), others.argmax(dim=1)

    key = ("other classes", streams.seed, streams.repetition, tuple(case.targets.tolist()))
    found: tuple[Tensor, Tensor] = case.bank.get(key, compute)
    return found
