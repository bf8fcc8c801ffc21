"""Ranks of methods on a board: per image and metric, averaged, with intervals, ties and tests.

Explainers are ranked among themselves. Controls stand beside: their rank says how many explainers
are better, so that no control moves the distance between two explainers.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from xbench.contracts import BoardCard
from xbench.contracts.boards import NEVER_RANKED
from xbench.statistics.comparisons import (
    Comparison,
    Friedman,
    compare_all,
    friedman,
    tie_runs,
)
from xbench.statistics.concordance import kendall_w, krippendorff_alpha
from xbench.statistics.intervals import Interval, bca_columns, resample_counts
from xbench.statistics.table import MetricInfo, MetricScores, ScoreTable

Array = NDArray[np.float64]

UNDEFINED_SHARE = 0.05
"""Share of images on which a method may be undefined and still be ranked; it is last there."""


@dataclass(frozen=True)
class Standing:
    """One ranked explainer.

    Attributes:
        place: one more than the number of methods shown to be better.
        mean_rank: over images, with its 95 % interval; 1 is the best.
        low, high: 95 % interval of the place in the order of mean ranks, images resampled.
        best: share of the resamples in which it comes first.
    """

    method: str
    place: int
    mean_rank: Interval
    low: int
    high: int
    best: float


@dataclass(frozen=True)
class Ranking:
    """A board's order of the explainers of a run.

    Attributes:
        card: the board.
        alpha: level of the tests.
        metrics: what is ranked, in order.
        weights: of the metrics, sum 1: equal over properties, equal within a property.
        dropped: metrics of the board that are not ranked, with the reason.
        standings: by mean rank, the best first.
        unranked: explainers without a value somewhere, with the reason.
        controls: mean rank that each control would take among the explainers.
        ranks: (metrics, images, explainers as in `standings`), NaN where no explainer has a value.
        comparisons: all pairs of explainers.
        friedman: over images, on the averaged ranks; None with fewer than 3 methods.
        groups: runs of explainers not shown to differ.
        images: images with a rank.
        concordance: Kendall's W of the metrics over the explainers.
        reliability: Krippendorff's alpha of each metric, images as raters, ranks as ratings.
    """

    card: BoardCard
    alpha: float
    metrics: tuple[MetricInfo, ...]
    weights: tuple[float, ...]
    dropped: Mapping[str, str]
    standings: tuple[Standing, ...]
    unranked: Mapping[str, str]
    controls: Mapping[str, float]
    ranks: Array
    comparisons: tuple[Comparison, ...]
    friedman: Friedman | None
    groups: tuple[tuple[str, ...], ...]
    images: int
    concordance: float
    reliability: Mapping[str, float]

    @property
    def methods(self) -> tuple[str, ...]:
        """The ranked explainers, best first."""
        return tuple(standing.method for standing in self.standings)

    def standing(self, method: str) -> Standing | None:
        """Where a method stands; None if it has no rank."""
        return next((s for s in self.standings if s.method == method), None)

    def comparison(self, first: str, second: str) -> Comparison:
        """The test between two ranked explainers, whichever way round."""
        return next(c for c in self.comparisons if {c.first, c.second} == {first, second})

    def tied(self, first: str, second: str) -> bool:
        """Whether two ranked explainers are not shown to differ."""
        return first == second or not self.comparison(first, second).corrected < self.alpha


def rank_methods(
    table: ScoreTable,
    card: BoardCard,
    *,
    alpha: float = 0.05,
    uninformative: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Ranking:
    """Rank the explainers of a run on a board.

    Args:
        table: per-image values.
        card: which metrics, and how they belong together.
        alpha: level of the tests, after Holm's correction over all pairs.
        uninformative: metrics that failed an audit, with the reason; they are not ranked.
        seed: of the bootstrap.
    """
    chosen, dropped = ranked_metrics(table, card, uninformative or {})
    columns, unranked = ranked_methods(table, chosen)
    weights = property_weights([score.info for score in chosen])
    ranks = image_ranks(chosen, columns)
    composite = combine(ranks, weights)
    order = np.argsort(composite.mean(axis=0), kind="stable") if columns else np.arange(0)
    composite, ranks = composite[:, order], ranks[:, :, order]
    columns = [columns[i] for i in order]
    labels = [table.labels[i] for i in columns]
    comparisons = tuple(compare_all(composite, labels, alpha=alpha))
    known = np.asarray(np.isfinite(ranks).any(axis=2))
    return Ranking(
        card=card,
        alpha=alpha,
        metrics=tuple(score.info for score in chosen),
        weights=tuple(float(weight) for weight in weights),
        dropped=dropped,
        standings=_standings(composite, labels, comparisons, alpha, seed),
        unranked=unranked,
        controls=_control_ranks(table, chosen, columns, weights),
        ranks=ranks,
        comparisons=comparisons,
        friedman=friedman(composite, labels, alpha=alpha),
        groups=tuple(_groups(composite, labels, comparisons, alpha)),
        images=len(composite),
        concordance=_concordance(ranks),
        reliability={
            score.info.label: krippendorff_alpha(rows[present])
            for score, rows, present in zip(chosen, ranks, known, strict=False)
        },
    )


def ranked_metrics(
    table: ScoreTable, card: BoardCard, uninformative: Mapping[str, str]
) -> tuple[list[MetricScores], dict[str, str]]:
    """The metrics that a board ranks by, and those that it cannot, with the reason."""
    chosen: list[MetricScores] = []
    dropped: dict[str, str] = {}
    for label, score in table.scores.items():
        if not belongs(score.info, card):
            continue
        reason = uninformative.get(label) or _unfit(table, score)
        if reason is None:
            chosen.append(score)
        else:
            dropped[label] = reason
    return chosen, dropped


def ranked_methods(
    table: ScoreTable, chosen: Sequence[MetricScores]
) -> tuple[list[int], dict[str, str]]:
    """Columns of the explainers that these metrics cover, and the others, with the reason."""
    explainers = [i for i, method in enumerate(table.methods) if not method.control]
    unranked = {
        table.labels[i]: reason
        for i in explainers
        if (reason := _gap(chosen, i, explainers)) is not None
    }
    columns = [i for i in explainers if table.labels[i] not in unranked] if chosen else []
    return columns, unranked


def image_ranks(chosen: Sequence[MetricScores], columns: Sequence[int]) -> Array:
    """Ranks of some methods, (metrics, images, methods), NaN where none of them has a value."""
    return np.stack([_ranks(score, columns) for score in chosen]) if columns else _no_ranks()


def wanted(info: MetricInfo, card: BoardCard) -> bool:
    """Whether a board names this metric, by property, name or label."""
    if _matches(info, card.without):
        return False
    return info.property in card.properties or _matches(info, card.metrics)


def belongs(info: MetricInfo, card: BoardCard) -> bool:
    """Whether a board ranks by this metric: it names it, and the metric says what is better."""
    if card.kind != "ranks" or info.direction == "none" or info.pairwise:
        return False
    return info.property not in NEVER_RANKED and wanted(info, card)


def property_weights(infos: Sequence[MetricInfo]) -> Array:
    """Weights of metrics, sum 1: equal over properties, and equal within a property."""
    properties = [info.property for info in infos]
    count = len(set(properties))
    return np.array([1 / count / properties.count(name) for name in properties])


def combine(ranks: Array, weights: Array) -> Array:
    """Weighted mean over metrics: (metrics, images, methods) to (images with a rank, methods)."""
    present = np.asarray(np.isfinite(ranks).any(axis=2))
    shares = weights[:, None] * present
    total = shares.sum(axis=0)
    filled = np.where(present[:, :, None], ranks, 0.0)
    usable = total > 0
    sums = np.einsum("kn,knm->nm", shares, filled)
    return np.asarray(sums[usable] / total[usable, None])


def _matches(info: MetricInfo, patterns: Sequence[str]) -> bool:
    return any(
        text == pattern or fnmatch.fnmatchcase(text, pattern)
        for pattern in patterns
        for text in (info.label, info.name)
    )


def _unfit(table: ScoreTable, score: MetricScores) -> str | None:
    """Why a metric of the board is not ranked in this run, if so."""
    explainers = [i for i, method in enumerate(table.methods) if not method.control]
    values = score.values[:, explainers]
    if not np.isfinite(values).any():
        return "No method has a value."
    covered = sum(_gap([score], i, explainers) is None for i in explainers)
    if 2 * covered < len(explainers):
        return f"Only {covered} of {len(explainers)} methods have values on all images."
    oracle, noise = table.named("oracle"), table.named("random")
    if oracle is not None and noise is not None and score.info.property != "efficiency":
        gap = score.info.sign * (score.values[:, oracle] - score.values[:, noise])
        if np.isfinite(gap).any() and not np.nanmean(gap) > 0:
            return "It does not put the truth above noise here."
    return None


def _gap(chosen: Sequence[MetricScores], column: int, explainers: Sequence[int]) -> str | None:
    """Why a method is not fully covered, if so."""
    for score in chosen:
        if score.unmeasured[column]:
            count = int(score.unmeasured[column])
            return f"{score.info.label} was not measured on {count} of {len(score.values)} images"
        useful = np.isfinite(score.values[:, explainers]).any(axis=1)
        missing = int((useful & ~np.isfinite(score.values[:, column])).sum())
        if missing > max(1, UNDEFINED_SHARE * useful.sum()):
            return f"{score.info.label} is undefined on {missing} of {int(useful.sum())} images"
    return None


def _ranks(score: MetricScores, columns: Sequence[int]) -> Array:
    """Ranks per image, 1 the best, ties shared; undefined is last, all undefined is NaN."""
    values = score.info.sign * score.values[:, columns]
    empty = ~np.isfinite(values).any(axis=1)
    ordered = np.where(np.isfinite(values), -np.round(values, 12), np.inf)
    ranks = stats.rankdata(ordered, axis=1).astype(np.float64)
    ranks[empty] = np.nan
    return ranks


def _no_ranks() -> Array:
    return np.zeros((0, 0, 0))


def _standings(
    composite: Array,
    labels: Sequence[str],
    comparisons: Sequence[Comparison],
    alpha: float,
    seed: int,
) -> tuple[Standing, ...]:
    if not labels:
        return ()
    means, lows, highs = bca_columns(composite, seed=seed)
    draws = resample_counts(len(composite), seed=seed) @ composite / len(composite)
    places = stats.rankdata(np.round(draws, 12), axis=1, method="min")
    first = places == 1
    best = (first / first.sum(axis=1, keepdims=True)).mean(axis=0)
    ends = np.quantile(places, (0.025, 0.975), axis=0, method="inverted_cdf")
    better = dict.fromkeys(labels, 0)
    for one in comparisons:
        if one.corrected < alpha:
            better[one.first if one.difference > 0 else one.second] += 1
    return tuple(
        Standing(
            method=label,
            place=1 + better[label],
            mean_rank=Interval(float(means[i]), float(lows[i]), float(highs[i])),
            low=int(ends[0, i]),
            high=int(ends[1, i]),
            best=float(best[i]),
        )
        for i, label in enumerate(labels)
    )


def _groups(
    composite: Array, labels: Sequence[str], comparisons: Sequence[Comparison], alpha: float
) -> list[tuple[str, ...]]:
    tied = np.ones((len(labels), len(labels)), dtype=bool)
    for one in comparisons:
        i, j = labels.index(one.first), labels.index(one.second)
        tied[i, j] = tied[j, i] = not one.corrected < alpha
    return tie_runs(labels, composite.mean(axis=0), tied) if labels else []


def _control_ranks(
    table: ScoreTable, chosen: Sequence[MetricScores], columns: Sequence[int], weights: Array
) -> dict[str, float]:
    found = {}
    for i, method in enumerate(table.methods):
        measured = all(np.isfinite(score.values[:, i]).any() for score in chosen)
        if not method.control or not chosen or not columns or not measured:
            continue
        rows = []
        for score in chosen:
            own = np.round(score.info.sign * score.values[:, i, None], 12)
            others = np.round(score.info.sign * score.values[:, columns], 12)
            lost = (others > own).sum(axis=1) + 0.5 * (others == own).sum(axis=1)
            lost = np.where(np.isfinite(own[:, 0]), lost, float(len(columns)))
            rows.append(np.where(np.isfinite(others).any(axis=1), 1.0 + lost, np.nan)[:, None])
        found[method.label] = float(combine(np.stack(rows), weights).mean())
    return found


def _concordance(ranks: Array) -> float:
    if len(ranks) < 2 or ranks.shape[2] < 2:
        return float("nan")
    return kendall_w(np.nanmean(ranks, axis=1))
