"""Methods that cheat, each caught with a sentence that names what it did.

A saliency map may depend on the image, the class and the model alone, and on draws seeded by the
image. These checks try whether it does: they swap the weights for random ones, the image for
another, the seed, the global random state and the order of the calls, and they watch what is read.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.classifier.randomize import RandomizedNetwork
from xbench.conformance import COSTLY, RELATIVE
from xbench.contracts import Method, TruthMethod, check_maps
from xbench.errors import InvalidMapError, UnsupportedError
from xbench.operations.ranks import spearman
from xbench.optional import seeded
from xbench.registry import Chosen
from xbench.running.guard import Guard
from xbench.streams import Streams
from xbench.watching import Watch, watched_streams, watching

NOISE = 0.1
"""Rank correlation of two maps of one image below which they are called noise."""


def cheats(
    method: Chosen[Method],
    classifier: Classifier,
    images: Tensor,
    fresh: Callable[[], Method] | None = None,
) -> list[str]:
    """What a method does that no explanation may, one sentence each; empty for an honest one.

    Its calls are not counted. Controls and refusals have no findings.

    Args:
        method: which one.
        classifier: the model; `xbench.conformance.examine` says whether it was changed.
        images: float32 (N, C, H, W) in [0, 1] on the model's device; the first two are used.
        fresh: makes the method anew from its source, without the state it may keep.
    """
    value = method.value
    if method.card.control or isinstance(value, TruthMethod) or value.supports(classifier):
        return []
    guard = Guard(classifier)
    try:
        with classifier.counter.paused():
            cost = value.cost(classifier.facts(tuple(images.shape)))
            few = images[: 1 if cost.calls > COSTLY else 2]
            return _Trial(method, classifier, few, fresh).run()
    except (InvalidMapError, UnsupportedError) as error:
        return [str(error)]
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        return [f"'{method.label}' raised {type(error).__name__}: {first}"]
    finally:
        guard.harm()  # puts the model right again


@dataclass(frozen=True)
class _Trial:
    method: Chosen[Method]
    model: Classifier
    images: Tensor
    fresh: Callable[[], Method] | None

    def run(self) -> list[str]:
        name = f"'{self.method.label}'"
        targets = self.model.logits(self.images).argmax(dim=1)
        watch = Watch(self._sources())
        with watching(watch):
            maps = self._maps(self.images, targets, watch=watch)
        found = [
            f"{name} {clause}; a map depends on the image, the class and the model alone."
            for clause in watch.found
        ]
        again = self._maps(self.images, targets)
        other = self._maps(self.images, targets, seed=1)
        with seeded(12345):
            elsewhere = self._maps(self.images, targets)
        blind = self._ignores_model(targets, maps)
        alike = min(_alike(maps, again), _alike(maps, other))
        if blind and alike < NOISE:
            return [
                *found,
                f"{name} returns random noise: two of its maps of one image have nothing in common "
                f"(rank correlation {alike:.2f}), and it does not depend on the model.",
            ]
        if not _same(maps, again):
            found.append(
                f"{name} gives another map when it is asked again: it keeps state between calls, "
                "or draws numbers that are not seeded by the image."
            )
        elif not _same(maps, elsewhere):
            found.append(f"{name} reads global random state; take what it needs from `streams`.")
        found += self._order(targets, maps, name)
        if blind:
            found.append(
                f"{name} ignores the model: its maps stay the same when every weight is random."
            )
        if self._ignores_image(targets, maps):
            found.append(f"{name} ignores the image: it gives every image the same map.")
        return found

    def _ignores_model(self, targets: Tensor, maps: Tensor) -> bool:
        """Whether maps stay when all weights are random; or no call is made, where draws differ."""
        before = self.model.counter.read()
        same = _same(self._maps(self.images, targets), maps)
        if not same:
            return (self.model.counter.read() - before).forwards == 0
        streams = Streams(0, ["0"], "honesty")
        network = RandomizedNetwork(self.model, self.images, "normal", streams)
        if not network.layers or not bool((maps.amax(dim=(1, 2)) > maps.amin(dim=(1, 2))).any()):
            return False  # nothing to randomize, or no contrast, as the other checks say
        random = network.at(range(len(network.layers)))
        return _same(self._maps(self.images, targets, model=random), maps)

    def _ignores_image(self, targets: Tensor, maps: Tensor) -> bool:
        if len(self.images) < 2 or torch.equal(self.images[0], self.images[1]):
            return False
        first, asked = self.images[:1].expand_as(self.images), targets[:1].expand_as(targets)
        flat = bool((maps.amax(dim=(1, 2)) == maps.amin(dim=(1, 2))).all())
        return not flat and _same(self._maps(first, asked), maps)

    def _order(self, targets: Tensor, maps: Tensor, name: str) -> list[str]:
        """Whether earlier calls change a map: a fresh copy sees the images the other way round."""
        if self.fresh is None or len(self.images) < 2:
            return []
        anew = self.fresh()
        count = len(self.images)
        parts: dict[int, Tensor] = {}
        for i in reversed(range(count)):
            one = slice(i, i + 1)
            parts[i] = self._maps(self.images[one], targets[one], value=anew, first=i)
        if _same(torch.cat([parts[i] for i in range(count)]), maps):
            return []
        return [
            f"{name} remembers: a fresh copy that sees the images in another order gives other "
            "maps; keep nothing between calls."
        ]

    def _maps(
        self,
        images: Tensor,
        targets: Tensor,
        *,
        model: Classifier | None = None,
        value: Method | None = None,
        seed: int = 0,
        first: int = 0,
        watch: Watch | None = None,
    ) -> Tensor:
        ids = [str(first + i) for i in range(len(images))]
        streams = Streams(seed, ids, self.method.identity)
        if watch is not None:
            streams = watched_streams(streams, watch)
        one = value or self.method.value
        maps = one.explain(model or self.model, images.clone(), targets, streams=streams)
        return check_maps(maps, images, f"The method '{self.method.label}'")

    def _sources(self) -> frozenset[str]:
        """The files of the method's own code, without those of the engine."""
        names = {kind.__module__ for kind in type(self.method.value).__mro__}
        own = {name for name in names if not name.startswith(("builtins", "abc", "xbench."))}
        files = {getattr(sys.modules.get(name), "__file__", None) for name in own}
        return frozenset(file for file in files if file)


def _same(first: Tensor, second: Tensor) -> bool:
    """Equal up to what another order of summation gives on nearly every pixel."""
    scale = first.abs().amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(first.dtype).tiny)
    off = (first - second).abs() / scale
    return bool(off.mean(dim=(1, 2)).max() <= RELATIVE)


def _alike(first: Tensor, second: Tensor) -> float:
    """Mean rank correlation of two stacks of maps; 1 where they are the same."""
    if torch.equal(first, second):
        return 1.0
    return float(spearman(first.flatten(1), second.flatten(1)).nan_to_num(1.0).mean())
