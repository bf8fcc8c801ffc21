"""What a report is made from, read once from the run folder, and how every method is drawn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from xbench.contracts import Board
from xbench.report.svg import COLORS, DASHES, Style
from xbench.running.session import Run
from xbench.statistics.advice import Recommendation
from xbench.statistics.boards import boards_of
from xbench.statistics.exposure import exposure
from xbench.statistics.leaderboard import Leaderboard, build_leaderboard
from xbench.statistics.recommendation import advise
from xbench.statistics.skill import Skill, skill_of

SHOWN = 7
"""Explainers that charts show at first, beside the random control and the oracle."""

_CONTROLS = {"oracle": DASHES[0], "random": DASHES[2]}
"""Controls that charts show at first, and their dashes."""


@dataclass(frozen=True)
class Findings:
    """A run as the report needs it: nothing here reads a model or the images' source.

    Attributes:
        manifest: cards, versions, hashes, seed and command line.
        records: one row per image x method x metric.
        curves: all curves.
        board: rows in order, with gates, ranking and per-image values.
        maps: the folder of maps and thumbnails.
    """

    manifest: Mapping[str, Any]
    records: pd.DataFrame = field(repr=False)
    curves: pd.DataFrame = field(repr=False)
    board: Leaderboard = field(repr=False)
    maps: Path

    @cached_property
    def places(self) -> dict[str, int]:
        """Number of every method, in the order of the leaderboard."""
        return {row.method: i for i, row in enumerate(self.board.rows)}

    @cached_property
    def styles(self) -> dict[str, Style]:
        """Color, dash and first visibility of every method; controls are gray."""
        styles, explainers = {}, 0
        for row in self.board.rows:
            if row.control:
                name = str(self.cards[row.method]["name"])
                styles[row.method] = Style(
                    "control", _CONTROLS.get(name, DASHES[1]), name in _CONTROLS
                )
            else:
                color, dash = explainers % COLORS, DASHES[explainers // COLORS % len(DASHES)]
                styles[row.method] = Style(f"s{color}", dash, explainers < SHOWN)
                explainers += 1
        return styles

    @cached_property
    def cards(self) -> dict[str, Mapping[str, Any]]:
        """The card of every method by label."""
        return {entry["label"]: entry["card"] for entry in self.manifest["methods"]}

    @cached_property
    def skills(self) -> dict[str, Skill]:
        """Skill in every metric that has one, see `xbench.statistics.skill`."""
        found = {m.label: skill_of(self.board.table, m.label) for m in self.board.metrics}
        return {label: skill for label, skill in found.items() if skill is not None}

    @cached_property
    def advice(self) -> Recommendation:
        """What the run's board supports."""
        return advise(self.board)

    @cached_property
    def exposure(self) -> str:
        """What the maps say of a watermark, where the run measured it; else ""."""
        return exposure(self.board)

    @cached_property
    def uses(self) -> tuple[Recommendation, ...]:
        """What the run supports by every other board of its manifest that ranks."""
        boards = boards_of(self.manifest)
        return tuple(
            advise(
                build_leaderboard(self.records, self.manifest, board, known=self.board),
                min_images=board.min_images,
            )
            for board in boards
            if board.card.kind == "ranks" and board.card.properties != self.board.card.properties
        )

    @cached_property
    def facts(self) -> pd.DataFrame:
        """One row an image: label, predicted, confidence, chunk; by image_id."""
        columns = ["image_id", "label", "predicted", "confidence", "chunk"]
        facts = self.records.loc[self.records["chunk"] >= 0, columns]
        return facts.drop_duplicates("image_id").set_index("image_id").sort_index()

    def class_name(self, number: int) -> str:
        """The name of a class, or its number."""
        names = self.manifest["dataset"]["class_names"]
        return str(names[number]) if 0 <= number < len(names) else f"class {number}"


def gather(run: Run, board: Board | None = None) -> Findings:
    """Read a run folder, judged by a board (default: overall, with all metrics)."""
    judged = run.leaderboard(board)
    return Findings(run.manifest, run.records, run.curves, judged, run.folder.maps_path)
