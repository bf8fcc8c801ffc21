"""Slices: does the order hold for each class, for large and small objects, when it is wrong?"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xbench.report.findings import Findings
from xbench.statistics.ranking import combine

METHODS = 12
CLASSES = 8
FEWEST = 3
"""Images that a slice needs to be shown."""


@dataclass(frozen=True)
class Slice:
    """Some of the images: group, name, how many, and the mean rank of every method there."""

    group: str
    name: str
    images: int
    ranks: tuple[float, ...]

    @property
    def best(self) -> float:
        """The lowest mean rank in the slice."""
        return min(self.ranks)


def slices(findings: Findings) -> tuple[list[str], list[Slice]]:
    """Mean ranks of the best methods on parts of the images, all images first.

    Returns:
        methods in the order of the board, and slices with a rank for each.
    """
    ranking = findings.board.ranking
    methods = list(ranking.methods[:METHODS])
    if not methods:
        return [], []
    images = findings.board.table.images
    weights = np.asarray(ranking.weights)
    found = []
    for group, name, members in _parts(findings):
        mask = np.array([image in members for image in images])
        composite = combine(ranking.ranks[:, mask], weights)
        if len(composite) >= FEWEST:
            means = composite.mean(axis=0)[: len(methods)]
            found.append(Slice(group, name, len(composite), tuple(means.tolist())))
    return methods, found


def _parts(findings: Findings) -> list[tuple[str, str, set[str]]]:
    facts = findings.facts
    parts = [("", "all", set(facts.index))]
    known = facts[facts["label"] >= 0]
    right = known["label"] == known["predicted"]
    parts += [
        ("prediction", "right", set(known.index[right])),
        ("prediction", "wrong", set(known.index[~right])),
    ]
    parts += _thirds("confidence", facts["confidence"], ("low", "medium", "high"))
    parts += _thirds("object", object_size(findings), ("small", "medium", "large"))
    for number in facts["predicted"].value_counts().sort_index().nlargest(CLASSES).index:
        name = findings.class_name(int(number))
        parts.append(("predicted class", name, set(facts.index[facts["predicted"] == number])))
    return parts


def _thirds(
    group: str, values: "pd.Series[float]", names: tuple[str, str, str]
) -> list[tuple[str, str, set[str]]]:
    values = values.dropna()
    if values.nunique() < len(names):
        return []
    order = values.rank(method="first").to_numpy()
    number: NDArray[np.int_] = np.ceil(order / len(values) * 3).astype(int) - 1
    return [(group, name, set(values.index[number == i])) for i, name in enumerate(names)]


def object_size(findings: Findings) -> "pd.Series[float]":
    """Share of every image that its mask covers, from what chance gets there; may be empty."""
    table = findings.board.table
    for metric in ("mass_accuracy", "rank_accuracy"):
        details = table.details.get(f"{metric}/chance")
        if details is not None:
            frame = pd.DataFrame(details, index=list(table.images))
            return frame.median(axis=1).dropna()
    return pd.Series(dtype=float)
