"""The grid: which methods and metrics on which images of which model, and its cells."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from xbench.classifier import Classifier
from xbench.contracts import Method, Metric, PairMetric, Source
from xbench.reading import Reading
from xbench.records import Unit
from xbench.registry import Chosen
from xbench.running.budget import Budgets
from xbench.streams import seed_of

EXPLAIN = "explain"


@dataclass(frozen=True)
class Grid:
    """Everything that decides the records of a run.

    Attributes:
        model: the classifier under test.
        source: the images.
        methods: what to judge.
        metrics: by what.
        seed: of every random draw.
        chunk: images that are worked on together; a fixed size, so that no number depends on
            where a run was interrupted.
        target: explain the model's own top class, or the label.
        max_calls: refuse metrics that need more model calls an image, None for no limit.
        max_map_calls: refuse methods whose map needs more model calls, None for no limit.
        reading: how maps are read before they are scored.
        training: images to train the model anew on, for the metrics that need it, or None.
        twin: a classifier of the same shape trained on permuted labels, if there is one.
        cell_seconds: interrupt a method or metric that takes longer on one chunk, None never.
        spare: the same grid on the CPU, for cells that the device has no memory for, or None.
        shard: (i, n): only the chunks i - 1, i - 1 + n ...; None for all.
        shuffled: whether chunks are drawn from the images at random (by the seed), not in the
            source's order; no number depends on it, but what the first chunks show does.
        budgets: how methods were set to a number of model calls, None where they were not.
    """

    model: Classifier
    source: Source
    methods: Sequence[Chosen[Method]]
    metrics: Sequence[Chosen[Metric | PairMetric]]
    seed: int = 0
    chunk: int = 16
    target: Literal["predicted", "label"] = "predicted"
    max_calls: int | None = None
    max_map_calls: int | None = None
    reading: Reading = field(default_factory=Reading)
    training: Source | None = None
    twin: Classifier | None = None
    cell_seconds: float | None = None
    spare: "Grid | None" = None
    shard: tuple[int, int] | None = None
    shuffled: bool = False
    budgets: Budgets | None = None

    @property
    def model_id(self) -> str:
        """Name and weights hash of the model, as in records."""
        return f"{self.model.name}@{self.model.weights_hash[:12]}"

    @property
    def single(self) -> list[Chosen[Metric]]:
        """The metrics of one method's maps."""
        return [m for m in self.metrics if isinstance(m.value, Metric)]  # type: ignore[misc]

    @property
    def pairwise(self) -> list[Chosen[PairMetric]]:
        """The metrics of two methods' maps."""
        return [m for m in self.metrics if isinstance(m.value, PairMetric)]  # type: ignore[misc]

    @property
    def pairs(self) -> list[tuple[Chosen[Method], Chosen[Method]]]:
        """All unordered pairs of methods, by label."""
        ordered = sorted(self.methods, key=lambda method: method.label)
        return [(a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :]]

    def chunks(self) -> list[list[int]]:
        """Positions of the images in each chunk."""
        order = list(range(len(self.source)))
        if self.shuffled:
            order.sort(key=lambda place: seed_of(self.seed, "order", self.source.ids[place]))
        return [order[s : s + self.chunk] for s in range(0, len(order), self.chunk)]

    def units(self) -> Iterator[Unit]:
        """Every unit of work, in the order in which it is done."""
        start, step = (0, 1) if self.shard is None else (self.shard[0] - 1, self.shard[1])
        for chunk in range(start, len(self.chunks()), step):
            for method in self.methods:
                yield Unit(method.label, "", EXPLAIN, chunk)
                for metric in self.single:
                    yield Unit(method.label, "", metric.label, chunk)
            for metric_of_pairs in self.pairwise:
                for first, second in self.pairs:
                    yield Unit(first.label, second.label, metric_of_pairs.label, chunk)
