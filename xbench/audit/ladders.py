"""Ladders: maps whose order of quality is known because they are made from the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard, TruthMethod
from xbench.cost import Cost
from xbench.names import write
from xbench.registry import METHODS, Chosen, Entry
from xbench.streams import Streams

RUNGS: Final = ("best", "near", "poor", "worst")


@dataclass(frozen=True)
class Ladder:
    """Maps on four rungs; a map on a higher rung is better by construction.

    Attributes:
        name: of the ladder.
        says: what its rungs are, best first, in words.
        rungs: the maps on each of `RUNGS`.
    """

    name: str
    says: str
    rungs: tuple[tuple[Chosen[Method], ...], ...]

    @property
    def methods(self) -> list[Chosen[Method]]:
        """All maps."""
        return [method for rung in self.rungs for method in rung]


@dataclass(frozen=True)
class Damaged(TruthMethod):
    """The truth with a known damage.

    Attributes:
        damage: "half": the lower half of its pixels is missing; "shifted": moved by a 16th of the
            image's sides.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="damaged", summary="The truth, damaged.", family="control", needs=("truth",)
    )
    damage: str = "half"

    def from_truth(self, truth: Tensor) -> Tensor:
        """See the class."""
        if self.damage == "shifted":
            height, width = truth.shape[-2:]
            return truth.roll((height // 16, width // 16), dims=(-2, -1)).float()
        order = truth.flatten(1).cumsum(dim=1)
        kept = truth.flatten(1) & (2 * order <= order[:, -1:] + 1)
        return kept.reshape(truth.shape).float()


@dataclass(frozen=True)
class Blend(Method):
    """(1 - share) of the gradient and `share` of the edges of the image, each at unit spread.

    The gradient reads the model, the edges do not: the larger the share, the blinder the map.

    Attributes:
        share: of the edges, between 0 and 1.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="blend", summary="Gradient and edges, mixed.", family="control", needs=("gradients",)
    )
    share: float = 0.5

    def cost(self, facts: Mapping[str, object]) -> Cost:
        """What the gradient costs, if it is in it."""
        return METHODS.create("gradient").value.cost(facts) if self.share < 1 else Cost()

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        mixed = torch.zeros_like(images[:, 0])
        for name, weight in (("gradient", 1 - self.share), ("edges", self.share)):
            if weight > 0:
                one = METHODS.create(name).value
                part = one.explain(model, images, targets, streams=streams)
                spread = part.flatten(1).std(dim=1)[:, None, None]
                mixed += weight * part / spread.clamp(min=1e-12)
        return mixed


@dataclass(frozen=True)
class Shaky(Method):
    """(1 - share) of a fixed map and `share` of noise that is drawn anew at every call.

    Attributes:
        share: of the noise, between 0 and 1.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="shaky", summary="A fixed map with fresh noise.", family="control", stochastic=True
    )
    share: float = 0.1

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        steady = METHODS.create("center_prior").value.explain(
            model, images, targets, streams=streams
        )
        noise = streams.fresh().normal(images.shape[-2:], "shaky").to(images)
        spread = steady.flatten(1).std(dim=1)[:, None, None]
        return (1 - self.share) * steady / spread + self.share * noise


def chosen(value: Method) -> Chosen[Method]:
    """A method that stands in no catalogue, with its names."""
    label = write(value.card.name, dict(value.settings()))  # type: ignore[arg-type]
    entry: Entry[Method] = Entry(value.card.name, type(value), {}, value.card, __name__)
    return Chosen(label=label, identity=label, value=value, card=value.card, entry=entry)


def truth_ladder() -> Ladder:
    """The truth, the truth damaged, noise, and the opposite of the truth."""
    return Ladder(
        "truth",
        "the mask of what counts > half of it, or all of it beside its place > pixel noise, or "
        "smooth noise > everything but the mask",
        (
            (METHODS.create("oracle"),),
            (chosen(Damaged("half")), chosen(Damaged("shifted"))),
            (METHODS.create("random"), METHODS.create("random_smooth")),
            (METHODS.create("oracle_inverse"),),
        ),
    )


def reading_ladder() -> Ladder:
    """Maps that read the model, less and less."""
    return Ladder(
        "reading",
        "the gradient > a quarter of edges in it > three quarters of edges > edges of the image, "
        "which no weight can change",
        tuple((chosen(Blend(share)),) for share in (0.0, 0.25, 0.75, 1.0)),
    )


def steady_ladder() -> Ladder:
    """Maps that change from call to call, more and more."""
    return Ladder(
        "steady",
        "a fixed map > with a fifth of noise drawn anew at every call > half > noise alone",
        tuple((chosen(Shaky(share)),) for share in (0.0, 0.2, 0.5, 1.0)),
    )
