"""Advice as data: which method for a use, which never, how firm, and what would settle it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from xbench.statistics.fragility import Fragility
from xbench.statistics.pareto import Point

CHEAP = 20
"""Model calls of a map that still feels immediate; the advice names the best method below."""


@dataclass(frozen=True)
class Refusal:
    """A method that is not to be used.

    Attributes:
        gate: what it failed.
        verdict: "fail", or "not tested" where the use requires the test.
        reason: the figure, in words.
    """

    method: str
    gate: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Recommendation:
    """Advice for one use; everything that the sentences say, as data.

    Attributes:
        use: name of the board that describes the use.
        summary: what the use asks for.
        pick: the advised method; None where none may be advised.
        tied: methods that may be advised as well and are not shown to be worse, best first.
        cheap: the best method of at most `CHEAP` calls, where the pick needs more.
        refused: explainers behind a failed gate, the best ranked first.
        left_out: explainers that are out for another reason: cost, draws, missing values.
        images: in the run.
        preliminary: whether that is too few to rely on the order.
        fragility: how firmly the advice stands; None without a pick.
        settle: what data would settle what is open.
        cautions: what favors the pick for a reason of the protocol.
        pareto: skill against cost of every ranked method.
        sentences: the advice in 2 to 4 sentences.
    """

    use: str
    summary: str
    pick: str | None
    tied: tuple[str, ...]
    cheap: str | None
    refused: tuple[Refusal, ...]
    left_out: Mapping[str, str]
    images: int
    preliminary: bool
    fragility: Fragility | None
    settle: tuple[str, ...]
    cautions: tuple[str, ...]
    pareto: tuple[Point, ...]
    sentences: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The sentences as one paragraph."""
        return " ".join(self.sentences)

    def _repr_html_(self) -> str:
        """The sentences and the cautions, for notebooks."""
        parts = [*self.sentences, *(f"Caution: {caution}." for caution in self.cautions)]
        return "".join(f"<p>{escape(part)}</p>" for part in parts)

    def data(self) -> dict[str, Any]:
        """Everything as plain data, NaN as None."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
