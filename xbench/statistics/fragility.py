"""Would the advice flip? The leader under halves of the images, other weights, other fills."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xbench.statistics.ranking import Ranking, combine, property_weights

Array = NDArray[np.float64]

DRAWS = 200


@dataclass(frozen=True)
class Variant:
    """The leader when the board is read in another way.

    Attributes:
        what: which way, in words.
        leader: the best method then.
        flips: whether it is neither the advised method nor tied with it.
    """

    what: str
    leader: str
    flips: bool


@dataclass(frozen=True)
class Fragility:
    """How firmly the advice stands.

    Attributes:
        halves: share of random halves of the images that keep the advice (the leader is the
            advised method or one tied with it).
        weightings: share of random weightings of the metrics that keep it (uniform on the simplex);
            NaN with a single metric.
        variants: single properties, and metrics of one fill only.
    """

    halves: float
    weightings: float
    variants: tuple[Variant, ...]

    @property
    def flips(self) -> tuple[Variant, ...]:
        """The variants that would change the advice."""
        return tuple(variant for variant in self.variants if variant.flips)


def fragility(
    ranking: Ranking, eligible: Sequence[str], kept: Collection[str], *, seed: int = 0
) -> Fragility:
    """Try the advice under other images, weights and metrics.

    Args:
        ranking: the board.
        eligible: methods that may be advised.
        kept: the advised method and those tied with it.
        seed: of halves and weights.
    """
    columns = [ranking.methods.index(method) for method in eligible]
    ranks = ranking.ranks[:, :, columns]
    weights = np.array(ranking.weights)
    rng = np.random.default_rng(seed)

    def leader(some_ranks: Array, some_weights: Array) -> str:
        return eligible[int(np.argmin(combine(some_ranks, some_weights).mean(axis=0)))]

    images = ranks.shape[1]
    halves = [
        leader(ranks[:, rng.permutation(images)[: max(1, images // 2)]], weights) in kept
        for _ in range(DRAWS)
    ]
    mixes = rng.dirichlet(np.ones(len(weights)), size=DRAWS if len(weights) > 1 else 0)
    mixed = [leader(ranks, mix) in kept for mix in mixes]
    variants = []
    for what, chosen in _variants(ranking):
        some = property_weights([ranking.metrics[i] for i in chosen])
        best = leader(ranks[chosen], some)
        variants.append(Variant(what, best, best not in kept))
    return Fragility(
        halves=float(np.mean(halves)),
        weightings=float(np.mean(mixed)) if mixed else float("nan"),
        variants=tuple(variants),
    )


def _variants(ranking: Ranking) -> list[tuple[str, list[int]]]:
    found = []
    properties = list(dict.fromkeys(metric.property for metric in ranking.metrics))
    for name in properties if len(properties) > 1 else ():
        members = [i for i, metric in enumerate(ranking.metrics) if metric.property == name]
        found.append((f"{name} alone", members))
    fills = sorted({fill for metric in ranking.metrics for fill in metric.fills})
    for fill in fills if len(fills) > 1 else ():
        members = [
            i
            for i, metric in enumerate(ranking.metrics)
            if not metric.fills or set(metric.fills) == {fill}
        ]
        found.append((f"metrics that fill with {fill} only", members))
    return found
