"""Boards: what is ranked, by which metrics, behind which gates; also what a use asks for."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from xbench.contracts.cards import Card

BoardKind = Literal["ranks", "gates", "table"]
GATES = ("cascading_randomization", "label_randomization", "class_sensitivity", "controls", "valid")
NEVER_RANKED = ("randomization", "agreement", "complexity")
TIE_RULE = (
    "A method's place is one more than the number of methods shown to be better (paired Wilcoxon "
    "over images, Holm over all pairs, p < 0.05)."
)


@dataclass(frozen=True, kw_only=True)
class BoardCard(Card):
    """Card of a board.

    Metrics are combined as ranks: methods are ranked per image and metric, ranks are averaged over
    the metrics of a property, then over properties, then over images.

    Attributes:
        kind: "ranks" gives places by mean rank; "gates" says who passes, without an order among
            those; "table" only describes.
        properties: properties whose metrics belong to the board.
        metrics: further metrics by name or glob; "calls" and "seconds" are the cost of a map.
        without: metrics by name or glob to leave out.
        gates: a method that fails one of them has no place and is never recommended.
        required: gates that must have been tested, too; "not tested" blocks like "fail".
        max_calls: model calls a map may need, None for no limit.
        deterministic: whether methods that depend on random draws are left out.
        ties: when methods share a place.
    """

    kind: BoardKind = "ranks"
    properties: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    gates: tuple[str, ...] = GATES
    required: tuple[str, ...] = ()
    max_calls: float | None = None
    deterministic: bool = False
    ties: str = TIE_RULE


@dataclass(frozen=True)
class Board:
    """A board of the catalogue; a board of one's own is a subclass with a card, in one file.

    Attributes:
        alpha: significance level of gates and ties, after correction.
        min_images: with fewer images, ranks are called preliminary.
    """

    alpha: float = 0.05
    min_images: int = 32

    card: ClassVar[BoardCard]
