"""The bench: one model, photographs, maps of the gradient, and the time of one plain model call."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from calls import SIZES, Calls, Pixels
from torch import Tensor
from torchvision.models import mobilenet_v2

from xbench.classifier import Classifier
from xbench.contracts import Bank, Case
from xbench.cost import Cost
from xbench.models.loading import load_classifier
from xbench.optional import seeded
from xbench.registry import DATASETS, METHODS, METRICS
from xbench.running.cases import bind
from xbench.streams import Streams

Result = TypeVar("Result")
ROOT = Path(__file__).resolve().parent.parent.parent
LAYER, LAST = "features.17", "features.18"  # the last block, and the last convolution behind it


@dataclass(frozen=True)
class Settings:
    """What the command line asks for.

    Attributes:
        device: cpu or cuda.
        quick: a tiny network, to try the harness.
    """

    device: str = "cpu"
    quick: bool = False


class Bench:
    """What all rows share.

    Args:
        settings: which device, and whether it is only a trial.

    Attributes:
        model: our classifier.
        peer: the same network from pixels, in the order in memory that is faster here, as peers
            get it.
        images, targets: photographs (or noise where there are none) and the classes explained.
        about: what the model and the images are, a sentence.
        calls: the time of one plain call.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.device = torch.device(settings.device)
        self.model, self.images, self.about = _material(settings)
        self.targets = self.model.logits(self.images).argmax(dim=1)
        self.ids = [f"image {i}" for i in range(len(self.images))]
        sizes = SIZES[:2] if settings.quick else SIZES
        self.calls = Calls(self.model, self.images, (LAYER, LAST), sizes)
        self.peer = Pixels(self.model, self.calls.order)
        self._loaded = Pixels(self.model, torch.contiguous_format)
        self._maps: dict[str, Tensor] = {}
        self._turn = 0

    @contextmanager
    def as_loaded(self) -> Iterator[None]:
        """Peers get the network in the order in memory in which it was loaded."""
        tuned, self.peer = self.peer, self._loaded
        try:
            yield
        finally:
            self.peer = tuned

    def some(self, count: int) -> int:
        """So many draws or samples; a tenth in a trial."""
        return max(4, count // 10) if self.settings.quick else count

    def streams(self, count: int, scope: str) -> Streams:
        """Streams of the first images."""
        return Streams(0, self.ids[:count], scope)

    @property
    def maps(self) -> Tensor:
        """The gradient's maps of all images, (N, H, W)."""
        return self.maps_of("gradient")

    def maps_of(self, label: str) -> Tensor:
        """A method's maps of all images, made once, (N, H, W)."""
        if label not in self._maps:
            streams = self.streams(len(self.images), label)
            self._maps[label] = METHODS.create(label).value.explain(
                self.model, self.images, self.targets, streams=streams
            )
        return self._maps[label]

    def case(self, count: int, label: str, bank: Bank) -> Case:
        """The first images with a method's maps."""
        images, targets = self.images[:count], self.targets[:count]
        method = METHODS.create(label).value
        return Case(
            model=self.model,
            images=images,
            targets=targets,
            maps=self.maps_of(label)[:count],
            explain=bind(method, self.model, images, targets, self.streams(count, label)),
            image_ids=self.ids[:count],
            method=method,
            bank=bank,
        )

    def metrics(
        self, labels: tuple[str, ...], count: int, methods: tuple[str, ...] = ("gradient",)
    ) -> Callable[[], list[Any]]:
        """Scores of metrics on the first images, one bank for all of them, new at each call."""
        metrics = [(label, METRICS.create(label).value) for label in labels]
        for method in methods:
            self.maps_of(method)  # which is no part of any row

        def work() -> list[Any]:
            bank = Bank()
            cases = [self.case(count, method, bank) for method in methods]
            return [
                metric.score(case, streams=self.streams(count, label))
                for case in cases
                for label, metric in metrics
            ]

        return work

    def method(self, label: str, count: int) -> Callable[[], Tensor]:
        """Maps of a method of the first images.

        The images differ from call to call by a millionth, so that nothing kept by content (as
        segmentations are) spares a call what it costs.
        """
        method = METHODS.create(label).value

        def work() -> Tensor:
            self._turn += 1
            images = self.images[:count] * (1 - 1e-6 * self._turn)
            return method.explain(
                self.model, images, self.targets[:count], streams=self.streams(count, label)
            )

        return work

    def counted(self, work: Callable[[], Result]) -> tuple[Result, Cost]:
        """What a piece of work returns, and its model calls in all."""
        before = self.model.counter.read()
        found = work()
        return found, self.model.counter.read() - before

    def timed(self, work: Callable[[], object]) -> float:
        """Seconds of a piece of work."""
        start = time.perf_counter()
        work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


def sample_folder() -> Path | None:
    """The folder with the real network and photographs, None where it is absent."""
    folder = Path(os.environ.get("XBENCH_SAMPLE", ROOT.parent / "shared" / "imagenet-sample"))
    return folder if (folder / "mobilenet_v2.pt").is_file() else None


def _material(settings: Settings) -> tuple[Classifier, Tensor, str]:
    if settings.quick:
        with seeded(0):
            module = mobilenet_v2(weights=None, num_classes=10, width_mult=0.1)
        model = Classifier(module, name="tiny", device=settings.device, batch_size=8, own=True)
        return model, _noise(16, 64).to(model.device), "a tiny network with random weights (trial)"
    folder = sample_folder()
    weights = None if folder is None else folder / "mobilenet_v2.pt"
    if folder is None:
        return _random(settings)
    model = load_classifier("torchvision:mobilenet_v2", weights=weights, device=settings.device)
    source = DATASETS.create(f"imagefolder:{folder / 'images'}").value.open(
        model.geometry, limit=16, seed=0, classes=model.class_count
    )
    images = source.read(range(16)).images.to(model.device)
    return model, images, "MobileNetV2 trained on ImageNet, 16 photographs of 224 x 224 pixels"


def _random(settings: Settings) -> tuple[Classifier, Tensor, str]:
    with seeded(0):
        module = mobilenet_v2(weights=None)
    model = Classifier(module, name="mobilenet_v2", device=settings.device, own=True)
    return model, _noise(16, 224).to(model.device), "MobileNetV2 with random weights, smooth noise"


def _noise(count: int, side: int) -> Tensor:
    """Smooth random images in [0, 1]."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear")
    return fine.clamp(0, 1)
