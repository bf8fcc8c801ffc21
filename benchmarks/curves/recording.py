"""Full deletion and insertion curves of a network, kept in a file after every image."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from xbench.classifier import Classifier
from xbench.contracts import Case, Source
from xbench.errors import XbenchError
from xbench.files import replacing
from xbench.registry import METHODS, METRICS
from xbench.running.cases import bind
from xbench.streams import Streams

STEPS = 224
METRIC_NAMES = ("deletion", "insertion")

Curves = dict[str, np.ndarray]
"""`probability` (R, STEPS + 1) float64, and `image`, `method`, `metric` (R,) of each curve.

Curves run from nothing to everything removed, as the metrics measure them; insertion, too.
"""


def record(
    model: Classifier, source: Source, images: Sequence[int], methods: Sequence[str], cache: Path
) -> Curves:
    """The curves of all methods and both metrics on these images; what the cache holds is kept.

    Args:
        model: the classifier.
        source: the images.
        images: positions in the source.
        methods: names of methods.
        cache: an npz file, written after every image.

    Raises:
        XbenchError: the cache is of another network.
    """
    kept = _load(cache, model.fingerprint())
    wanted = {(source.ids[i], method) for i in images for method in methods}
    for position in images:
        have = {m for i, m in _pairs(kept) if i == source.ids[position]}
        missing = [method for method in methods if method not in have]
        if missing:
            rows = list(_curves(model, source, position, missing))
            for key, column in zip(kept, zip(*rows, strict=True), strict=True):
                kept[key] = np.concatenate([kept[key], np.array(column)])
            with replacing(cache) as path, path.open("wb") as file:
                np.savez_compressed(file, network=model.fingerprint(), **kept)
            print(f"{len(kept['image'])} curves", flush=True)
    keep = np.array([pair in wanted for pair in _pairs(kept)], dtype=bool)
    return {key: column[keep] for key, column in kept.items()}


def _pairs(curves: Curves) -> list[tuple[str, str]]:
    return list(zip(curves["image"].tolist(), curves["method"].tolist(), strict=True))


def _load(cache: Path, network: str) -> Curves:
    if not cache.is_file():
        names = np.empty(0, dtype="<U1")
        empty = np.empty((0, STEPS + 1))
        return {"probability": empty, "image": names, "method": names, "metric": names}
    with np.load(cache) as file:
        if str(file["network"]) != network:
            raise XbenchError(f"{cache} holds the curves of another network; give another file.")
        return {key: file[key] for key in ("probability", "image", "method", "metric")}


def _curves(
    model: Classifier, source: Source, position: int, methods: Sequence[str]
) -> Iterator[tuple[np.ndarray, str, str, str]]:
    samples = source.read([position])
    images, ids = samples.images.to(model.device), list(samples.ids)
    targets = model.logits(images).argmax(dim=1)
    case = Case(
        model=model,
        images=images,
        targets=targets,
        maps=torch.zeros_like(images[:, 0]),
        explain=lambda *_, **__: images[:, 0],
        image_ids=ids,
    )
    for name in methods:
        chosen = METHODS.create(name)
        bound = bind(chosen.value, model, images, targets, Streams(0, ids, chosen.identity))
        scored = case.with_maps(bound(images))
        for metric in METRIC_NAMES:
            exact = METRICS.create(f"{metric}[steps={STEPS}]").value
            found = exact.score(scored, streams=Streams(0, ids, metric))
            curve = found.curves["probability"][0].numpy()
            yield curve[::-1] if metric == "insertion" else curve, ids[0], name, metric
