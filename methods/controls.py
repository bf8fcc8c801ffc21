"""Controls: maps that explain nothing, the yardsticks that every method must beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard, TruthMethod
from xbench.cost import Cost
from xbench.errors import ParameterError
from xbench.operations.pixels import upsample
from xbench.registry import METHODS, Chosen
from xbench.streams import Streams


@METHODS.register
@dataclass(frozen=True)
class Random(Method):
    """Standard normal noise, one independent draw a pixel.

    Every other input, model or call gets new noise, so the map neither survives a perturbation
    of the image nor a randomization of the model, and is no better than chance anywhere.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="random",
        summary="Gaussian noise a pixel, drawn anew for every input and model.",
        paper="Adebayo et al., Sanity Checks for Saliency Maps, 2018",
        limitations="A control: it explains nothing.",
        family="control",
        stochastic=True,
        class_agnostic=True,
    )

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        return streams.fresh().normal(images.shape[-2:], "random").to(images)


@METHODS.register
@dataclass(frozen=True)
class RandomSmooth(Method):
    """Coarse normal noise, bilinearly enlarged: as smooth as a CAM, as ignorant as `random`.

    Attributes:
        grid: cells along the shorter side; the longer side has as many more as it is longer.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="random_smooth",
        summary="Noise on a 7x7 grid, bilinearly enlarged; drawn anew for every input and model.",
        limitations="A control: it explains nothing. Smooth maps fare better in insertion and "
        "worse in deletion than pixel noise, whatever they show.",
        family="control",
        stochastic=True,
        class_agnostic=True,
    )
    grid: int = 7

    def __post_init__(self) -> None:
        if self.grid < 1:
            raise ParameterError(f"grid must be at least 1, not {self.grid}.")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        height, width = images.shape[-2:]
        cell = min(height, width) / self.grid
        shape = (max(1, round(height / cell)), max(1, round(width / cell)))
        noise = streams.fresh().normal(shape, "random_smooth").to(images)
        return upsample(noise, (height, width))


@METHODS.register
@dataclass(frozen=True)
class CenterPrior(Method):
    """exp(-(u^2 + v^2) / (2 sigma^2)) with u, v the offsets from the center in image sides.

    Attributes:
        sigma: width of the Gaussian as a share of each side.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="center_prior",
        summary="A Gaussian at the center of the image, whatever it shows.",
        limitations="A control: photographers put objects into the center, so it does well on "
        "localization without looking.",
        family="control",
        signed=False,
        class_agnostic=True,
    )
    sigma: float = 0.25

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ParameterError(f"sigma must be above 0, not {self.sigma}.")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        height, width = images.shape[-2:]
        windows = []
        for size in (height, width):
            offset = (torch.arange(size, device=images.device) + 0.5) / size - 0.5
            windows.append(torch.exp(-0.5 * (offset / self.sigma).square()))
        one = windows[0][:, None] * windows[1][None, :]
        return one.to(images.dtype).expand(images.shape[0], -1, -1).clone()


@METHODS.register
@dataclass(frozen=True)
class Edges(Method):
    """Magnitude of the Sobel gradient, sqrt(Gx^2 + Gy^2), of the mean over channels."""

    card: ClassVar[MethodCard] = MethodCard(
        name="edges",
        summary="Sobel edges of the gray image, both axes.",
        paper="Adebayo et al., Sanity Checks for Saliency Maps, 2018",
        limitations="A control: it sees the image and never the model; maps that look like it "
        "may know no more.",
        family="control",
        signed=False,
        class_agnostic=True,
    )

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        gray = F.pad(images.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
        kernels = torch.stack([across, across.T])[:, None].to(images)
        return F.conv2d(gray, kernels).square().sum(dim=1).sqrt()


@METHODS.register
@dataclass(frozen=True)
class Intensity(Method):
    """The mean over channels: bright pixels are called relevant."""

    card: ClassVar[MethodCard] = MethodCard(
        name="intensity",
        summary="The gray image itself.",
        limitations="A control: it sees the image and never the model; where the background is "
        "black it does well on localization.",
        family="control",
        signed=False,
        class_agnostic=True,
    )

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        return images.mean(dim=1)


@METHODS.register
@dataclass(frozen=True)
class Inverse(Method):
    """-R for the map R of another method: what it calls relevant comes last.

    A metric of which a method and its inverse get the same is blind to that method.

    Attributes:
        of: name of the other method, for example `inverse:gradient` or
            `inverse[of=smoothgrad[n_samples=5]]`; it makes the same draws as by itself.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="inverse",
        summary="The negated map of another method.",
        limitations="A control: it is as wrong as the other method is right. Costs what the "
        "other costs.",
        family="control",
        stochastic=True,
    )
    of: str

    def __post_init__(self) -> None:
        other = self._other()
        if "truth" in other.card.needs:
            raise ParameterError("The inverse of the truth is `oracle_inverse`.")

    def _other(self) -> Chosen[Method]:
        return METHODS.create(self.of)

    def supports(self, model: Classifier) -> str | None:
        """What the other method says."""
        return self._other().value.supports(model)

    def cost(self, facts: Mapping[str, object]) -> Cost:
        """What the other method costs."""
        return self._other().value.cost(facts)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        other = self._other()
        streams = streams.scoped(other.identity)
        return -other.value.explain(model, images, targets, streams=streams)


@METHODS.register
@dataclass(frozen=True)
class Oracle(TruthMethod):
    """1 on the pixels that count, 0 elsewhere; nothing where the image has no truth.

    Attributes:
        inverted: 1 on all other pixels instead.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="oracle",
        summary="The truth itself, where the data has it.",
        limitations="A control: the best that localization can be; it says where the object is, "
        "not what the model looks at.",
        family="control",
        needs=("truth",),
        signed=False,
    )
    inverted: bool = False

    def from_truth(self, truth: Tensor) -> Tensor:
        """See the class."""
        return (~truth).float() if self.inverted else truth.float()


METHODS.preset(
    "oracle_inverse",
    Oracle,
    card={
        "summary": "All but the truth: the worst that localization can be.",
        "limitations": "A control: a metric that does not put it below chance says nothing.",
    },
    inverted=True,
)
