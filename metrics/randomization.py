"""Sanity checks that randomize the weights: does the map depend on what the network learned?"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.classifier.randomize import HOWS, ORDERS, RandomizedNetwork, stages
from xbench.contracts import Case, Metric, MetricCard, Scores
from xbench.errors import ParameterError
from xbench.operations.ranks import average_ranks, pearson
from xbench.operations.similarity import ssim, unit_scale
from xbench.registry import METRICS
from xbench.streams import Streams

from ._inputs import noise
from ._similarity import SIMILARITIES, similarity


@METRICS.register
@dataclass(frozen=True)
class CascadingRandomization(Metric):
    """Similarity of the map to maps of the same class under ever more random weights.

    With M the map of the trained network and M_d the map after the layers of stage d were
    randomized, the value is the mean over the stages of rho(M, M_d), rho the signed Spearman
    correlation. A method that reads the weights falls to 0 behind the logits; edge detectors,
    and methods that reconstruct the input, stay at 1. The class explained is that of the trained
    network throughout. Randomized networks and their draws are the same for all methods.

    Stages whose map is constant have no correlation and are left out of the mean (`curves` keep
    them as NaN, the detail `constant` says which share); an image whose own map is constant is
    undefined. Absolute Spearman and SSIM are kept as curves only: both stay high for maps that
    merely share their zeros with the image, and are no ground for passing or failing.

    Attributes:
        depths: number of stages at most, evenly spread in order of execution; the logits layer
            and the full network are always among them.
        how: "permutation" of the weights within each tensor, which keeps their scale (needed
            where batch normalization is folded into the weights), or "normal" of the same mean
            and deviation.
        order: "top_down" from the logits, "bottom_up" from the input, "independent" layers.
        similarity: what the value is made of: "spearman", "abs_spearman", "ssim", "hog" or
            "top_k" (intersection over union of the top 10 %).
        smooth: how many noisy copies each map is averaged over, before and after, against
            shattered gradients (Hedström et al. 2024, sMPRT); 0 for the map of the image itself.
        stdev: the noise of those copies, as a share of the image's own range.
    """

    depths: int = 6
    how: str = "permutation"
    order: str = "top_down"
    similarity: str = "spearman"
    smooth: int = 0
    stdev: float = 0.1

    card: ClassVar[MetricCard] = MetricCard(
        name="cascading_randomization",
        summary="Signed Spearman with maps under weights randomized from the logits down.",
        paper="Adebayo et al. 2018, Sanity Checks for Saliency Maps; Binder et al. 2023",
        limitations=(
            "Tells methods that ignore the weights; it does not rank those that pass: randomizing "
            "from the top keeps the scale of activations, and coarse maps vary between images."
        ),
        property="randomization",
        direction="lower",
        range=(-1.0, 1.0),
        needs=("model", "explain"),
        forwards="1 + min(depths, layers)",
        shared="1 + min(depths, layers)",
        explains="min(depths, layers) if smooth == 0 else smooth * (1 + min(depths, layers))",
        invariances=("monotone", "scale", "shift"),
        chance="0",
        default=True,
        gate="cascading_randomization",
    )

    def __post_init__(self) -> None:
        """Refuse parameters that mean nothing."""
        if self.depths < 2:
            raise ParameterError("depths must be at least 2: the logits layer and the network.")
        if self.smooth < 0 or self.stdev <= 0:
            raise ParameterError("smooth must not be negative, and stdev must be positive.")
        for name, value, known in (
            ("how", self.how, HOWS),
            ("order", self.order, ORDERS),
            ("similarity", self.similarity, SIMILARITIES),
        ):
            if value not in known:
                raise ParameterError(f"{name} is {' or '.join(known)}, not '{value}'.")

    def supports(self, case: Case) -> str | None:
        """Why there is nothing to randomize, if so."""
        return needs_weights(case)

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Mean similarity along the cascade, see the class; lower is better."""
        random = randomized_network(case, self.how, streams)
        chosen = stages(len(random.layers), self.depths, self.order)
        own = self._maps(case, None, "trained weights", streams)
        own_ranks, own_abs = average_ranks(own.flatten(1)), _abs_ranks(own)
        own_scaled = unit_scale(own)
        series: dict[str, list[Tensor]] = {"spearman": [], "abs_spearman": [], "ssim": []}
        logits: list[Tensor] = []
        if self.similarity not in series:
            series[self.similarity] = []
        for stage, layers in enumerate(chosen):
            call = f"random weights {self.how} {sorted(layers)}"
            model = random.at(layers)
            maps = self._maps(case, model, call, streams)
            logits.append(logit_correlation(case, model, call, streams))
            series["spearman"].append(pearson(own_ranks, average_ranks(maps.flatten(1))))
            series["abs_spearman"].append(pearson(own_abs, _abs_ranks(maps)))
            series["ssim"].append(ssim(own_scaled, unit_scale(maps)))
            if len(series) > 3:
                found = similarity(self.similarity, own, maps, streams, stage)
                series[self.similarity].append(found)
        curves = {name: torch.stack(values, dim=1) for name, values in series.items()}
        judged = curves[self.similarity]
        return Scores.of(
            judged.nanmean(dim=1),
            curves={**curves, "logits": torch.stack(logits, dim=1)},
            details=self._details(curves),
            reason="The map is constant, or constant under all random weights.",
        )

    def _maps(self, case: Case, model: Classifier | None, call: str, streams: Streams) -> Tensor:
        """Maps under a model (None: the trained one), averaged over noisy copies if so asked."""
        if self.smooth == 0:
            return case.maps if model is None else case.explain(case.images, model=model, call=call)
        flat = case.images.flatten(1)
        sigma = self.stdev * (flat.amax(dim=1) - flat.amin(dim=1)).view(-1, 1, 1, 1)
        total = torch.zeros_like(case.maps, dtype=torch.float64)
        for draw in range(self.smooth):
            images = case.images + sigma * noise(case, "normal", draw, streams)
            total += case.explain(images, model=model, call=f"{call} {draw}")
        return (total / self.smooth).float()

    def _details(self, curves: dict[str, Tensor]) -> dict[str, Tensor]:
        judged = curves[self.similarity]
        first, last = {
            "top_down": ("after_logits", "after_full"),
            "bottom_up": ("after_input", "after_full"),
            "independent": ("logits_alone", "input_alone"),
        }[self.order]
        return {
            first: judged[:, 0],
            last: judged[:, -1],
            "abs_spearman": curves["abs_spearman"].nanmean(dim=1),
            "ssim": curves["ssim"].nanmean(dim=1),
            "constant": curves["spearman"].isnan().double().mean(dim=1),
        }


