"""What the metrics against a mask have in common: when they are defined, and chance."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xbench.contracts import Case, Metric, Scores
from xbench.operations.selection import top_membership
from xbench.streams import Streams

NO_MASK = "the image has no mask, or one that is empty or covers everything"
NO_MASS = f"the map has no positive value, or {NO_MASK}"


@dataclass(frozen=True)
class TruthMetric(Metric):
    """A metric of a map against the mask of the pixels that count."""

    undefined: ClassVar[str] = NO_MASK

    def supports(self, case: Case) -> str | None:
        """Refuses cases without masks."""
        if case.truth is None:
            return f"'{self.card.name}' needs masks of the object and the data bring none."
        return None

    @abstractmethod
    def values(self, maps: Tensor, truth: Tensor, streams: Streams) -> Tensor:
        """The score of each image, NaN where undefined.

        Args:
            maps: (N, H, W); rows that are not finite are overwritten afterwards.
            truth: bool (N, H, W), neither empty nor full in rows that count.
            streams: draws for ties.

        Returns:
            float64 (N,).
        """

    def chance(self, truth: Tensor) -> Tensor | None:
        """Expected score of a map of independent noise, float64 (N,); None where not closed."""
        return None

    def score(self, case: Case, *, streams: Streams) -> Scores:
        """Scores against the mask, with `chance` as a detail where it is known."""
        assert case.truth is not None
        truth = case.truth.to(case.maps.device).bool()
        defined = usable(case.maps, truth)
        if case.truth_defined is not None:
            defined &= case.truth_defined.to(defined.device)
        values = self.values(case.maps, truth, streams).masked_fill(~defined, torch.nan)
        chance = self.chance(truth)
        details = {} if chance is None else {"chance": chance.masked_fill(~defined, torch.nan)}
        return Scores.of(values, details=details, reason=self.undefined)


def usable(maps: Tensor, truth: Tensor) -> Tensor:
    """Rows with a finite map and a mask that is neither empty nor full, bool (N,)."""
    finite = torch.isfinite(maps).flatten(1).all(dim=1)
    flat = truth.flatten(1)
    return finite & flat.any(dim=1) & ~flat.all(dim=1)


def area_share(truth: Tensor) -> Tensor:
    """Share of the pixels that a mask covers, float64 (N,)."""
    return truth.flatten(1).double().mean(dim=1)


def positive_share(maps: Tensor, region: Tensor) -> Tensor:
    """Positive mass inside a region over all positive mass, float64 (N,); NaN without any.

    >>> maps = torch.tensor([[[1.0, -5.0], [3.0, 0.0]]])
    >>> positive_share(maps, torch.tensor([[[True, True], [False, False]]])).item()
    0.25
    """
    positive = maps.flatten(1).double().clamp(min=0)
    total = positive.sum(dim=1)
    share = (positive * region.flatten(1)).sum(dim=1) / total
    return share.masked_fill(total <= 0, torch.nan)


def bounding_boxes(masks: Tensor) -> Tensor:
    """The smallest box around each mask, bool (N, H, W); empty for an empty mask."""

    def span(hits: Tensor) -> Tensor:
        hits = hits.int()
        return (hits.cummax(dim=1).values * hits.flip(1).cummax(dim=1).values.flip(1)).bool()

    rows, columns = span(masks.any(dim=2)), span(masks.any(dim=1))
    return rows[:, :, None] & columns[:, None, :]


def hits_at_area(maps: Tensor, truth: Tensor) -> Tensor:
    """Expected number of the top |M| pixels inside M, float64 (N,); any number for an empty M."""
    inside = truth.flatten(1)
    top = top_membership(maps, inside.sum(dim=1).clamp(min=1))
    return (top * inside).sum(dim=1)
