"""The gallery: which images are worth a look, and their maps as small sprites."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from xbench.running.maps import MapCache
from xbench.statistics.table import ScoreTable

Array = NDArray[np.float32]
SIDE = 104
EACH = 4
"""Images of each kind: best, worst, most disagreement, wrong predictions, typical."""


@dataclass(frozen=True)
class Picture:
    """One image of the gallery.

    Attributes:
        image_id: as in the records.
        reasons: why it was chosen.
        about: true class, predicted class and confidence in words.
        sprite: the image and its maps side by side, a WebP data URI.
        methods: whose maps follow the image, in this order.
    """

    image_id: str
    reasons: tuple[str, ...]
    about: str
    sprite: str
    methods: tuple[str, ...]


def chosen_images(table: ScoreTable, facts: pd.DataFrame, each: int = EACH) -> dict[str, list[str]]:
    """Images worth a look, each with the reasons why.

    Args:
        table: values of all metrics.
        facts: by image_id: label, predicted, confidence.
        each: how many of each kind.
    """
    found: dict[str, list[str]] = {}

    def add(ids: Iterable[str], reason: str) -> None:
        for image_id in ids:
            found.setdefault(image_id, []).append(reason)

    ease = image_ease(table)
    ranked = [image for _, image in sorted((v, i) for i, v in ease.items() if np.isfinite(v))]
    half = max(1, min(each, len(ranked) // 3))
    add(ranked[: -half - 1 : -1], "methods do best")
    add(ranked[:half], "methods do worst")
    agreement = image_agreement(table)
    split = [image for _, image in sorted((v, i) for i, v in agreement.items() if np.isfinite(v))]
    add(split[: max(1, min(each, len(split) // 3))], "methods disagree most")
    wrong = facts[(facts["label"] >= 0) & (facts["label"] != facts["predicted"])]
    add(wrong.sort_values("confidence", ascending=False).index[:each], "wrong prediction")
    middle = len(ranked) // 2
    add(ranked[middle : middle + max(1, each // 2)], "typical")
    return found


def image_ease(table: ScoreTable) -> dict[str, float]:
    """How well the methods do on each image: mean percentile over metrics, controls left out."""
    real = [place for place, method in enumerate(table.methods) if not method.control]
    percentiles = []
    for scores in table.scores.values():
        info = scores.info
        if info.direction == "none" or info.property in ("randomization", "efficiency"):
            continue
        means = _row_means(scores.values[:, real] * info.sign)
        percentiles.append(pd.Series(means).rank(pct=True).to_numpy())
    if not percentiles or not real:
        return dict.fromkeys(table.images, float("nan"))
    joined = _row_means(np.stack(percentiles, axis=1))
    return dict(zip(table.images, joined.tolist(), strict=True))


def image_agreement(table: ScoreTable) -> dict[str, float]:
    """How far methods agree on each image, by the first pairwise metric of the run."""
    real = [place for place, method in enumerate(table.methods) if not method.control]
    for scores in table.scores.values():
        if scores.info.pairwise:
            means = _row_means(scores.values[:, real])
            return dict(zip(table.images, means.tolist(), strict=True))
    return {}


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = np.isfinite(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.asarray(np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0))


def pictures(
    cache: MapCache,
    reasons: Mapping[str, Sequence[str]],
    facts: pd.DataFrame,
    *,
    signed: Mapping[str, bool],
    class_name: Callable[[int], str],
) -> list[Picture]:
    """The gallery, from the thumbnails and maps of a run folder; damaged files are set aside.

    Args:
        cache: of `maps/` of the run.
        reasons: chosen images and why.
        facts: by image_id: label, predicted, confidence, chunk.
        signed: methods to show, in this order, and whether their maps are signed.
        class_name: names a class by its number.
    """
    found = []
    numbers = {str(image): int(chunk) for image, chunk in facts["chunk"].items()}
    by_chunk = {image: numbers[image] for image in reasons if image in numbers}
    chunks = set(by_chunk.values())
    small = {chunk: pair for chunk in chunks if (pair := cache.thumbnails(chunk)) is not None}
    maps = {(label, chunk): stack.numpy() for label, chunk, stack in cache.scaled(signed, chunks)}
    for image_id, why in reasons.items():
        chunk = by_chunk.get(image_id)
        if chunk is None or chunk not in small or image_id not in small[chunk][0]:
            continue
        ids, thumbnails = small[chunk]
        row = ids.index(image_id)
        tiles = [thumbnails[row].numpy()]
        methods = []
        for method in signed:
            stack = maps.get((method, chunk))
            if stack is not None and row < len(stack):
                methods.append(method)
                tiles.append(colored(stack[row], signed=signed[method]))
        about = describe(facts.loc[image_id], class_name)
        found.append(Picture(image_id, tuple(why), about, sprite(tiles), tuple(methods)))
    return found


def describe(row: Any, class_name: Callable[[int], str]) -> str:
    """True class, predicted class and confidence in words."""
    label, predicted = int(row["label"]), int(row["predicted"])
    said = f"predicted {class_name(predicted)} ({float(row['confidence']):.0%})"
    if label < 0:
        return said
    return f"{said}, {'right' if label == predicted else f'wrong: it is {class_name(label)}'}"


def colored(values: Array, *, signed: bool) -> NDArray[np.uint8]:
    """A map in colors, uint8 (H, W, 3): diverging for signed maps, viridis else.

    Each map has a scale of its own, its 99th percentile, so that one outlier hides nothing.
    """
    values = np.nan_to_num(values)
    if signed:
        top = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max()) or 1.0
        return _paint("PuOr_r", np.clip(values / top, -1, 1) / 2 + 0.5)
    low, top = float(values.min()), float(np.percentile(values, 99))
    top = top if top > low else float(values.max())
    return _paint("viridis", np.clip((values - low) / ((top - low) or 1.0), 0, 1))


def _paint(name: str, shares: NDArray[Any]) -> NDArray[np.uint8]:
    rgba: NDArray[np.uint8] = colormaps[name](shares, bytes=True)
    return np.ascontiguousarray(rgba[..., :3])


def sprite(tiles: Sequence[NDArray[np.uint8]], quality: int = 55) -> str:
    """Square tiles side by side as one WebP data URI; other shapes are letterboxed."""
    strip = Image.new("RGB", (SIDE * len(tiles), SIDE), (128, 128, 128))
    for place, tile in enumerate(tiles):
        picture = Image.fromarray(tile)
        scale = SIDE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR
        left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
        strip.paste(picture.resize(size, kind), (place * SIDE + left, top))
    buffer = io.BytesIO()
    strip.save(buffer, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
