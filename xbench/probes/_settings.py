"""Several methods, or settings of one, measured on the same images; which to take, and why."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xbench.classifier import Classifier
from xbench.contracts import Bank, Case, Method, Metric, Samples
from xbench.errors import InvalidMapError, ParameterError, UnsupportedError
from xbench.explaining import explain_samples
from xbench.probes.contract import Tell
from xbench.probes.maps import Maps
from xbench.probes.shared import counted
from xbench.registry import METRICS, Chosen
from xbench.running.cases import bind
from xbench.statistics.gates import LIMITS
from xbench.statistics.intervals import mean_interval
from xbench.streams import Streams

Array = NDArray[np.float64]

FAITHFULNESS, STABILITY, COMPLEXITY = "insertion_minus_deletion", "noise_stability", "sparseness"
FEW, LEAST = 5, 3
"""With fewer images nothing can be shown; with fewer still there is no standard error."""


@dataclass(frozen=True)
class Column:
    """One metric over all settings.

    Attributes:
        label: of the metric.
        direction: "higher", "lower" or "none".
        values: float64 (images, settings), NaN where undefined.
        limit: where the metric is a gate, the mean from which on a method fails; it ranks none.
    """

    label: str
    direction: str
    values: Array
    limit: float | None = None

    @property
    def goodness(self) -> Array:
        """Values of which more is better; zeros where no direction is."""
        return self.values * {"higher": 1.0, "lower": -1.0, "none": 0.0}[self.direction]


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        labels: the settings that gave maps.
        maps: their maps.
        columns: one a metric, the first one counts most.
        calls: model calls a map.
        seconds: wall-clock time a map.
        notes: what was left out, one sentence each.
    """

    labels: Sequence[str]
    maps: Maps
    columns: Sequence[Column]
    calls: Sequence[float]
    seconds: Sequence[float]
    notes: Sequence[str]


def metrics_of(names: str) -> list[Chosen[Metric]]:
    """The metrics of a list of names.

    Raises:
        ParameterError: one of them compares pairs of methods.
    """
    chosen: list[Chosen[Metric]] = []
    for one in METRICS.select(names):
        if not isinstance(one.value, Metric):
            raise ParameterError(f"'{one.label}' compares two methods; `xbench agree` does that.")
        chosen.append(Chosen(one.label, one.identity, one.value, one.card, one.entry))  # type: ignore[arg-type]
    return chosen


def measure(
    model: Classifier,
    samples: Samples,
    settings: Sequence[Chosen[Method]],
    metrics: Sequence[Chosen[Metric]],
    seed: int,
    tell: Tell,
) -> Measured:
    """Maps and metrics of every setting, for each image's most probable class.

    Raises:
        UnsupportedError: no setting can run on this model.
    """
    classes = model.logits(samples.images.to(model.device)).argmax(dim=1)
    bank, notes = Bank(), list[str]()
    maps, calls, seconds = {}, [], []
    signed: dict[str, bool] = {}
    values: dict[str, list[Array]] = {metric.label: [] for metric in metrics}
    total = len(settings) * (1 + len(metrics))
    for number, setting in enumerate(settings):
        done = number * (1 + len(metrics))
        tell(done, total, setting.label)
        before, began = model.counter.read(), time.perf_counter()
        try:
            found = explain_samples(model, samples, setting, classes, seed)
        except (UnsupportedError, InvalidMapError) as error:
            notes.append(str(error))
            continue
        seconds.append((time.perf_counter() - began) / len(samples))
        calls.append((model.counter.read() - before).calls / len(samples))
        maps[setting.label], signed[setting.label] = found.cpu(), setting.card.signed
        case = replace(_case(model, samples, setting, (classes, found), seed), bank=bank)
        for place, metric in enumerate(metrics):
            tell(done + 1 + place, total, f"{setting.label}: {metric.label}")
            values[metric.label].append(_score(metric, case, seed, notes))
    tell(total, total, "measured")
    if not maps:
        raise UnsupportedError(notes[0])
    columns = [
        Column(
            metric.label,
            metric.card.direction,
            np.stack(values[metric.label], axis=1),
            _limit(metric),
        )
        for metric in metrics
    ]
    return Measured(list(maps), Maps(maps, signed), columns, calls, seconds, notes)


def _limit(metric: Chosen[Metric]) -> float | None:
    """From which mean on a method fails the gate that the metric feeds; it is one of Spearman's."""
    signed = getattr(metric.value, "similarity", "spearman") == "spearman"
    return LIMITS.get(metric.card.gate) if signed else None


def _case(
    model: Classifier,
    samples: Samples,
    setting: Chosen[Method],
    explained: tuple[torch.Tensor, torch.Tensor],
    seed: int,
) -> Case:
    """What a metric sees of one setting: `explained` are the classes and the maps."""
    images, (classes, maps) = samples.images.to(model.device), explained
    streams = Streams(seed=seed, image_ids=list(samples.ids), scope=setting.identity)
    return Case(
        model=model,
        images=images,
        targets=classes,
        maps=maps,
        explain=bind(setting.value, model, images, classes, streams),
        image_ids=list(samples.ids),
        truth=_to(samples.truth, model),
        truth_defined=_to(samples.truth_defined, model),
        labels=samples.labels.to(model.device),
        method=setting.value,
        extras={name: mask.to(model.device) for name, mask in samples.extras.items()},
    )


