"""When to stop looking at images: an order of the leading methods that is valid at every look.

For two methods a and b let D be the difference of their quality on an image, in [-1, 1]. Somebody
who bets a share L of the wealth on "a is better" has 1 + L D times as much after the image. If a is
not better in the mean, no such bet gains on average, so the wealth passes 1/p with a chance of at
most p, however often one looks and whenever one stops (Ville's inequality; Waudby-Smith and Ramdas,
"Estimating means of bounded random variables by betting", 2024). The wealth here is the mean over
several shares, one account each.

The order of k leaders of M methods is settled when each leader is shown to be better than every
method behind it. That takes wealth of 2 N / alpha with N = k M - k (k + 1) / 2 pairs, fewer than
all pairs, although the leaders are chosen by looking: take the true order (ties broken by position)
and the first place r <= k where the claim departs from it. The claim then says that some method
behind the truly r-th is better than the r-th, which is false. So a false claim needs one of the N
pairs (truly r-th, somebody truly behind it) to be decided the wrong way round, or either way if
they are tied, and each direction is decided wrongly with a chance of at most alpha / (2 N).

Images count as a random sample, as in every interval and test of a report; a run takes them in
random order, so that a list sorted by class is no obstacle. Drawing without replacement from a
list only makes wrong orders rarer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

BETS = (0.99, 0.5, 0.25, 0.125, 0.0625, 0.03)
"""Shares of the wealth that the accounts bet: large ones settle clear cases soon."""
FAR = 1_000_000
"""Images beyond which an estimate is no help."""


@dataclass(frozen=True)
class Decision:
    """Whether the order of the leading methods is settled.

    Attributes:
        decided: whether it is.
        alpha: chance at most that a settled order is wrong, over all looks.
        leaders: the leading methods by mean quality, best first.
        images: on which bets were made.
        slowest: the pair that is furthest from settled, the better first; None if there is none.
        missing: images that the slowest pair needs at its pace so far; None where it shows no
            difference (or the estimate is beyond a million), 0 if decided.
    """

    decided: bool
    alpha: float
    leaders: tuple[str, ...]
    images: int
    slowest: tuple[str, str] | None
    missing: int | None


def pairs_at_risk(methods: int, leaders: int) -> int:
    """Pairs of which one has to be decided wrongly for a wrong order of the leaders.

    >>> [pairs_at_risk(10, 3), pairs_at_risk(10, 9), pairs_at_risk(2, 3)]
    [24, 45, 1]
    """
    count = min(leaders, methods - 1)
    return count * methods - count * (count + 1) // 2


def wealth_needed(methods: int, leaders: int, alpha: float) -> float:
    """Wealth at which "a is better than b" counts as shown, see the top of this file."""
    return 2 * pairs_at_risk(methods, leaders) / alpha


class Betting:
    """Bets on every ordered pair of methods, image by image; a pure function of what it is shown.

    Args:
        methods: labels, in the order of the columns.
        leaders: how many leading methods are to be put in order.
        alpha: chance at most of a wrong order.

    Raises:
        ValueError: fewer than two methods, or no leader.
    """

    def __init__(self, methods: Sequence[str], leaders: int, alpha: float) -> None:
        if len(methods) < 2 or leaders < 1:
            raise ValueError("There is an order to settle with two methods and one leader or more.")
        count = len(methods)
        self.methods = tuple(methods)
        self.alpha = alpha
        self.images = 0
        self._leaders = leaders
        self._needed = math.log(wealth_needed(count, leaders, alpha))
        self._accounts = np.zeros((len(BETS), count, count))
        self._best = np.zeros((count, count))
        self._total = np.zeros(count)

    def add(self, quality: Array) -> None:
        """Bet on further images, in random order; one look.

        Args:
            quality: (images, methods) in [0, 1], higher is better; NaN where undefined, where no
                bet on the method is made.

        Raises:
            ValueError: a value is outside [0, 1].
        """
        known = np.isfinite(quality)
        if ((quality[known] < 0) | (quality[known] > 1)).any():
            raise ValueError("Qualities lie between 0 and 1.")
        gains = quality[:, :, None] - quality[:, None, :]
        gains = np.where(np.isfinite(gains), gains, 0.0)
        for account, share in zip(self._accounts, BETS, strict=True):
            account += np.log1p(share * gains).sum(axis=0)
        self._total += np.where(known, quality, 0.5).sum(axis=0)
        self.images += len(quality)
        self._best = np.maximum(self._best, self._wealth())

    def decision(self) -> Decision:
        """Where things stand after the images so far."""
        count = len(self.methods)
        order = np.argsort(-np.round(self._total, 9), kind="stable")
        front = min(self._leaders, count - 1)
        wealth, pace = self._wealth(), self._pace()
        slowest, missing = None, 0.0
        for place in range(front):
            for behind in range(place + 1, count):
                a, b = order[place], order[behind]
                if self._best[a, b] >= self._needed:
                    continue
                left = self._needed - wealth[a, b]
                wait = left / pace[a, b] if pace[a, b] > 0 else math.inf
                if slowest is None or wait > missing:
                    slowest, missing = (self.methods[a], self.methods[b]), wait
        return Decision(
            decided=slowest is None,
            alpha=self.alpha,
            leaders=tuple(self.methods[i] for i in order[: self._leaders]),
            images=self.images,
            slowest=slowest,
            missing=math.ceil(missing) if missing <= FAR else None,
        )

    def _wealth(self) -> Array:
        """Logarithm of the wealth of every ordered pair."""
        return np.asarray(special.logsumexp(self._accounts, axis=0) - math.log(len(BETS)))

    def _pace(self) -> Array:
        """What the best account of every pair gains an image, as a logarithm."""
        return np.asarray(self._accounts.max(axis=0) / max(1, self.images))


def qualities(ranks: Array) -> Array:
    """Ranks from 1 (the best) to the number of methods, as qualities from 1 down to 0.

    Args:
        ranks: (images, methods).

    >>> qualities(np.array([[1.0, 2.5, 2.5]]))
    array([[1.  , 0.25, 0.25]])
    """
    count = ranks.shape[1]
    return np.asarray(np.clip((count - ranks) / (count - 1), 0.0, 1.0))


def decision_row(found: Decision | None, *, seen: int, of: int) -> dict[str, Any]:
    """A decision as a manifest keeps it.

    Args:
        found: the decision; None if fewer than two methods could be ranked.
        seen: images that were run, those on which no bets were made included.
        of: images of the data.
    """
    return {"seen": seen, "of": of, **({} if found is None else asdict(found))}


def decision_sentence(row: Mapping[str, Any]) -> str:
    """What became of `--until-decided`, from the manifest's row."""
    seen, of = int(row["seen"]), int(row["of"])
    if "decided" not in row:
        return (
            f"Fewer than two methods have a rank on the first images; all {seen} images were run."
        )
    names = [str(name) for name in row["leaders"]]
    level = f"{100 * (1 - float(row['alpha'])):g} %"
    what = "first place" if len(names) == 1 else "order of the leading methods"
    start = f"The {what} ({', '.join(names)}) is "
    if row["decided"]:
        saved = f"; {of - seen} of {of} images were not needed" if seen < of else ""
        return f"{start}settled at {level} after {seen} images{saved}."
    start += f"not settled at {level} after {seen} images: "
    first, second = row["slowest"] or ("", "")
    if row["missing"] is None:
        return start + f"{first} and {second} show no difference that more images could settle."
    return start + f"about {row['missing']:,} more are missing for {first} before {second}."
