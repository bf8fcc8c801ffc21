"""The contract of a saliency method."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from xbench.contracts.cards import MethodCard, cost_of, parameters
from xbench.cost import Cost
from xbench.errors import InvalidMapError, UnsupportedError
from xbench.streams import Streams

if TYPE_CHECKING:
    from xbench.classifier import Classifier


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
        return cost_of(self, self.card.forwards, self.card.backwards, self.card.tails, facts)

    def settings(self) -> dict[str, object]:
        """Every hyper-parameter by name, as they are exported beside the maps."""
        return parameters(self)


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


_ADVICE = "return one value a pixel, for example maps.sum(dim=1) over channels"


def _as_tensor(found: object) -> str:
    if found is None:
        return "end it with `return maps`"
    if type(found).__module__ == "numpy":
        return "return torch.from_numpy(maps).to(images)"
    return "return a float tensor (N, H, W)"


def check_maps(maps: Tensor, images: Tensor, label: str) -> Tensor:
    """The maps as float32, detached, or a refusal that says what is wrong with them.

    Raises:
        InvalidMapError: wrong type, shape, device or non-finite values.
    """
    if not isinstance(maps, Tensor):
        raise InvalidMapError(
            f"{label} returned {type(maps).__name__}, not a tensor; {_as_tensor(maps)}."
        )
    expected = (images.shape[0], images.shape[2], images.shape[3])
    if tuple(maps.shape) != expected:
        thin = tuple(maps.shape) == (expected[0], 1, *expected[1:])
        raise InvalidMapError(
            f"{label} returned maps of shape {tuple(maps.shape)}; expected {expected}, "
            f"one value a pixel at input resolution: {'.squeeze(1)' if thin else _ADVICE}."
        )
    if maps.device != images.device:
        raise InvalidMapError(
            f"{label} returned maps on {maps.device}, not on {images.device}; create tensors with "
            "device=images.device or return maps.to(images.device)."
        )
    maps = maps.detach().to(torch.float32)
    if not bool(torch.isfinite(maps).all()):
        bad = int((~torch.isfinite(maps.flatten(1)).all(dim=1)).sum())
        raise InvalidMapError(
            f"{label} returned NaN or infinite values on {bad} images; guard divisions and "
            "logarithms, for example by .clamp(min=1e-12), and return 0 where nothing is said."
        )
    return maps