def _to(mask: torch.Tensor | None, model: Classifier) -> torch.Tensor | None:
    return None if mask is None else mask.to(model.device)


def _score(metric: Chosen[Metric], case: Case, seed: int, notes: list[str]) -> Array:
    needs = {"truth": case.truth, "twin": case.twin, "pool": case.pool}
    missing = [need for need in metric.card.needs if need in needs and needs[need] is None]
    reason = f"there is no {missing[0]}" if missing else metric.value.supports(case)
    if reason is not None:
        sentence = f"{metric.label} is blank: {reason.rstrip('.')}."
        if sentence not in notes:
            notes.append(sentence)
        return np.full(len(case.image_ids), np.nan)
    streams = Streams(seed=seed, image_ids=list(case.image_ids), scope=metric.identity)
    return metric.value.score(case, streams=streams).values.numpy()


def setting_table(
    measured: Measured, extra: Mapping[str, Mapping[str, object]] | None = None
) -> pd.DataFrame:
    """One record a setting: mean and interval of every metric, calls and seconds a map."""
    rows = []
    for place, label in enumerate(measured.labels):
        row: dict[str, object] = {"setting": label, **(extra or {}).get(label, {})}
        for column in measured.columns:
            found = mean_interval(column.values[:, place])
            row |= {
                column.label: found.value,
                f"{column.label}_low": found.low,
                f"{column.label}_high": found.high,
            }
        row |= {"calls": measured.calls[place], "seconds": measured.seconds[place]}
        rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Advice:
    """The setting to take, and why, one sentence each."""

    setting: str
    reasons: tuple[str, ...]


def recommend(
    labels: Sequence[str], columns: Sequence[Column], calls: Sequence[float], images: int
) -> Advice:
    """The cheapest setting within one standard error of the best one, metric by metric.

    Metrics without a direction are left out. After each metric those settings stay whose mean is
    behind the best one by at most one standard error of the paired difference (the rule of Breiman
    et al. 1984 for the size of a tree). With fewer than `LEAST` images only the
    best means stay. A metric that is a gate tells who fails, and ranks none of those that pass.

    Args:
        labels: the settings.
        columns: metrics in the order of their weight.
        calls: model calls a map.
        images: how many there were.
    """
    left = list(range(len(labels)))
    margin = "in the mean" if images < LEAST else "by more than one standard error"
    reasons: list[str] = []
    for column in columns:
        good = column.goodness
        known = [i for i in left if np.isfinite(good[:, i]).any()]
        if column.direction == "none" or not known or len(left) == 1:
            continue
        if column.limit is not None:
            reason, left = _gate(column, column.limit, labels, known)
            reasons.append(reason)
            continue
        means = {i: float(np.nanmean(good[:, i])) for i in known}
        best = max(known, key=lambda i: (means[i], -calls[i], -i))
        stay = [i for i in known if i == best or _close(good[:, best], good[:, i], images)]
        gone = len(left) - len(stay)
        reasons.append(
            f"By {column.label.replace('_', ' ')} {labels[best]} is best "
            f"({column.values[:, best][np.isfinite(column.values[:, best])].mean():.3f}); "
            + (f"{gone} of {len(left)} are behind {margin}." if gone else "no other is behind.")
        )
        left = stay
    first = columns[0].goodness if columns else np.zeros((1, len(labels)))
    chosen = min(left, key=lambda i: (calls[i], -float(np.nan_to_num(first[:, i]).mean()), i))
    if len(left) > 1:
        reasons.append(
            f"Of the {len(left)} that remain, {labels[chosen]} needs the fewest model calls "
            f"({calls[chosen]:,.0f})."
        )
    if images < FEW:
        reasons.append(
            f"With {counted(images, 'image')} nothing can be shown, and another image may change "
            f"it. Use {FEW} or more."
        )
    return Advice(labels[chosen], tuple(reasons))


def _gate(
    column: Column, limit: float, labels: Sequence[str], left: list[int]
) -> tuple[str, list[int]]:
    """Who fails a gate, in words, and who is left; all are where nobody passes."""
    means = {i: float(np.nanmean(column.values[:, i])) for i in left}
    name = column.label.replace("_", " ")
    failed = [f"{labels[i]} ({means[i]:.2f})" for i in left if means[i] >= limit]
    passed = [i for i in left if means[i] < limit]
    if not passed:
        return f"All fail {name} ({limit:g} or more): trust none of them.", left
    if not failed:
        return f"None fails {name} (all below {limit:g}).", left
    *others, last = failed
    who = f"{', '.join(others)} and {last} fail" if others else f"{last} fails"
    return f"{who} {name} ({limit:g} or more).", passed


def _close(best: Array, other: Array, images: int) -> bool:
    """Whether the other one is at most one standard error behind."""
    known = np.isfinite(best) & np.isfinite(other)
    if not known.any():
        return False
    if images < LEAST:
        return bool(np.allclose(best[known].mean(), other[known].mean(), rtol=0, atol=1e-9))
    behind = (best - other)[known]
    return bool(behind.mean() <= behind.std(ddof=1) / np.sqrt(len(behind)) + 1e-12)
