"""Choosing among the images of a source: some of them, or those that the model gets right."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Samples, Source
from xbench.errors import DataError
from xbench.streams import seed_of


class Subset(Source):
    """Some images of another source, in a given order."""

    def __init__(self, source: Source, indices: Sequence[int], why: str = "") -> None:
        self.source = source
        self.indices = list(indices)
        self.name = source.name
        self.ids = [source.ids[index] for index in self.indices]
        self.labels = [source.labels[index] for index in self.indices]
        self.class_names = source.class_names
        self.skipped = source.skipped
        self.notes = source.notes
        text = repr((source.digest, why, self.ids))
        self.digest = hashlib.sha256(text.encode()).hexdigest()[:16]

    def read(self, indices: Sequence[int]) -> Samples:
        """See `Source.read`."""
        return self.source.read([self.indices[index] for index in indices])


@dataclass(frozen=True)
class Predictions:
    """What the model says of every image of a source.

    Attributes:
        labels: int64 (N,), -1 where unknown.
        top: int64 (N, k), the k most probable classes, best first.
        confidence: float32 (N,), probability of the first.
    """

    labels: Tensor
    top: Tensor
    confidence: Tensor

    @property
    def known(self) -> Tensor:
        """Bool (N,): images with a label."""
        return self.labels >= 0

    @property
    def right(self) -> Tensor:
        """Bool (N,): images whose label is the most probable class."""
        return self.known & (self.top[:, 0] == self.labels)


def predict(model: Classifier, source: Source, *, k: int = 5, chunk: int = 64) -> Predictions:
    """Classify every image of a source; the calls are not counted.

    Args:
        model: the classifier.
        source: the images.
        k: how many classes to keep, at most as many as there are.
        chunk: images read at a time.
    """
    labels, top, confidence = [], [], []
    with model.counter.paused():
        for start in range(0, len(source), chunk):
            samples = source.read(range(start, min(start + chunk, len(source))))
            chance = model.probabilities(samples.images.to(model.device)).cpu()
            best = chance.topk(min(k, chance.shape[1]), dim=1)
            labels.append(samples.labels)
            top.append(best.indices)
            confidence.append(best.values[:, 0])
    return Predictions(torch.cat(labels), torch.cat(top), torch.cat(confidence))


def only_correct(
    model: Classifier,
    open_source: Callable[[int | None], Source],
    *,
    limit: int | None,
    seed: int,
) -> Source:
    """The images that the model gets right, as many as asked for where there are so many.

    Sources keep the images of a small limit in a larger one, so the limit is doubled until enough
    right ones are found or no more come.

    Args:
        model: the classifier.
        open_source: opens the data with a limit, as `Dataset.open` does.
        limit: at most so many, chosen by the seed and balanced over classes; None for all.
        seed: of that choice.

    Raises:
        DataError: the labels are unknown, or the model gets no image right.
    """
    asked, before = limit, -1
    while True:
        source = open_source(asked)
        found = predict(model, source, k=1)
        if not bool(found.known.any()):
            raise DataError(f"{source.name} has no labels, so right and wrong cannot be told.")
        right = found.right.nonzero()[:, 0].tolist()
        if asked is None or limit is None or len(right) >= limit:
            break
        if len(source) < asked or len(source) == before:  # there are no more
            break
        before, asked = len(source), 2 * asked
    if not right:
        raise DataError(f"The model gets none of the {len(source)} images of {source.name} right.")
    if limit is not None and len(right) > limit:
        right = sorted(_spread(source, right, seed)[:limit])
    chosen = Subset(source, right, "only correct")
    share = f"{int(found.right.sum())} of {int(found.known.sum())}"
    chosen.notes = [*source.notes, f"Only images that the model gets right ({share} were)."]
    return chosen


def _spread(source: Source, positions: Sequence[int], seed: int) -> list[int]:
    """The positions ordered so that every class comes once before any comes twice."""
    drawn = sorted(positions, key=lambda position: seed_of(seed, "correct", source.ids[position]))
    turns: dict[int, int] = {}
    ranked = []
    for order, position in enumerate(drawn):
        label = source.labels[position]
        turns[label] = turns.get(label, -1) + 1
        ranked.append((turns[label], order, position))
    return [position for _, _, position in sorted(ranked)]
