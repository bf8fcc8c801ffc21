"""Running a metric here and its namesake in Quantus on the same planted images."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import quantus
import torch
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.contracts import Case
from xbench.models.loading import load_classifier
from xbench.optional import seeded
from xbench.registry import DATASETS, METHODS, METRICS
from xbench.running.cases import bind
from xbench.streams import Streams

IMAGES = 12
ROWS: list[tuple[str, str, str, Callable[[], str]]] = []


def deviation(theirs: str, ours: str, reason: str) -> Callable[[Callable[[], str]], None]:
    """Enter a row: Quantus' metric, the one here, why they differ; the function gives a figure."""

    def enter(figure: Callable[[], str]) -> None:
        ROWS.append((theirs, ours, reason, figure))

    return enter


class Grey(nn.Module):
    """A colour classifier that takes grey images."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.network = model.network

    def forward(self, x: Tensor) -> Tensor:
        """Logits of (N, 1, H, W)."""
        return self.network(x.expand(-1, 3, -1, -1))


def make_case(grey: bool = False, method: str = "gradient") -> Case:
    """Planted images with masks and the maps of a method."""
    model = load_classifier("reference", device="cpu", batch_size=16)
    source = DATASETS.create("planted").value.open(model.geometry, limit=IMAGES, seed=0)
    samples = source.read(range(IMAGES))
    images = samples.images
    if grey:
        model, images = Classifier(Grey(model), batch_size=16), images.mean(1, keepdim=True)
    targets, ids = model.logits(images).argmax(dim=1), list(samples.ids)
    explain = bind(
        METHODS.create(method).value,
        model,
        images,
        targets,
        Streams(0, ids, method),
        samples.truth,
    )
    return Case(
        model=model,
        images=images,
        targets=targets,
        maps=explain(images),
        explain=explain,
        image_ids=ids,
        truth=samples.truth,
    )


def ours(name: str, case: Case) -> Tensor:
    """Scores of a metric here."""
    metric = METRICS.create(name).value
    return metric.score(case, streams=Streams(0, case.image_ids, name)).values


def theirs(metric: Any, case: Case, size: int = 64, seed: int = 0, **more: Any) -> Any:
    """What a metric of Quantus returns for the whole case."""

    def explain(model: nn.Module, inputs: Any, targets: Any, **_: object) -> Any:
        pixels = torch.as_tensor(inputs, dtype=torch.float32).clone().requires_grad_(True)
        scores = model(pixels).gather(1, torch.as_tensor(targets)[:, None])
        return torch.autograd.grad(scores.sum(), pixels)[0].sum(1, keepdim=True).numpy()

    arguments = {
        "model": case.model.network,
        "x_batch": case.images.numpy().copy(),
        "y_batch": case.targets.numpy().copy(),
        "a_batch": case.maps[:, None].numpy().copy(),
        "s_batch": None if case.truth is None else case.truth[:, None].numpy().copy(),
        "explain_func": explain,
        "device": "cpu",
        "batch_size": size,
    }
    with seeded(seed):
        return metric(**{**arguments, **more})


def quiet(kind: str, **parameters: Any) -> Any:
    """A metric of Quantus without messages."""
    return getattr(quantus, kind)(disable_warnings=True, display_progressbar=False, **parameters)


def part(case: Case, count: int) -> Case:
    """The first images of a case."""
    return replace(
        case,
        images=case.images[:count],
        targets=case.targets[:count],
        maps=case.maps[:count],
        image_ids=case.image_ids[:count],
        truth=None if case.truth is None else case.truth[:count],
    )


def failure(metric: Any, case: Case) -> str:
    """The error that a metric of Quantus ends in."""
    try:
        theirs(metric, case)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return "no error"
