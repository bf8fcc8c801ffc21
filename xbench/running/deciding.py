"""`--until-decided`: after every chunk, whether the order of the leading methods is settled.

The first chunk says which methods and metrics have ranks, and no bets are made on it: what is
compared must not be chosen by the images that it is compared on. From the second chunk on, every
image counts with the ranks of these methods in these metrics, averaged as the board averages them.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xbench.records import Store
from xbench.running.grid import Grid
from xbench.statistics.boards import overall_board
from xbench.statistics.leaderboard import audited_out
from xbench.statistics.ranking import (
    combine,
    image_ranks,
    property_weights,
    ranked_methods,
    ranked_metrics,
)
from xbench.statistics.sequential import Betting, decision_row, qualities
from xbench.statistics.table import ScoreTable, score_table


class Decider:
    """Judges the finished chunks of a run in their order; a pure function of the records.

    Args:
        grid: what runs, its images in random order.
        manifest: cards, verdicts on metrics, boards.
        leaders: how many leading methods are to be put in order.
    """

    def __init__(self, grid: Grid, manifest: Mapping[str, Any], leaders: int) -> None:
        self._sizes = [len(chunk) for chunk in grid.chunks()]
        self._manifest = manifest
        self._leaders = leaders
        self._seen = 0
        self._metrics: list[str] = []
        self._columns: list[int] = []
        self._betting: Betting | None = None

    @cached_property
    def _board(self) -> Any:
        return overall_board(self._manifest)

    @property
    def images(self) -> int:
        """In the chunks that were judged."""
        return sum(self._sizes[: self._seen])

    @property
    def settled(self) -> bool:
        """Whether the order is settled, on enough images for a board not to be preliminary."""
        enough = self.images >= self._board.min_images
        return enough and self._betting is not None and self._betting.decision().decided

    def judge(self, store: Store, chunks: int) -> bool:
        """Look at the chunks that are new among the first ones, all finished, until it is settled.

        Args:
            store: the records.
            chunks: how many of the first chunks are finished.

        Returns:
            whether the run may stop.
        """
        while self._seen < chunks and not self.settled:
            self._look(store.frame_of(self._seen))
            self._seen += 1
        return self.settled

    def row(self) -> dict[str, Any]:
        """What the manifest keeps of the decision."""
        found = None if self._betting is None else self._betting.decision()
        return {
            **decision_row(found, seen=self.images, of=sum(self._sizes)),
            "methods": [] if self._betting is None else list(self._betting.methods),
            "metrics": list(self._metrics),
        }

    def _look(self, records: pd.DataFrame) -> None:
        table = score_table(records, self._manifest)
        if self._seen == 0:
            self._choose(table)
        elif self._betting is not None:
            self._betting.add(qualities(self._ranks(table)))

    def _choose(self, table: ScoreTable) -> None:
        """Fix what is compared, by the first chunk."""
        card = self._board.card
        chosen, _ = ranked_metrics(table, card, audited_out(table.scores, self._manifest))
        self._columns, _ = ranked_methods(table, chosen)
        self._metrics = [score.info.label for score in chosen]
        if len(self._columns) > 1:
            labels = [table.labels[i] for i in self._columns]
            self._betting = Betting(labels, self._leaders, self._board.alpha)

    def _ranks(self, table: ScoreTable) -> NDArray[np.float64]:
        scores = [table.scores[label] for label in self._metrics]
        weights = property_weights([score.info for score in scores])
        return combine(image_ranks(scores, self._columns), weights)
