"""The numbers of agreement: IoU by image and pair, what the images are like, what goes with it."""

import itertools

import numpy as np
import pandas as pd
import torch
from scipy import ndimage
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import PairMetric, Samples
from xbench.operations.ranks import spearman
from xbench.probes.maps import Maps, class_name
from xbench.probes.shared import correlation_interval
from xbench.registry import METRICS
from xbench.statistics.intervals import mean_interval
from xbench.streams import Streams

FEW = 5
"""Fewer images say nothing of a correlation."""


def pair_values(found: Maps, samples: Samples, q: float, seed: int) -> pd.DataFrame:
    """IoU of every image and pair of methods: columns row, method, other, iou."""
    metric = METRICS.create(f"iou[q={q}]")
    assert isinstance(metric.value, PairMetric)
    streams = Streams(seed=seed, image_ids=list(samples.ids), scope=metric.identity)
    parts = []
    for one, other in itertools.combinations(found.maps, 2):
        values = metric.value.compare(found.maps[one], found.maps[other], streams=streams).values
        parts.append(
            pd.DataFrame(
                {"row": range(len(samples)), "method": one, "other": other, "iou": values.numpy()}
            )
        )
    return pd.concat(parts, ignore_index=True)


def image_table(
    model: Classifier,
    samples: Samples,
    pairs: pd.DataFrame,
    classes: Tensor,
    confidence: Tensor,
    found: Maps,
) -> pd.DataFrame:
    """One record an image, most agreement first."""
    by_image = pairs.groupby("row")["iou"]
    size, count = objects(samples)
    labels = samples.labels.tolist()
    frame = pd.DataFrame(
        {
            "image": list(samples.ids),
            "iou": by_image.mean().to_numpy(),
            "class": [class_name(model, label) if label >= 0 else "" for label in labels],
            "predicted": [class_name(model, int(index)) for index in classes],
            "confidence": confidence.double().numpy(),
            "lowest_pair": by_image.min().to_numpy(),
            "highest_pair": by_image.max().to_numpy(),
            "object_area": size,
            "objects": count,
            "map_area": _map_area(found),
            "edges": _edges(samples.images),
            "row": range(len(samples)),
        }
    )
    return frame.sort_values(["iou", "image"], ascending=[False, True], ignore_index=True)


def objects(samples: Samples) -> tuple[list[float], list[float]]:
    """Share of each image that its object covers, and the number of objects; NaN without masks."""
    size, count = [], []
    for row in range(len(samples)):
        defined = samples.truth_defined is None or bool(samples.truth_defined[row])
        if samples.truth is None or not defined:
            size.append(float("nan"))
            count.append(float("nan"))
            continue
        truth = samples.truth[row]
        size.append(float(truth.double().mean()))
        stacks = [truth] + [
            samples.extras[name][row]
            for name in ("distractors", "others")
            if name in samples.extras
        ]
        count.append(float(sum(_parts(mask) for mask in stacks)))
    return size, count


def _parts(mask: Tensor) -> int:
    return int(ndimage.label(mask.numpy(), structure=np.ones((3, 3)))[1])


def _map_area(found: Maps) -> list[float]:
    """Share of the pixels that hold half of the mean of the methods' normalized magnitudes."""
    total = torch.zeros_like(next(iter(found.maps.values())), dtype=torch.float64)
    for maps in found.maps.values():
        mass = maps.double().abs()
        total += mass / mass.sum(dim=(1, 2), keepdim=True).clamp(min=1e-300)
    ordered = total.flatten(1).sort(dim=1, descending=True).values.cumsum(dim=1)
    half = ordered[:, -1:] / 2
    return ((ordered < half).sum(dim=1) + 1).div(ordered.shape[1]).tolist()


def _edges(images: Tensor) -> list[float]:
    gray = images.mean(dim=1)
    across = (gray[:, :, 1:] - gray[:, :, :-1]).abs().mean(dim=(1, 2))
    down = (gray[:, 1:] - gray[:, :-1]).abs().mean(dim=(1, 2))
    return [float(value) for value in across + down]


def pair_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Mean IoU of every pair with its interval, most agreement first."""
    rows = []
    for (one, other), part in pairs.groupby(["method", "other"], sort=False):
        found = mean_interval(part["iou"].to_numpy())
        rows.append(
            {
                "method": str(one),
                "other": str(other),
                "iou": found.value,
                "low": found.low,
                "high": found.high,
                "images": int(part["iou"].notna().sum()),
            }
        )
    return pd.DataFrame(rows).sort_values("iou", ascending=False, ignore_index=True)


FACTORS = {
    "confidence": "confidence of the prediction",
    "object_area": "share of the image that the object covers",
    "objects": "number of objects",
    "map_area": "spread of the maps",
    "edges": "edge strength",
}


def factor_table(table: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of the images' IoU with every factor that varies."""
    rows = []
    for name, words in FACTORS.items():
        known = table[["iou", name]].dropna()
        varies = len(known) >= FEW and known[name].nunique() > 1 and known["iou"].nunique() > 1
        value = float("nan")
        if varies:
            first, second = (torch.tensor(known[c].to_numpy())[None] for c in ("iou", name))
            value = float(spearman(first, second))
        found = correlation_interval(value, len(known))
        rows.append(
            {
                "factor": name,
                "meaning": words,
                "spearman": found.value,
                "low": found.low,
                "high": found.high,
                "images": len(known),
            }
        )
    return pd.DataFrame(rows)
