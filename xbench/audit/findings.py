"""What the literature and a pilot say must hold, and what this suite finds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xbench.statistics.intervals import mean_interval

Kind = Literal["hard", "soft"]


@dataclass(frozen=True)
class Finding:
    """One row: what must hold, what was found, whether it does.

    Attributes:
        id: of the row in the protocols, for example Y1.
        kind: "hard" rows must hold; "soft" ones are told.
        expected: the gate, in words.
        found: the figures, with their intervals.
        holds: None where it could not be measured.
        images: how many images it rests on.
        note: what a reader must know, for example why this network differs.
    """

    id: str
    kind: Kind
    expected: str
    found: str
    holds: bool | None
    images: int
    note: str = ""

    @property
    def verdict(self) -> str:
        """In words; a soft row that fails is `differs`."""
        if self.holds is None:
            return "skipped"
        if self.holds:  # a comparison of numpy's numbers is no Python bool
            return "holds"
        return "DOES NOT HOLD" if self.kind == "hard" else "differs"


class Found:
    """Values of a run by method, metric and image.

    Args:
        frame: records.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        values = pd.to_numeric(frame["value"], errors="coerce")
        self._values = frame.assign(value=values).set_index(["method", "metric"]).sort_index()

    def values(self, method: str, metric: str) -> pd.Series:
        """Values by image id, NaN where undefined; empty where the cell was not run."""
        try:
            rows = self._values.loc[[(method, metric)]]
        except KeyError:
            return pd.Series(dtype=float)
        return rows.set_index("image_id")["value"].astype(float)

    def mean(self, method: str, metric: str) -> float:
        """Mean over images where defined."""
        return float(self.values(method, metric).mean())

    def gap(self, first: str, second: str, metric: str) -> tuple[float, float, float]:
        """Mean and interval of first - second over images, paired."""
        difference = self.values(first, metric) - self.values(second, metric)
        return interval(difference.to_numpy(dtype=np.float64))

    def said(self, methods: Sequence[str], metric: str, digits: int = 2) -> str:
        """Every method's mean with its interval, in words."""
        parts = []
        for method in methods:
            values = self.values(method, metric).to_numpy(dtype=np.float64)
            parts.append(f"{short(method)} {told(interval(values), digits)}")
        return ", ".join(parts)

    def count(self, method: str, metric: str) -> int:
        """Images where the value is defined."""
        return int(self.values(method, metric).notna().sum())


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval."""
    return mean_interval(values)


def told(figures: tuple[float, float, float], digits: int = 2) -> str:
    """`.71 [.65, .77]`."""
    mean, low, high = (f"{value:.{digits}f}" for value in figures)
    return f"{mean} [{low}, {high}]"


def short(label: str) -> str:
    """The name of a label without its parameters."""
    return label.partition("[")[0]


def findings_markdown(findings: Sequence[Finding]) -> str:
    """The table, hard rows first within their order."""
    lines = [
        "| id | kind | expected | found | n | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for one in findings:
        note = f" *{one.note}*" if one.note else ""
        lines.append(
            f"| {one.id} | {one.kind} | {one.expected} | {one.found}{note} | "
            f"{one.images or '–'} | {one.verdict} |"
        )
    return "\n".join(lines) + "\n"


def findings_summary(findings: Sequence[Finding]) -> str:
    """How many hard rows hold, one sentence."""
    hard = [one for one in findings if one.kind == "hard"]
    measured = [one for one in hard if one.holds is not None]
    failing = [one.id for one in measured if not one.holds]
    holding, skipped = len(measured) - len(failing), len(hard) - len(measured)
    text = f"{holding} of {len(hard)} hard rows hold"
    if failing:
        text += f"; {', '.join(failing)} do not"
    return text + (f"; {skipped} skipped." if skipped else ".")
