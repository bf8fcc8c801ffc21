"""Boards of one property each."""

from dataclasses import dataclass
from typing import ClassVar

from xbench.contracts import Board, BoardCard
from xbench.contracts.boards import GATES
from xbench.registry import LEADERBOARDS


@LEADERBOARDS.register
@dataclass(frozen=True)
class Faithfulness(Board):
    """Whether the pixels that a method calls important are those that the model uses."""

    card: ClassVar[BoardCard] = BoardCard(
        name="faithfulness",
        summary="Do the pixels that a map calls important change the model's output?",
        limitations="Metrics that remove pixels leave the data's distribution, each in its way.",
        properties=("faithfulness",),
        gates=("controls", "valid"),
    )


@LEADERBOARDS.register
@dataclass(frozen=True)
class Sanity(Board):
    """Who passes the sanity checks; there is no order among those who do."""

    card: ClassVar[BoardCard] = BoardCard(
        name="sanity",
        summary="Does the map depend on the weights, on the class, and say more than a control?",
        paper="Adebayo et al. 2018; Binder et al. 2023 on why this must not rank",
        kind="gates",
        properties=("randomization",),
        gates=GATES,
        ties="All methods that fail no gate share place 1.",
    )


@LEADERBOARDS.register
@dataclass(frozen=True)
class Robustness(Board):
    """Whether small changes of the image leave the map alone."""

    card: ClassVar[BoardCard] = BoardCard(
        name="robustness",
        summary="Do small changes that leave the prediction leave the map, too?",
        limitations="A map that never changes is perfectly robust: read it next to faithfulness.",
        properties=("robustness",),
        gates=GATES,
    )


@LEADERBOARDS.register
@dataclass(frozen=True)
class Localization(Board):
    """Whether maps point at the object; also the use of finding objects with maps."""

    card: ClassVar[BoardCard] = BoardCard(
        name="localization",
        summary="Finding the object: does the map point at what the class stands for?",
        limitations="A model may use the context; then a faithful map does not localize.",
        properties=("localization",),
        gates=GATES,
    )


@LEADERBOARDS.register
@dataclass(frozen=True)
class Agreement(Board):
    """How far methods agree with each other; agreement is no merit."""

    card: ClassVar[BoardCard] = BoardCard(
        name="agreement",
        summary="How far do the maps of different methods agree, and how concentrated are they?",
        kind="table",
        properties=("agreement", "complexity"),
        gates=(),
        ties="Nothing is ranked: these figures describe.",
    )


@LEADERBOARDS.register
@dataclass(frozen=True)
class Efficiency(Board):
    """What a map costs in model calls, among methods that are worth it."""

    card: ClassVar[BoardCard] = BoardCard(
        name="efficiency",
        summary="How many model calls does a map need, among methods that beat the controls?",
        metrics=("calls",),
        gates=("controls", "valid"),
    )
