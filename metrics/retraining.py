"""Remove and retrain, keep and retrain (Hooker et al. 2019), for models small enough."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Case, Metric, MetricCard, Retraining, Scores
from xbench.errors import ParameterError, UnsupportedError
from xbench.operations.imputers import STATIC, make_imputer, mean_color
from xbench.registry import METRICS
from xbench.streams import Streams

from ._removal import blank_where, sound_maps
from .deletion import pixel_order

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)


@METRICS.register
@dataclass(frozen=True)
class Roar(Metric):
    """Is the image still classified by a model that was trained without the relevant pixels?

    For each share t of the pixels, the most relevant t of every training and every test image are
    replaced, the model is initialized and trained anew on the changed images, and asked for the
    changed test image. The value is how often it names the label, over shares and repeats; its
    mean over images is the paper's mean test accuracy. Maps that find the evidence leave little to
    learn from. KAR replaces the least relevant pixels instead.

    Attributes:
        keep: False removes the most relevant pixels (ROAR), True keeps them (KAR).
        repeats: how often each model is trained, from other seeds.
        imputer: what takes the place of removed pixels; one that does not look at what is left.
    """

    keep: bool = False
    repeats: int = 1
    imputer: str = "mean"

    card: ClassVar[MetricCard] = MetricCard(
        name="roar",
        summary="Accuracy of models trained anew without the most relevant 10 to 90 % of pixels.",
        paper="Hooker et al., A benchmark for interpretability methods in deep neural networks, "
        "NeurIPS 2019",
        limitations="Trains 5 x repeats models a method; redundant evidence hides what was "
        "important; favors blurred maps; a mask that depends on the class can itself tell it.",
        property="faithfulness",
        direction="lower",
        range=(0.0, 1.0),
        needs=("model", "labels", "retraining"),
        forwards="5 * repeats",
        trainings="5 * repeats",
        invariances=("monotone", "scale", "shift"),
        chance="the random control",
    )

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ParameterError(f"repeats is at least 1, not {self.repeats}.")
        if self.imputer not in STATIC:
            raise ParameterError(
                f"roar replaces pixels by a fixed picture ({', '.join(STATIC)}), "
                f"not '{self.imputer}'."
            )

    def supports(self, case: Case) -> str | None:
        """Refuses cases without training images."""
        if case.retraining is None:
            return "There are no training images to train the model anew on."
        return None if case.labels is not None else "There are no labels."

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Share of models that are right, per image; curve `right` over the shares removed."""
        if case.retraining is None or case.labels is None:
            raise UnsupportedError(str(self.supports(case)))
        maps, finite = sound_maps(case)
        columns: list[Tensor] = []
        for share in SHARES:
            test = self._changed(case.images, maps, share, case.model, streams)
            right = torch.zeros(len(case), dtype=torch.float64)
            for repeat in range(self.repeats):
                model = self._trained(case.retraining, share, repeat, case.model, streams)
                top = model.logits(test).argmax(dim=1).cpu()
                right = right + (top == case.labels.cpu()).double() / self.repeats
            columns.append(right)
        curve = torch.stack(columns, dim=1)
        known = case.labels.cpu() >= 0
        return blank_where(
            finite & known,
            curve.mean(dim=1),
            curves={"right": curve},
            reason="the label is unknown, or the map is not finite",
        )

    def _trained(
        self, data: Retraining, share: float, repeat: int, model: Classifier, streams: Streams
    ) -> Classifier:
        own = Streams(streams.seed, data.ids, repetition=streams.repetition)
        images = self._changed(data.images, data.maps(), share, model, own)
        key = (self.keep, self.imputer, share)
        return data.train(key, images, seed=streams.repetition * self.repeats + repeat)

    def _changed(
        self, images: Tensor, maps: Tensor, share: float, model: Classifier, streams: Streams
    ) -> Tensor:
        """Images without their most (or least) relevant pixels."""
        ranks = pixel_order(maps, streams)
        pixels = ranks.shape[1]
        ranks = pixels - 1 - ranks if self.keep else ranks
        drop = (ranks < round(share * pixels)).view(-1, 1, *images.shape[-2:])
        fills = make_imputer(self.imputer, images, mean=mean_color(model), streams=streams.shared())
        return fills(torch.arange(len(images), device=images.device), drop)


METRICS.preset(
    "kar",
    Roar,
    card={
        "summary": "Accuracy of models trained anew with only the most relevant pixels kept.",
        "direction": "higher",
    },
    keep=True,
)
