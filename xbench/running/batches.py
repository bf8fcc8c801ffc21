"""One chunk of images, read and classified, with the work that all methods share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.classifier import Counter
from xbench.contracts import Bank, Samples
from xbench.cost import Cost
from xbench.errors import DataError, ModelError
from xbench.operations.mosaics import confident_pool
from xbench.running.grid import Grid
from xbench.streams import Streams

POOL = 256


class SharedBank(Bank):
    """A bank whose model calls are counted apart, so that no method pays for what all share."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter
        self._depth = 0
        self.spent = Cost()

    def get(self, key: object, compute: object) -> object:
        """The entry under `key`; calls made while computing it are booked as shared."""
        if key in self._entries:
            return self._entries[key]
        before = self.counter.read()
        self._depth += 1
        try:
            with self.counter.paused():
                value = super().get(key, compute)
                after = self.counter.read()
        finally:
            self._depth -= 1
        self.spent = self.spent + (after - before)
        return value


@dataclass(frozen=True)
class Batch:
    """A chunk on the device.

    Attributes:
        number: which chunk.
        images, targets, truth, truth_defined, labels, extras: see `xbench.contracts.Case`.
        ids: one identifier an image.
        predicted: int64 (N,), the model's top class.
        confidence: float32 (N,), its probability.
        streams: one stream an image, not scoped yet.
        bank: shared work.
        facts: what cost formulas may use, see `Classifier.facts`.
        pool: images that the model is sure of, partners for mosaics; the same for all chunks.
    """

    number: int
    images: Tensor
    targets: Tensor
    labels: Tensor
    predicted: Tensor
    confidence: Tensor
    ids: Sequence[str]
    truth: Tensor | None
    truth_defined: Tensor | None
    extras: dict[str, Tensor]
    streams: Streams
    bank: SharedBank
    facts: Mapping[str, object]
    pool: Samples | None

    def __len__(self) -> int:
        return len(self.ids)


def read_pool(grid: Grid) -> Samples | None:
    """Images that the model is sure of, among the first of the source; None if nobody asks."""
    if not any("pool" in metric.card.needs for metric in grid.metrics):
        return None
    first = grid.source.read(range(min(POOL, len(grid.source))))
    return confident_pool(grid.model, first)


def read_batch(grid: Grid, number: int, pool: Samples | None = None) -> Batch:
    """Read a chunk, classify it, and decide which class each map is asked for.

    Raises:
        DataError: targets are labels, but some are unknown.
        ModelError: the model's logits are not finite.
    """
    samples = grid.source.read(grid.chunks()[number])
    device = grid.model.device
    images = samples.images.to(device)
    with grid.model.counter.paused():
        logits = grid.model.logits(images)
    _check_logits(logits, samples)
    confidence, predicted = logits.softmax(dim=1).max(dim=1)
    labels = samples.labels.to(device)
    targets = predicted
    if grid.target == "label":
        if bool((labels < 0).any()):
            raise DataError("--target label needs labels, and some images have none.")
        if int(labels.max()) >= logits.shape[1]:
            raise DataError(
                f"The data has the label {int(labels.max())}, the model only {logits.shape[1]} "
                "classes; use --target predicted."
            )
        targets = labels
    return Batch(
        number=number,
        images=images,
        targets=targets,
        labels=labels,
        predicted=predicted,
        confidence=confidence,
        ids=list(samples.ids),
        truth=None if samples.truth is None else samples.truth.to(device),
        truth_defined=_truth_defined(samples, labels, targets),
        extras={name: mask.to(device) for name, mask in samples.extras.items()},
        streams=Streams(seed=grid.seed, image_ids=list(samples.ids)),
        bank=SharedBank(grid.model.counter),
        facts=grid.model.facts(images.shape),
        pool=pool,
    )


def _truth_defined(samples: Samples, labels: Tensor, targets: Tensor) -> Tensor | None:
    """A mask says where the labeled class is; a map for another class is not measured by it."""
    if samples.truth is None:
        return None
    known = torch.ones_like(labels, dtype=torch.bool)
    if samples.truth_defined is not None:
        known = samples.truth_defined.to(labels.device)
    return known & ((labels < 0) | (labels == targets))


def _check_logits(logits: Tensor, samples: Samples) -> None:
    bad = ~torch.isfinite(logits).all(dim=1)
    if bool(bad.any()):
        first = samples.ids[int(bad.nonzero()[0])]
        raise ModelError(
            f"The model returns NaN or infinite logits on {int(bad.sum())} of {len(samples)} "
            f"images (first: {first}); check its weights and the normalization."
        )