METRICS.preset(
    "cascading_randomization_bottom_up",
    CascadingRandomization,
    card={
        "summary": "Signed Spearman with maps under weights randomized from the input up.",
        "default": False,
        "gate": "",
    },
    order="bottom_up",
)
METRICS.preset(
    "independent_randomization",
    CascadingRandomization,
    card={
        "summary": "Signed Spearman with maps under one randomized layer at a time.",
        "default": False,
        "gate": "",
    },
    order="independent",
)
METRICS.preset(
    "smooth_randomization",
    CascadingRandomization,
    card={
        "summary": "Cascading randomization of maps averaged over noisy copies (sMPRT).",
        "paper": "Hedström et al. 2024, A Fresh Look at Sanity Checks for Saliency Maps",
        "invariances": ("scale", "shift"),
        "default": False,
        "gate": "",
    },
    smooth=50,
)


def needs_weights(case: Case) -> str | None:
    """The reason why a network cannot be randomized: it has no weights."""
    if not any(True for _ in case.model.module.parameters()):
        return "The model has no weights that could be randomized."
    return None


def randomized_network(case: Case, how: str, streams: Streams) -> RandomizedNetwork:
    """The randomized copy of the case's network, one for all methods and metrics."""
    shared = streams.shared()
    found: RandomizedNetwork = case.bank.get(
        ("randomized network", how, shared.seed, shared.repetition),
        lambda: RandomizedNetwork(case.model, case.images, how, shared),
    )
    return found


def logit_correlation(case: Case, model: Classifier, call: str, streams: Streams) -> Tensor:
    """Pearson correlation of the logits before and after, (N,): was anything destroyed?"""
    draw = (streams.seed, streams.repetition)
    clean = case.bank.get(("trained logits",), lambda: case.model.logits(case.images))
    found: Tensor = case.bank.get(
        ("random logits", call, *draw), lambda: pearson(clean, model.logits(case.images))
    )
    return found


def _abs_ranks(maps: Tensor) -> Tensor:
    return average_ranks(maps.flatten(1).abs())
