"""Small grids for tests of the runner: a random CNN, random images, methods made on the spot."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import nets
import pandas as pd
import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard, Samples, Source
from xbench.records import Store
from xbench.registry import METHODS, METRICS, Chosen, Entry
from xbench.running.grid import Grid
from xbench.running.local import Progress, execute
from xbench.running.maps import MapCache
from xbench.streams import Streams

TIMINGS = ["seconds", "peak_mb"]


class Pictures(Source):
    """Random images in memory, with a mask and labels."""

    def __init__(self, count: int = 5, size: int = 16) -> None:
        self.name = "pictures"
        self.digest = f"{count}x{size}"
        self.ids = [f"picture-{i}" for i in range(count)]
        self.labels = [i % 5 for i in range(count)]
        self.pixels = nets.pictures(count, 3, size, size)

    def read(self, indices: Sequence[int]) -> Samples:
        """See `Source.read`."""
        index = torch.as_tensor(list(indices))
        truth = torch.zeros(len(index), *self.pixels.shape[-2:], dtype=torch.bool)
        truth[:, 4:9, 5:11] = True
        return Samples(
            images=self.pixels[index],
            labels=torch.as_tensor(self.labels)[index],
            ids=[self.ids[int(i)] for i in index],
            truth=truth,
        )


@dataclass(frozen=True)
class Strange(Method):
    """A method whose behavior a test decides; a control unless the test wants it probed."""

    card: ClassVar[MethodCard] = MethodCard(name="strange", family="control", summary="A test.")
    act: Callable[[Classifier, Tensor], Tensor]
    family: str = "control"

    def __post_init__(self) -> None:
        card = MethodCard(name="strange", family=self.family, summary="A test.")
        object.__setattr__(self, "card", card)

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Whatever the test wants."""
        return self.act(model, images)


def small_grid(
    methods: str = "gradient,gradcam,random",
    metrics: str = "deletion,sparseness,iou",
    *,
    batch_size: int = 4,
    count: int = 5,
    chunk: int = 2,
    extra: Sequence[Chosen[Method]] = (),
    **options: Any,
) -> Grid:
    """A grid over random pictures and a random CNN."""
    return Grid(
        model=Classifier(nets.build(nets.SmallCNN), name="small", batch_size=batch_size),
        source=Pictures(count),
        methods=[*METHODS.select(methods), *extra],
        metrics=METRICS.select(metrics),
        chunk=chunk,
        **options,
    )


def chosen(method: Method) -> Chosen[Method]:
    """A method that is in no catalogue, as the runner wants it."""
    card = method.card
    return Chosen(card.name, card.name, method, card, Entry(card.name, type(method), {}, card, ""))


def run_in(folder: Path, grid: Grid, progress: Progress | None = None) -> pd.DataFrame:
    """Run a grid in a folder, and give its records without timings."""
    folder.mkdir(exist_ok=True)
    store = Store(folder / "records.sqlite")
    try:
        execute(grid, store, MapCache(folder / "maps"), progress=progress)
        return store.frame().drop(columns=TIMINGS)
    finally:
        store.close()


@dataclass
class StopAfter:
    """Progress that interrupts the run after some units."""

    units: int

    def start(self, total: int, done: int) -> None:
        """Nothing."""

    def step(self, what: str) -> None:
        """Count down."""
        self.units -= 1
        if self.units == 0:
            raise KeyboardInterrupt
