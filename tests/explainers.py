"""Small saliency methods for tests of metrics, and cases built of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Case, Method, MethodCard
from xbench.running.cases import bind
from xbench.streams import Streams


@dataclass(frozen=True)
class Gradient(Method):
    card: ClassVar[MethodCard] = MethodCard(
        name="test_gradient", summary="signed", family="gradient", forwards="1", backwards="1"
    )

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        return model.gradients(images, targets).sum(dim=1)


@dataclass(frozen=True)
class Noise(Method):
    """A map drawn anew at each call."""

    normal: bool = False
    card: ClassVar[MethodCard] = MethodCard(name="test_noise", summary="n", family="control")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        draw = streams.fresh().normal if self.normal else streams.fresh().uniform
        return draw(tuple(images.shape[-2:]), "map").to(images.device)


@dataclass(frozen=True)
class OfImage(Method):
    """A map that is a function of the image alone."""

    function: Callable[[Tensor], Tensor] = lambda images: images.mean(dim=1)
    card: ClassVar[MethodCard] = MethodCard(name="test_image", summary="i", family="control")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        return self.function(images)


@dataclass(frozen=True)
class Wrapped(Method):
    """Another method's maps, changed."""

    method: Method = Gradient()
    change: Callable[[Tensor], Tensor] = lambda maps: maps
    card: ClassVar[MethodCard] = MethodCard(name="test_wrapped", summary="w", family="control")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        return self.change(self.method.explain(model, images, targets, streams=streams))


def case_of(
    method: Method,
    model: Classifier,
    images: Tensor,
    targets: Tensor | None = None,
    **extras: object,
) -> Case:
    """The case of a method on images; targets default to the predicted classes."""
    if targets is None:
        targets = model.logits(images).argmax(dim=1)
    ids = list(extras.pop("image_ids", [f"i{i}" for i in range(len(images))]))
    explain = bind(method, model, images, targets, Streams(0, ids, type(method).__name__))
    return Case(
        model=model,
        images=images,
        targets=targets,
        maps=explain(images),
        explain=explain,
        image_ids=ids,
        method=method,
        **extras,
    )


def part(case: Case, keep: list[int]) -> Case:
    """The case of some of the images alone."""
    return case_of(
        case.method,
        case.model,
        case.images[keep],
        case.targets[keep],
        image_ids=[case.image_ids[i] for i in keep],
        twin=case.twin,
    )


def streams_of(case: Case, scope: str, seed: int = 0, repetition: int = 0) -> Streams:
    return Streams(seed, case.image_ids, scope, repetition)
