"""DeepLIFT with the Rescale rule, and its mean over many baselines (DeepLIFT-SHAP)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.classifier.preparation import ACTIVATIONS, prepared
from xbench.classifier.single import right_with_hooks
from xbench.contracts import MethodCard
from xbench.registry import METHODS
from xbench.streams import Streams

from ._baselines import (
    Baseline,
    RandomBaseline,
    baselines,
    difference,
    relative_residual,
    sampled_baselines,
)
from ._pixel import PixelMethod, add_rows, gather, require
from ._rules import uncovered

_ROUNDING = 1e-6  # a smaller relative change of an input is rounding; there the derivative holds
_PAPER = "Shrikumar, Greenside and Kundaje 2017, Learning Important Features Through Propagating "


@METHODS.register
@dataclass(frozen=True)
class DeepLift(PixelMethod):
    """DeepLIFT, Rescale rule: (x - x') m, with m passed back like a gradient.

    At an activation a(z) the multiplier is (a(z) - a(z')) / (z - z') instead of the derivative; at
    max pooling the difference of the maxima goes to where each of the two maxima was. The
    contributions sum to S_c(x) - S_c(x'). The rules run on a prepared copy, so functional, in-place
    and reused activations are met like others.

    Attributes:
        baseline: x', see `_baselines.baselines`.
    """

    baseline: Baseline = "mean"

    card: ClassVar[MethodCard] = MethodCard(
        name="deeplift",
        family="path",
        summary="Differences from a baseline's activations, passed back (Rescale rule).",
        paper=f"{_PAPER}Activation Differences",
        limitations="Only for affine layers, elementwise activations and max pooling (no gates, "
        "LayerNorm or attention); blind to pixels of the baseline's color.",
        needs=("gradients",),
        forwards="2",
        backwards="1",
        baseline="mean",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(Baseline)
        require(self.baseline in known, f"baseline is one of {', '.join(known)}.")

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks with operations that have no rule."""
        return uncovered(model)

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Contributions, float32 (N, C, H, W)."""
        start = baselines(model, images, self.baseline, streams)
        return contributions(model, images, targets, 1, lambda owner, _: start[owner])

    def residual(
        self,
        model: Classifier,
        images: Tensor,
        targets: Tensor,
        maps: Tensor,
        *,
        streams: Streams,
    ) -> Tensor:
        """Relative error of summation-to-delta, see `xbench.contracts.Complete`."""
        start = baselines(model, images, self.baseline, streams)
        return relative_residual(maps, difference(model, images, start, targets), self.pooling)


@METHODS.register
@dataclass(frozen=True)
class DeepLiftShap(PixelMethod):
    """DeepLIFT averaged over baselines drawn from a distribution: an estimate of SHAP values.

    Attributes:
        n_samples: how many baselines.
        baseline: the distribution, see `_baselines.sampled_baselines`; none needs other images.
    """

    n_samples: int = 10
    baseline: RandomBaseline = "random"

    card: ClassVar[MethodCard] = MethodCard(
        name="deeplift_shap",
        family="path",
        summary="DeepLIFT averaged over random baselines.",
        paper="Lundberg and Lee 2017, A Unified Approach to Interpreting Model Predictions",
        limitations="As DeepLIFT; the baselines are made from the image or from noise, not from "
        "a data set.",
        needs=("gradients",),
        stochastic=True,
        forwards="2 * n_samples",
        backwards="n_samples",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(RandomBaseline)
        require(self.n_samples >= 1, "n_samples is at least 1.")
        require(self.baseline in known, f"baseline is one of {', '.join(known)}.")

    def supports(self, model: Classifier) -> str | None:
        """Refuses networks with operations that have no rule."""
        return uncovered(model)

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Mean contributions, float32 (N, C, H, W)."""

        def start(owner: Tensor, draw: Tensor) -> Tensor:
            return sampled_baselines(model, images, self.baseline, streams, owner, draw)

        return contributions(model, images, targets, self.n_samples, start)

    def residual(
        self,
        model: Classifier,
        images: Tensor,
        targets: Tensor,
        maps: Tensor,
        *,
        streams: Streams,
    ) -> Tensor:
        """Relative error against f(x) - mean f(x'_k), see `xbench.contracts.Complete`."""

        def start(owner: Tensor, draw: Tensor) -> Tensor:
            return sampled_baselines(model, images, self.baseline, streams, owner, draw)

        delta = difference(model, images, start, targets, self.n_samples)
        return relative_residual(maps, delta, self.pooling)


def contributions(
    model: Classifier,
    images: Tensor,
    targets: Tensor,
    draws: int,
    start: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Mean over baselines of (x - x') m, float32 (N, C, H, W).

    Args:
        model: the classifier; a prepared copy runs, twice forward and once backward a row.
        images: (N, C, H, W).
        targets: int64 (N,).
        draws: baselines an image.
        start: maps (images of rows (B,), draws of rows (B,)) to baselines (B, C, H, W).
    """
    copy = prepared(model, images)
    totals = gather(len(images), tuple(images.shape[1:]), images)
    with _rescaled(copy.module) as rule:

        def build(index: Tensor) -> Tensor:
            rule.start = start(index // draws, index % draws)
            rule.forget()
            with torch.no_grad():
                copy.network(rule.start)
            rule.reference = False
            return images[index // draws]

        for index, rows, multipliers, _ in copy.gradient_rows(
            len(images) * draws, build, targets.repeat_interleave(draws), like=images
        ):
            add_rows(totals, index // draws, (rows - rule.start) * multipliers)
    return (totals / draws).float()


class _Rescale:
    """Inputs and outputs of every nonlinear module, of baseline and image, and the rule."""

    start: Tensor

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.reference = True
        self.passed: dict[tuple[bool, nn.Module], tuple[Tensor, Tensor]] = {}

    def note(self, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        self.passed[self.reference, module] = (given[0].detach(), output.detach())

    def back(
        self, module: nn.Module, own: tuple[Tensor, ...], out: tuple[Tensor, ...]
    ) -> tuple[Tensor]:
        z, output = self.passed.pop((False, module))
        reference, reference_output = self.passed.pop((True, module))
        with torch.no_grad():
            if isinstance(module, nn.MaxPool2d):
                moved = _moved_by_pooling(module, z, reference, out[0])
            else:
                moved = out[0] * (output - reference_output)
        change = z - reference
        small = change.abs() <= _ROUNDING * torch.maximum(z.abs(), reference.abs())
        return (torch.where(small, own[0], moved / change.masked_fill(small, 1.0)),)


@contextmanager
def _rescaled(module: nn.Module) -> Iterator[_Rescale]:
    rule = _Rescale()
    handles = []
    for layer in module.modules():
        if isinstance(layer, (*ACTIVATIONS, nn.MaxPool2d)):
            handles.append(layer.register_forward_hook(rule.note))
            handles.append(layer.register_full_backward_hook(rule.back))
    try:
        with right_with_hooks(module):
            yield rule
    finally:
        for handle in handles:
            handle.remove()


def _moved_by_pooling(pool: nn.MaxPool2d, z: Tensor, reference: Tensor, out: Tensor) -> Tensor:
    """The change out * (max z - max z'), put where the larger and the smaller maximum are.

    With top = max(max z, max z'): top - max z' belongs to the place of max z, and max z - top to
    the place of max z'; where windows overlap, places add up.
    """
    a, where_a = _pooled(pool, z)
    b, where_b = _pooled(pool, reference)
    top = torch.maximum(a, b)
    moved = torch.zeros_like(z).flatten(2)
    moved.scatter_add_(2, where_a.flatten(2), (out * (top - b)).flatten(2))
    moved.scatter_add_(2, where_b.flatten(2), (out * (a - top)).flatten(2))
    return moved.view_as(z)


def _pooled(pool: nn.MaxPool2d, z: Tensor) -> tuple[Tensor, Tensor]:
    return F.max_pool2d(
        z,
        pool.kernel_size,
        pool.stride,
        pool.padding,
        pool.dilation,
        pool.ceil_mode,
        return_indices=True,
    )
