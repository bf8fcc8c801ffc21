"""The contracts of metrics: what they see, what they say, and how they explain again."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from xbench.contracts.cards import MetricCard, cost_of, parameters
from xbench.contracts.data import Samples
from xbench.contracts.methods import Method
from xbench.cost import Cost, evaluate
from xbench.streams import Streams

if TYPE_CHECKING:
    from xbench.classifier import Classifier

Status = Literal["ok", "undefined", "unsupported", "invalid", "error"]


class Bank:
    """A memo of work shared by all methods on one batch of images: computed once, by name."""

    def __init__(self) -> None:
        self._entries: dict[object, Any] = {}

    def get(self, key: object, compute: Any) -> Any:
        """The entry under `key`, computed by the call `compute()` the first time."""
        if key not in self._entries:
            self._entries[key] = compute()
        return self._entries[key]


class Explain(Protocol):
    """The bound explanation of a case: same method, same draws, other inputs or another model."""

    def __call__(
        self,
        images: Tensor,
        *,
        model: "Classifier | None" = None,
        targets: Tensor | None = None,
        rows: Tensor | None = None,
        call: str = "",
    ) -> Tensor:
        """Maps of `images` (R, C, H, W).

        Args:
            images: perturbed copies; row r belongs to image `rows[r]` of the case.
            model: another classifier (randomized weights), default the case's own.
            targets: classes (R,), default those of the case.
            rows: int64 (R,), default range(N).
            call: names the call, so that controls are re-seeded; see `Streams.call`.
        """


class Retraining(Protocol):
    """What metrics that train the model anew need; bound to the method of the case.

    Attributes:
        images: the training images, float32 (M, C, H, W) in [0, 1].
        ids: one identifier a training image.
    """

    @property
    def images(self) -> Tensor:
        """The training images."""

    @property
    def ids(self) -> Sequence[str]:
        """Their identifiers."""

    def maps(self) -> Tensor:
        """The method's maps of the training images for their labels, float32 (M, H, W)."""

    def train(self, key: object, images: Tensor, *, seed: int) -> "Classifier":
        """The model, freshly initialized and trained on other versions of the training images.

        Args:
            key: names these versions; the same key is trained once.
            images: (M, C, H, W), in the order of `images`.
            seed: of the initialization and of the order of the images.
        """


@dataclass(frozen=True)
class Case:
    """What a metric sees of one method on one batch of images.

    Attributes:
        model: the classifier under test.
        images: float32 (N, C, H, W) in [0, 1].
        targets: int64 (N,), the class explained.
        maps: float32 (N, H, W).
        explain: explains other inputs, or another model, with the same method and the same draws.
        image_ids: one identifier an image.
        truth: bool (N, H, W), the pixels that count, or None.
        truth_defined: bool (N,), images that have a truth; all where None.
        labels: int64 (N,), the true class (-1 unknown), or None.
        twin: the classifier trained on permuted labels, or None.
        method: the method that made the maps, None for maps from outside.
        bank: work that does not depend on the map, shared by all methods on these images.
        extras: further masks of the dataset by name (distractors, watermark), bool (N, H, W).
        pool: confident images of the run with the class that each is taken for, from which mosaics
            take partners; the same for every batch, or None. See `xbench.operations.mosaics`.
        retraining: training images and a way to train the model anew on changed ones, or None.
    """

    model: "Classifier"
    images: Tensor
    targets: Tensor
    maps: Tensor
    explain: "Explain"
    image_ids: Sequence[str]
    truth: Tensor | None = None
    truth_defined: Tensor | None = None
    labels: Tensor | None = None
    twin: "Classifier | None" = None
    method: Method | None = None
    bank: "Bank" = field(default_factory=lambda: Bank())
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    pool: "Samples | None" = None
    retraining: "Retraining | None" = None

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def with_maps(self, maps: Tensor) -> "Case":
        """The same case with other maps."""
        return replace(self, maps=maps)


@dataclass(frozen=True)
class Scores:
    """What a metric says, per image.

    Attributes:
        values: float64 (N,).
        defined: bool (N,); where False the value is not a number, and it is counted, not averaged.
        curves: further series per image by name, float64 (N, K).
        details: further single values per image by name, float64 (N,); recorded as
            `metric/name`, NaN where undefined.
        reason: why images are undefined, one sentence for all.
    """

    values: Tensor
    defined: Tensor
    curves: Mapping[str, Tensor] = field(default_factory=dict)
    details: Mapping[str, Tensor] = field(default_factory=dict)
    reason: str = ""

    @staticmethod
    def of(
        values: Tensor,
        *,
        curves: Mapping[str, Tensor] | None = None,
        details: Mapping[str, Tensor] | None = None,
        reason: str = "",
    ) -> "Scores":
        """Scores whose undefined entries are the values that are not finite."""
        values = values.detach().to("cpu", torch.float64)
        defined = torch.isfinite(values)
        return Scores(
            values=values.masked_fill(~defined, float("nan")),
            defined=defined,
            curves={k: v.detach().to("cpu", torch.float64) for k, v in (curves or {}).items()},
            details={k: v.detach().to("cpu", torch.float64) for k, v in (details or {}).items()},
            reason=reason,
        )


@dataclass(frozen=True)
class Metric(ABC):
    """A metric: a frozen dataclass of hyper-parameters over a pure function of a case."""

    card: ClassVar[MetricCard]

    @abstractmethod
    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Scores of the case's maps, one an image.

        Streams are scoped to this metric, so that all methods meet the same draws.
        """

    def supports(self, case: Case) -> str | None:
        """None if the metric is defined for such a case, else the reason, a sentence."""
        return None

    def cost(self, facts: Mapping[str, object]) -> Cost:
        """Model calls an image without those of `explains`."""
        return cost_of(self, self.card.forwards, self.card.backwards, "0", facts)

    def explains(self, facts: Mapping[str, object]) -> float:
        """How often an image is explained anew."""
        return evaluate(self.card.explains, {**facts, **parameters(self)})

    def trainings(self, facts: Mapping[str, object]) -> float:
        """How many models are trained a method, for all images together."""
        return evaluate(self.card.trainings, {**facts, **parameters(self)})

    def shared(self, facts: Mapping[str, object]) -> float:
        """Forwards of `cost` that the bank saves every method but the first."""
        return evaluate(self.card.shared, {**facts, **parameters(self)})


@dataclass(frozen=True)
class PairMetric(ABC):
    """A metric of two methods' maps of the same images; it needs no model."""

    card: ClassVar[MetricCard]

    @abstractmethod
    def compare(self, first: Tensor, second: Tensor, *, streams: Streams) -> Scores:
        """Scores of two stacks of maps (N, H, W); symmetric in them."""
