"""The table of one pair of methods: image by image how far they agree, and the mean."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from xbench.contracts import PairMetric
from xbench.errors import RunError
from xbench.streams import Streams


@dataclass(frozen=True)
class PairTable:
    """How far two methods agree, image by image.

    Attributes:
        first, second: labels of the methods.
        metric: label of the metric, for example `iou`.
        rows: (image, value), NaN where undefined, in the order of the images.
    """

    first: str
    second: str
    metric: str
    rows: tuple[tuple[str, float], ...]

    @property
    def undefined(self) -> int:
        """Images without a value."""
        return sum(math.isnan(value) for _, value in self.rows)

    @property
    def mean(self) -> float:
        """Mean over the images that have a value; NaN where none has."""
        known = [value for _, value in self.rows if not math.isnan(value)]
        return math.fsum(known) / len(known) if known else math.nan

    def frame(self) -> pd.DataFrame:
        """Columns `image` and the metric's name; the last row is the mean."""
        rows = [*self.rows, ("mean", self.mean)]
        return pd.DataFrame(rows, columns=["image", self.metric])

    def csv(self) -> str:
        """The frame as comma-separated text, values with six digits, blanks where undefined."""
        return self.frame().to_csv(index=False, float_format="%.6f")


def table_of_maps(
    metric: PairMetric,
    maps: Mapping[str, Tensor],
    image_ids: Sequence[str],
    *,
    label: str = "",
    seed: int = 0,
) -> PairTable:
    """The table of two stacks of maps.

    Args:
        metric: a pairwise metric, for example IoU of the top pixels.
        maps: the maps (N, H, W) of exactly two methods by label.
        image_ids: one identifier an image.
        label: name of the metric in the table, default the card's.
        seed: seed of the metric's draws, if it has any.
    """
    (first, a), (second, b) = maps.items()
    name = label or metric.card.name
    streams = Streams(seed=seed, image_ids=list(image_ids), scope=name)
    values = metric.compare(a, b, streams=streams).values
    return PairTable(first, second, name, _rows(image_ids, values))


def table_of_records(records: pd.DataFrame, metric: str, first: str, second: str) -> PairTable:
    """The table of two methods from the records of a run, whichever way round they were compared.

    Raises:
        RunError: the records hold no such comparison.
    """
    one_way = (records["method"] == first) & (records["other"] == second)
    other_way = (records["method"] == second) & (records["other"] == first)
    chosen = records[(records["metric"] == metric) & (one_way | other_way)]
    if chosen.empty:
        raise RunError(f"The run does not hold {metric} of {first} and {second}; run both with it.")
    values = pd.to_numeric(chosen["value"], errors="coerce")
    per_image = values.groupby(chosen["image_id"], sort=False).mean()
    return PairTable(first, second, metric, _rows(per_image.index, torch.tensor(per_image.values)))


def _rows(image_ids: Iterable[str], values: Tensor) -> tuple[tuple[str, float], ...]:
    return tuple(zip(map(str, image_ids), values.tolist(), strict=True))
