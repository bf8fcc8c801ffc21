"""Curves of metrics: means over images with bootstrap bands, and which ones a page shows first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from xbench.statistics.intervals import expanded_score

Array = NDArray[np.float64]

PREFERRED = ("probability", "spearman", "morf", "lerf")
"""Of a metric's curves, the first of these stands for it; logits have no common scale."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Band:
    """The mean curve of a method and its 95 % band, each float64 (K,)."""

    mean: Array
    low: Array
    high: Array


@dataclass(frozen=True)
class Family:
    """One chart: a curve of a metric for all methods.

    Attributes:
        metric: its label.
        name: of the curve.
        x: positions (K,).
        x_label: what the positions are.
        bands: one a method by label.
        images: over how many images.
        main: whether this curve stands for its metric.
    """

    metric: str
    name: str
    x: Sequence[float]
    x_label: str
    bands: Mapping[str, Band]
    images: int
    main: bool


def mean_band(values: Array, *, resamples: int = RESAMPLES, seed: int = 0) -> Band:
    """Mean over images and pointwise 95 % bootstrap band (expanded percentiles), images resampled.

    Args:
        values: (N, K), NaN where undefined (left out of that point).
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        the band; its ends are NaN with fewer than 3 images.
    """
    count, length = values.shape
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    mean = _divide(filled.sum(axis=0), known.sum(axis=0).astype(np.float64))
    if count < 3:
        nothing = np.full(length, np.nan)
        return Band(mean, nothing, nothing)
    shares = np.full(count, 1 / count)
    weights = np.random.default_rng(seed).multinomial(count, shares, size=resamples).astype(float)
    means = _divide(weights @ filled, weights @ known.astype(np.float64))
    empty = ~known.any(axis=0)
    means[:, empty] = 0.0
    tail = float(special.ndtr(-expanded_score(count)))
    low, high = np.nanquantile(means, (tail, 1 - tail), axis=0)
    low[empty] = high[empty] = np.nan
    return Band(mean, low, high)


def _divide(total: Array, count: Array) -> Array:
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def curve_families(curves: pd.DataFrame, manifest: Mapping[str, Any]) -> list[Family]:
    """Every curve of a run that has a common length, in the order of the manifest's metrics.

    Args:
        curves: rows of the run store: method, metric, name, points.
        manifest: parameters and properties of the metrics.
    """
    methods = [entry["label"] for entry in manifest["methods"]]
    families = []
    for entry in manifest["metrics"]:
        own = curves[curves["metric"] == entry["label"]]
        names = sorted(set(own["name"]), key=_preference)
        for name in names:
            bands, images = _bands(own[own["name"] == name], methods)
            if not bands:
                continue
            length = len(next(iter(bands.values())).mean)
            if length < 2:
                continue
            x, x_label = _positions(entry, length)
            families.append(
                Family(entry["label"], name, x, x_label, bands, images, name == names[0])
            )
    return families


def _preference(name: str) -> tuple[int, str]:
    return (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name)


def _bands(rows: pd.DataFrame, methods: Sequence[str]) -> tuple[dict[str, Band], int]:
    lengths = rows["points"].map(len)
    if not len(lengths):
        return {}, 0
    rows = rows[lengths == lengths.mode().iloc[0]]
    bands, images = {}, 0
    for method, group in rows.groupby("method", sort=False):
        table = np.asarray(group["points"].tolist(), dtype=np.float64)
        if table.size and np.isfinite(table).any():
            bands[str(method)] = mean_band(table)
            images = max(images, len(table))
    return {method: bands[method] for method in methods if method in bands}, images


def _positions(entry: Mapping[str, Any], length: int) -> tuple[list[float], str]:
    """Where the points of a metric's curves are: a parameter that lists them, or equal steps."""
    for name, value in (entry.get("parameters") or {}).items():
        if isinstance(value, list) and len(value) == length and _increasing(value):
            return [float(x) for x in value], name.replace("_", " ")
    if entry["card"]["property"] == "randomization":
        return [float(i + 1) for i in range(length)], "randomized layers, step by step"
    if (entry.get("parameters") or {}).get("steps") == length - 1:
        way = "shown" if "insertion" in entry["card"]["name"] else "removed"
        return [i / (length - 1) for i in range(length)], f"share of the pixels {way}"
    return [float(i + 1) for i in range(length)], "step"


def _increasing(values: Sequence[object]) -> bool:
    numbers = [float(x) for x in values if isinstance(x, int | float)]
    return len(numbers) == len(values) and all(a < b for a, b in pairwise(numbers))
