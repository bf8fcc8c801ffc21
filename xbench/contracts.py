"""The contracts that every part of the suite stands on: cards, method, metric, case, scores, data.

Pixels: images are float32 (N, C, H, W) with C 3 or 1, in [0, 1], never normalized; the classifier
normalizes inside. A map is float32 (N, H, W), signed where the method is signed, raw, finite.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from xbench.cost import Cost, evaluate
from xbench.errors import InvalidMapError, UnsupportedError
from xbench.streams import Streams

if TYPE_CHECKING:
    from xbench.classifier import Classifier

Direction = Literal["higher", "lower", "none"]
Status = Literal["ok", "undefined", "unsupported", "invalid", "error"]


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a catalogue entry says of itself, declared once; tables, docs and plans read it."""

    name: str
    summary: str
    paper: str = ""
    limitations: str = ""


@dataclass(frozen=True, kw_only=True)
class MethodCard(Card):
    """Card of a saliency method.

    Attributes:
        family: gradient, path, cam, perturbation, surrogate, relevance, attention or control.
        needs: what must be there: "gradients", "convolution", "attention", "relu", "truth" ...
        signed: whether negative values mean evidence against the class.
        stochastic: whether the map depends on random draws.
        class_agnostic: whether the map is the same whichever class is asked for.
        forwards, backwards, tails: cost formulas an image, over the hyper-parameters and
            `height`, `width`, `classes`, `channels` (of the target layer), see `xbench.cost`.
        baseline: the fill that the method compares with ("black", "mean", "blur"), if any; a
            removal metric with the same fill favors it.
    """

    family: str
    needs: tuple[str, ...] = ()
    signed: bool = True
    stochastic: bool = False
    class_agnostic: bool = False
    forwards: str = "0"
    backwards: str = "0"
    tails: str = "0"
    baseline: str = ""

    @property
    def control(self) -> bool:
        """Whether this is no explanation but a yardstick that every grid carries."""
        return self.family == "control"


@dataclass(frozen=True, kw_only=True)
class MetricCard(Card):
    """Card of a metric.

    Attributes:
        property: faithfulness, randomization, robustness, localization, agreement, complexity,
            axioms or efficiency.
        direction: whether a higher or a lower value is better; "none" for descriptive metrics.
        range: smallest and largest possible value (may be infinite).
        needs: "model", "truth", "explain", "labels", "twin", "pair" ...
        forwards, backwards, explains: cost formulas an image; `explains` counts calls of the
            method, whose own cost comes on top.
        shared: the part of `forwards` that does not depend on the map: paid once an image, by the
            first method, and kept in the bank for all others.
        invariances: transforms of a map that leave the score: "monotone", "scale", "shift", "sign".
        chance: what a random map gets, in words.
        default: whether `--metrics default` includes it.
        gate: the sanity gate that this metric feeds, if any.
    """

    property: str
    direction: Direction
    range: tuple[float, float]
    needs: tuple[str, ...] = ()
    forwards: str = "0"
    backwards: str = "0"
    explains: str = "0"
    shared: str = "0"
    invariances: tuple[str, ...] = ()
    chance: str = ""
    default: bool = False
    gate: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetCard(Card):
    """Card of an image source: what it needs on disk and what truth it brings."""

    argument: str = ""
    layout: str = ""
    labels: bool = True
    truth: str = ""


