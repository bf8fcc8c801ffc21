"""The classifier: logits, gradients, layers and tails of one network, batched and counted."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from xbench.classifier.batching import BatchSizes, is_out_of_memory
from xbench.classifier.facts import facts_of
from xbench.classifier.layers import Layer, Trace, last_spatial, to_nchw, trace
from xbench.classifier.memory_format import settle_memory_format
from xbench.classifier.network import (
    Counter,
    Network,
    Normalization,
    fingerprint,
    private_copy,
    target_logit,
)
from xbench.classifier.precision import widened
from xbench.classifier.randomize import weights_in_order
from xbench.classifier.tail import build_tail, tail_rows
from xbench.contracts import Geometry
from xbench.cost import Facts
from xbench.errors import UnsupportedError

Build = Callable[[Tensor], Tensor]
Result = TypeVar("Result")


class Classifier:
    """The model under test.

    It owns a private copy of the module: in eval mode, weights frozen, in-place activations made
    ordinary, so the user's module is never touched and hooks see what they should.

    Args:
        module: maps normalized images (N, C, H, W) to logits (N, K).
        name: as written by the user; part of every record.
        normalization: mean and std that the module was trained with.
        geometry: how image files become inputs.
        class_names: by class index, empty where unknown.
        device: where it runs.
        batch_size: rows a call; None measures the fastest.
        layers: overrides of layer roles, for example {"last_conv": "features.17"}.
        own: take the module itself instead of a copy.
    """

    def __init__(  # noqa: PLR0913 - what a model is takes this many words
        self,
        module: nn.Module,
        *,
        name: str = "model",
        normalization: Normalization | None = None,
        geometry: Geometry | None = None,
        class_names: Sequence[str] = (),
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        layers: Mapping[str, str] | None = None,
        own: bool = False,
    ) -> None:
        self.name = name
        self.normalization = normalization or Normalization()
        self.geometry = geometry or Geometry()
        self.class_names = list(class_names)
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.counter = Counter()
        self.roles = dict(layers or {})
        self.masked_training = False  # trained on images with parts removed
        self.notes: list[str] = []  # what loading assumed or repaired, one sentence each
        private = module if own else private_copy(module)
        for child in private.modules():
            if getattr(child, "inplace", None) is True:
                child.inplace = False  # type: ignore[assignment]
        self.network = Network(private, self.normalization, self.counter)
        self.network.to(self.device).eval().requires_grad_(False)
        self._sizes = BatchSizes(batch_size, self.device)
        self._traces: dict[tuple[int, ...], Trace] = {}
        self._tails: dict[tuple[object, ...], nn.Module | None] = {}
        self._hash: str | None = None
        self._classes: int | None = None
        self._layers: int | None = None

    @property
    def module(self) -> nn.Module:
        """The private copy of the user's module (it expects normalized input)."""
        return self.network.module

    @property
    def weights_hash(self) -> str:
        """SHA-256 over parameters, buffers and normalization, 16 hexadecimal digits."""
        if self._hash is None:
            self._hash = self.fingerprint()
        return self._hash

    def fingerprint(self) -> str:
        """The weights hash, computed anew; differs from `weights_hash` if someone changed them."""
        return fingerprint(self.module, self.normalization, self.network.precision)

    def sibling(self, module: nn.Module, name: str = "") -> "Classifier":
        """A classifier over another module with this one's settings and counter (own=True)."""
        other = Classifier(
            module,
            name=name or self.name,
            normalization=self.normalization,
            geometry=self.geometry,
            class_names=self.class_names,
            device=self.device,
            batch_size=self.batch_size,
            layers=self.roles,
            own=True,
        )
        other.counter, other._sizes = self.counter, self._sizes
        other.network.take_settings(self.network)
        return other

    def renewed(self) -> "Classifier":
        """This classifier after its weights were changed in place: nothing made for it is kept."""
        other = copy.copy(self)
        other._hash, other._traces, other._tails = None, {}, {}
        return other

    def facts(self, shape: Sequence[int]) -> Facts:
        """What cost formulas may use of this network and images of a shape, see `facts_of`."""
        return facts_of(self, shape)

    def layer_count(self, sample: Tensor) -> int:
        """How many layers have weights; `sample` is any image of the right shape."""
        if self._layers is None:
            self._layers = len(weights_in_order(self.module, self.network.normalize(sample)))
        return self._layers

    def can_cut(self, layer: Layer, sample: Tensor) -> bool:
        """Whether what is behind a layer can be run alone."""
        return self._tail(layer, sample) is not None

    @property
    def class_count(self) -> int | None:
        """Number of classes K where it is known without an image, else None."""
        return self._classes or len(self.class_names) or None

    def classes(self, sample: Tensor) -> int:
        """Number of classes K; `sample` is any image of the right shape."""
        settle_memory_format(self.network, sample)
        if self._classes is None:
            with self.counter.paused(), torch.no_grad():
                self._classes = int(self.network(sample[:1]).shape[1])
        return self._classes

    def logits(self, images: Tensor) -> Tensor:
        """Logits, float32 (N, K), without a graph; images (N, C, H, W) in [0, 1]."""
        return self.rows(images.shape[0], lambda index: images[index], like=images)

    def probabilities(self, images: Tensor) -> Tensor:
        """Softmax of the logits, float32 (N, K)."""
        return self.logits(images).softmax(dim=1)

    def rows(
        self,
        count: int,
        build: Build,
        *,
        like: Tensor,
        read: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Logits (count, K) of rows that are built one full batch at a time.

        Args:
            count: number of rows, for example images x steps.
            build: maps int64 row indices (B,), on the device, to images (B, C, H, W).
            like: any tensor of images, for shape and device.
            read: maps logits (B, K) and row indices (B,) to what is kept of them, so that many
                rows cost no memory; default the logits.
        """
        if count == 0:
            empty = torch.empty(0, self.classes(like), device=self.device)
            return empty if read is None else read(empty, torch.arange(0, device=self.device))

        def work(index: Tensor) -> Tensor:
            with torch.no_grad():
                logits = self.network(build(index)).float()
                return logits if read is None else read(logits, index)

        return torch.cat(list(self.in_batches("forward", count, like, work)))

    def gradients(
        self,
        images: Tensor,
        targets: Tensor,
        *,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Gradients of the target's raw score for the pixels, float32 (N, C, H, W).

        Args:
            images: (N, C, H, W) in [0, 1].
            targets: int64 (N,).
            score: maps logits (B, K) and targets (B,) to scores (B,); default the target logit.
        """
        found = [
            gradient
            for _, _, gradient, _ in self.gradient_rows(
                images.shape[0], lambda index: images[index], targets, like=images, score=score
            )
        ]
        return torch.cat(found)

    def gradient_rows(
        self,
        count: int,
        build: Build,
        targets: Tensor,
        *,
        like: Tensor,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Gradients of rows, one full batch at a time, so that memory stays bounded.

        Args:
            count, build, like, score: as in `rows` and `gradients`.
            targets: int64 (count,), one class a row.

        Yields:
            (row indices (B,), rows (B, C, H, W), gradients (B, C, H, W), scores (B,)).
        """

        def work(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            rows = build(index).detach().requires_grad_(True)
            with torch.enable_grad():
                scores = (score or target_logit)(self.network(rows), targets[index])
                (gradient,) = torch.autograd.grad(scores.sum(), rows)
            return index, rows.detach(), gradient, scores.detach()

        yield from self.in_batches("backward", count, like, work)

    def trace(self, images: Tensor) -> Trace:
        """Every layer as it ran on one image of this shape, in order of execution."""
        settle_memory_format(self.network, images)
        shape = tuple(images.shape[1:])
        if shape not in self._traces:
            with self.counter.paused(), torch.no_grad():
                self._traces[shape] = trace(self.module, self.network.normalize(images[:1]))
        return self._traces[shape]

    def find_layer(self, role: str, images: Tensor) -> Layer | None:
        """The layer of a role ("last_conv") or of a dotted name, None if the role is not there."""
        traced = self.trace(images)
        name = self.roles.get(role, role)
        if name == "last_conv":
            return last_spatial(self.module, traced)
        return traced.named(name)

    def layer(self, role: str, images: Tensor) -> Layer:
        """Like `find_layer`, but refuses where there is none.

        Raises:
            UnsupportedError: the model has no such layer.
            ModelError: an unknown name.
        """
        found = self.find_layer(role, images)
        if found is None:
            raise UnsupportedError("The model has no convolutional layer with a spatial output.")
        return found

    @contextmanager
    def captured(
        self, layer: Layer, change: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[list[Tensor]]:
        """Capture the outputs of a layer during forward passes inside the block.

        Args:
            layer: which one.
            change: replaces the output by what it returns; the list holds the replaced output.
        """
        kept: list[Tensor] = []

        def hook(_: nn.Module, __: object, output: object) -> object:
            first = output[0] if isinstance(output, tuple) else output
            assert isinstance(first, Tensor)
            first = widened(first)
            new = change(first) if change is not None else first
            kept.append(new)
            passed = new.clone()  # what follows may write in place
            return (passed, *output[1:]) if isinstance(output, tuple) else passed

        handle = self.module.get_submodule(layer.name).register_forward_hook(hook)
        try:
            yield kept
        finally:
            handle.remove()

    def activations(self, images: Tensor, layer: Layer) -> Tensor:
        """Feature maps of a layer, float32 (N, C, h, w), without a graph."""
        return self.features(images, layer)[0]

    def features(self, images: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        """Feature maps of a layer (N, C, h, w) and the logits (N, K), from one forward an image."""

        def work(index: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad(), self.captured(layer) as kept:
                logits = self.network(images[index]).float()
            return to_nchw(kept[-1], layer).float(), logits

        parts = zip(*self.in_batches("forward", images.shape[0], images, work), strict=True)
        maps, logits = map(torch.cat, parts)
        return maps, logits

    def activation_gradients(
        self,
        images: Tensor,
        targets: Tensor,
        layer: Layer,
        *,
        score: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Feature maps, the gradients of the target's raw score for them, and the scores.

        They are (N, C, h, w), (N, C, h, w) and (N,); one forward and one backward an image.
        """

        def work(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            with (
                torch.enable_grad(),
                self.captured(layer, lambda x: x.detach().requires_grad_(True)) as kept,
            ):
                scores = (score or target_logit)(self.network(images[index]), targets[index])
                (gradient,) = torch.autograd.grad(scores.sum(), kept[-1])
            return to_nchw(kept[-1].detach(), layer), to_nchw(gradient, layer), scores.detach()

        parts = zip(*self.in_batches("backward", len(images), images, work), strict=True)
        maps, grads, scores = map(torch.cat, parts)
        return maps, grads, scores

    def tail_rows(
        self, layer: Layer, images: Tensor, owner: Tensor, build: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Logits (R, K) of rows that differ from an image only from one layer on.

        Where the network can be cut behind the layer, only its tail runs (counted as `tails`);
        else the whole network runs with the layer's output replaced (counted as `forwards`).

        Args:
            layer: where the rows start.
            images: (N, C, H, W), whose activations are the starting point.
            owner: int64 (R,), the image that each row belongs to.
            build: maps (row indices (B,), that rows' raw layer outputs) to changed outputs, in the
                layer's own layout.
        """
        tail = self._tail(layer, images)
        with torch.no_grad():
            return tail_rows(self, tail, layer, images, owner, build)

    def _tail(self, layer: Layer, images: Tensor) -> nn.Module | None:
        key = (layer.name, tuple(images.shape[1:]))
        if key not in self._tails:
            with self.counter.paused():
                sample = self.network.normalize(images[:1])
                self._tails[key] = build_tail(self.module, layer.name, sample)
        return self._tails[key]

    def in_batches(
        self,
        mode: str,
        count: int,
        like: Tensor,
        work: Callable[[Tensor], Result],
        tail: nn.Module | None = None,
    ) -> Iterator[Result]:
        """Work on row indices (B,) in full batches, in halves where memory runs out.

        Args:
            mode: "forward" or "backward", which decides the batch size.
            count, like: as in `rows`.
            work: takes int64 row indices (B,) on the device; what it returns is yielded in order.
            tail: what runs instead of the network, on inputs like `like`.
        """
        size = self.size(mode, like, tail)
        start = 0
        while start < count:
            index = torch.arange(start, min(start + size, count), device=self.device)
            try:
                result = work(index)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
                size = self._sizes.halve(mode, like, size)
                continue
            yield result
            start += len(index)

    def size(self, mode: str, like: Tensor, tail: nn.Module | None = None) -> int:
        """Rows a call for "forward" or "backward" on inputs of this shape."""
        if tail is None:
            settle_memory_format(self.network, like)
        with self.counter.paused():
            return self._sizes.get(mode, like, self.network if tail is None else tail)
