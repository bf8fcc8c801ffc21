"""How a map moves when an attack turns the prediction, in numbers."""

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.operations.ranks import spearman
from xbench.operations.selection import top_membership
from xbench.probes.maps import Maps
from xbench.statistics.intervals import mean_interval

GRID, SHARE = 14, 0.1
COLUMNS = (
    "change",
    "iou",
    "change_same_class",
    "change_of_class",
    "change_noise",
    "points",
    "points_clean",
    "hits",
)
MOVES = (
    "Means over fooled images, with 95 % intervals of the first and of `points`. change: 1 minus "
    "the rank correlation of the map of the first prediction before and the map of the target "
    "after; iou: of their top 10 % of the pixels; change_same_class: the first prediction's map "
    "before and after; change_of_class: first prediction and target on the clean image; "
    "change_noise: under random noise of the attack's size; points: rank correlation, over 14 x 14 "
    "cells, of the target's map after (magnitudes) with the size of the perturbation, and "
    "points_clean the same before the attack; hits: how much more often than chance the top 10 % "
    "of the pixels are among the 10 % most perturbed ones."
)


def moves(
    maps: Maps, difference: Tensor, image_id: str, attack: str, *, works: bool
) -> pd.DataFrame:
    """One record a method.

    Args:
        maps: of (clean, before), (clean, target), (fooled, target), (fooled, before) and
            (noise, before), in this order.
        difference: what the attack added, (C, H, W).
        image_id, attack: of the record.
        works: whether the model was fooled.
    """
    size = difference.abs().mean(dim=0)
    rows = []
    for label, found in maps.maps.items():
        clean, other, fooled, kept, noisy = found.unbind(0)
        rows.append(
            {
                "image": image_id,
                "attack": attack,
                "method": label,
                "fooled": works,
                "change": 1 - _alike(clean, fooled),
                "iou": top_overlap(clean, fooled),
                "change_same_class": 1 - _alike(clean, kept),
                "change_of_class": 1 - _alike(clean, other),
                "change_noise": 1 - _alike(clean, noisy),
                "points": pointing(fooled, size),
                "points_clean": pointing(clean, size),
                "hits": hits(fooled, size),
            }
        )
    return pd.DataFrame(rows)


def move_table(every: pd.DataFrame) -> pd.DataFrame:
    """Means over the fooled images by attack and method."""
    rows = []
    for (attack, method), part in every.groupby(["attack", "method"], sort=False):
        part = part[part["fooled"]]
        row: dict[str, object] = {"attack": attack, "method": method, "images": len(part)}
        for name in COLUMNS:
            found = mean_interval(part[name].to_numpy())
            row[name] = found.value
            if name in ("change", "points"):
                row |= {f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _alike(first: Tensor, second: Tensor) -> float:
    return float(spearman(first[None], second[None]))


def top_overlap(first: Tensor, second: Tensor) -> float:
    """IoU of the top 10 % of the pixels of two maps (H, W)."""
    one, other = _tops((first, second))
    shared = float((one * other).sum())
    return shared / (float(one.sum() + other.sum()) - shared)


def pointing(values: Tensor, size: Tensor) -> float:
    """Rank correlation of a map's magnitude with the perturbation, over cells."""
    cells = (min(GRID, values.shape[0]), min(GRID, values.shape[1]))
    pooled = F.adaptive_avg_pool2d(torch.stack([values.abs(), size])[:, None].double(), cells)
    return _alike(pooled[0, 0], pooled[1, 0])


def hits(values: Tensor, size: Tensor) -> float:
    """Share of the top pixels of |map| among the most perturbed ones, over chance."""
    one, other = _tops((values.abs(), size))
    return float((one * other).sum() / one.sum()) / SHARE


def _tops(stack: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    count = max(1, round(SHARE * stack[0].numel()))
    one, other = top_membership(torch.stack(list(stack)), count)
    return one, other