@dataclass(frozen=True)
class Method(ABC):
    """A saliency method: a frozen dataclass of hyper-parameters.

    Subclasses set `card` and implement `explain`; a model that the method cannot be right on is
    refused in `supports` with a sentence.
    """

    card: ClassVar[MethodCard]

    @abstractmethod
    def explain(
        self, model: "Classifier", images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Maps of the evidence for each image's target class.

        Args:
            model: the classifier under test, on its device; leave it as found.
            images: float32 (N, C, H, W) in [0, 1], on the model's device.
            targets: int64 (N,), the class asked for, one an image.
            streams: the only source of randomness.

        Returns:
            float32 (N, H, W), raw, finite, at input resolution.
        """

    def supports(self, model: "Classifier") -> str | None:
        """None if the method is right on this model, else the reason why not, a sentence."""
        return None

    def cost(self, facts: Mapping[str, object]) -> Cost:
        """Model calls an image, from the card's formulas; `facts` gives height, width, classes."""
        return _cost(self, self.card.forwards, self.card.backwards, self.card.tails, facts)

    def settings(self) -> dict[str, object]:
        """Every hyper-parameter by name, as they are exported beside the maps."""
        return _parameters(self)


@runtime_checkable
class Complete(Protocol):
    """A method whose maps promise to sum to a known difference of logits (completeness)."""

    def residual(
        self,
        model: "Classifier",
        images: Tensor,
        targets: Tensor,
        maps: Tensor,
        *,
        streams: Streams,
    ) -> Tensor:
        """How far each map is from its promise: |sum - difference| / |difference|.

        The maps (N, H, W) are those that `explain` returned for the other arguments.

        Returns:
            float64 (N,), at least 0; NaN where the difference is 0 or the reading of the map
            (magnitudes) does not keep the promise. Costs forward passes of its own.
        """


@dataclass(frozen=True)
class TruthMethod(Method):
    """A control that is made from the truth itself; its card needs "truth".

    The runner, who alone has the truth, calls `from_truth` where it calls `explain` of others.
    """

    @abstractmethod
    def from_truth(self, truth: Tensor) -> Tensor:
        """Maps float32 (N, H, W) of masks bool (N, H, W)."""

    def explain(
        self, model: "Classifier", images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Refuses: a method that looks at images and model knows no truth.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError(
            f"The map of '{self.card.name}' is the truth itself; it exists only for data that "
            "brings masks of what counts."
        )


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


class Bank:
    """A memo of work shared by all methods on one batch of images: computed once, by name."""

    def __init__(self) -> None:
        self._entries: dict[object, Any] = {}

    def get(self, key: object, compute: Any) -> Any:
        """The entry under `key`, computed by the call `compute()` the first time."""
        if key not in self._entries:
            self._entries[key] = compute()
        return self._entries[key]


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
        return _cost(self, self.card.forwards, self.card.backwards, "0", facts)

    def explains(self, facts: Mapping[str, object]) -> float:
        """How often an image is explained anew."""
        return evaluate(self.card.explains, {**facts, **_parameters(self)})

    def shared(self, facts: Mapping[str, object]) -> float:
        """Forwards of `cost` that the bank saves every method but the first."""
        return evaluate(self.card.shared, {**facts, **_parameters(self)})


@dataclass(frozen=True)
class PairMetric(ABC):
    """A metric of two methods' maps of the same images; it needs no model."""

    card: ClassVar[MetricCard]

    @abstractmethod
    def compare(self, first: Tensor, second: Tensor, *, streams: Streams) -> Scores:
        """Scores of two stacks of maps (N, H, W); symmetric in them."""


@dataclass(frozen=True)
class Geometry:
    """How a file becomes the classifier's input: resize the short side, crop the center, scale.

    Attributes:
        crop: height and width of the input, None to keep the file's own.
        resize: the short side before cropping, None for no resizing.
        interpolation: "bilinear", "bicubic" or "nearest".
        channels: 3, or 1 for grey models.
    """

    crop: tuple[int, int] | None = None
    resize: int | None = None
    interpolation: str = "bilinear"
    channels: int = 3


@dataclass(frozen=True)
class Samples:
    """Images as read from a source.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,), -1 where unknown.
        ids: one stable identifier an image.
        truth: bool (N, H, W) or None.
        truth_defined: bool (N,) or None; images whose truth is known.
        extras: further masks by name.
    """

    images: Tensor
    labels: Tensor
    ids: Sequence[str]
    truth: Tensor | None = None
    truth_defined: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


class Source(ABC):
    """An opened image source: a fixed, ordered list of readable images.

    Attributes:
        name: what was asked for, as written.
        ids: stable identifiers in order, unreadable images already left out.
        labels: one class index an image, -1 where unknown.
        class_names: names by class index, empty where unknown.
        skipped: unreadable images by name, with the reason.
        digest: hash of what decides the content (files, seed, parameters).
    """

    name: str
    ids: Sequence[str]
    labels: Sequence[int]
    class_names: Sequence[str] = ()
    skipped: Mapping[str, str] = {}
    digest: str = ""

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Samples:
        """The images at these positions, in this order."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Dataset(ABC):
    """An image source: a frozen dataclass of where and what; opening it reads no pixels."""

    card: ClassVar[DatasetCard]

    @abstractmethod
    def open(
        self, geometry: Geometry, *, limit: int | None, seed: int, classes: int | None = None
    ) -> Source:
        """The images, ready to be read.

        Args:
            geometry: how images (and masks with them) are brought to the classifier's input.
            limit: at most so many images, chosen by the seed, balanced over classes.
            seed: the seed of that choice.
            classes: how many classes the model tells apart, to map labels by themselves.

        Raises:
            DataError: nothing there, or not in the expected layout; the message shows it.
        """


def check_maps(maps: Tensor, images: Tensor, label: str) -> Tensor:
    """The maps as float32, detached, or a refusal that says what is wrong with them.

    Raises:
        InvalidMapError: wrong type, shape, device or non-finite values.
    """
    if not isinstance(maps, Tensor):
        raise InvalidMapError(f"{label} returned {type(maps).__name__}, not a tensor.")
    expected = (images.shape[0], images.shape[2], images.shape[3])
    if tuple(maps.shape) != expected:
        raise InvalidMapError(
            f"{label} returned maps of shape {tuple(maps.shape)}; expected {expected}, "
            "one value a pixel at input resolution."
        )
    if maps.device != images.device:
        raise InvalidMapError(f"{label} returned maps on {maps.device}, not on {images.device}.")
    maps = maps.detach().to(torch.float32)
    if not bool(torch.isfinite(maps).all()):
        bad = int((~torch.isfinite(maps.flatten(1)).all(dim=1)).sum())
        raise InvalidMapError(f"{label} returned NaN or infinite values on {bad} images.")
    return maps


def _parameters(instance: object) -> dict[str, object]:
    return {f.name: getattr(instance, f.name) for f in fields(instance)}  # type: ignore[arg-type]


def _cost(
    instance: object, forwards: str, backwards: str, tails: str, facts: Mapping[str, object]
) -> Cost:
    values = {**facts, **_parameters(instance)}
    return Cost(*(evaluate(formula, values) for formula in (forwards, backwards, tails)))
