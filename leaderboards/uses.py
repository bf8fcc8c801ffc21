"""Boards that combine properties for a use: what to trust, and for what."""

from dataclasses import dataclass
from typing import ClassVar

from xbench.contracts import Board, BoardCard
from xbench.registry import LEADERBOARDS


@LEADERBOARDS.register
@dataclass(frozen=True)
class Overall(Board):
    """All properties that rank, in equal parts, behind all gates."""

    card: ClassVar[BoardCard] = BoardCard(
        name="overall",
        summary="Faithfulness, localization and robustness in equal parts, behind all gates.",
        limitations="Equal parts are a convention; the recommendation says if it would flip.",
        properties=("faithfulness", "localization", "robustness"),
    )


LEADERBOARDS.preset(
    "general", Overall, card={"summary": "General use: all properties in equal parts."}
)


@LEADERBOARDS.register
@dataclass(frozen=True)
class Debugging(Board):
    """Finding out why a model errs: what it really used, first of all."""

    card: ClassVar[BoardCard] = BoardCard(
        name="debugging",
        summary="Debugging a model: faithful maps that depend on its weights and on the class.",
        properties=("faithfulness",),
        required=("cascading_randomization", "class_sensitivity"),
    )


@LEADERBOARDS.register
@dataclass(frozen=True)
class Audit(Board):
    """Evidence for others: reproducible, robust, and every gate tested."""

    card: ClassVar[BoardCard] = BoardCard(
        name="audit",
        summary="Audit: faithful and robust maps that come out the same each time, gates tested.",
        properties=("faithfulness", "robustness"),
        required=("cascading_randomization", "class_sensitivity", "controls"),
        deterministic=True,
    )


@LEADERBOARDS.register
@dataclass(frozen=True)
class Interactive(Board):
    """Maps on demand: the best that few model calls buy."""

    card: ClassVar[BoardCard] = BoardCard(
        name="interactive",
        summary="Interactive use: the best maps for at most 20 model calls an image.",
        properties=("faithfulness", "localization", "robustness"),
        max_calls=20,
    )
