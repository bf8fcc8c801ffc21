"""Other paths and other sums than integrated gradients: Guided IG, Blur IG and IDGI."""

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import MethodCard
from xbench.operations.pixels import gaussian_blur
from xbench.registry import METHODS
from xbench.streams import Streams

from ._baselines import Baseline, baselines, difference, relative_residual
from ._guided_path import advance
from ._pixel import PixelMethod, add_rows, gather, require


@dataclass(frozen=True)
class StraightBaseline(PixelMethod):
    """What methods from one baseline x' share.

    Attributes:
        n_steps: steps from x' to x.
        baseline: x', see `_baselines.baselines`.
    """

    n_steps: int = 50
    baseline: Baseline = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(Baseline)
        require(self.n_steps >= 1, "n_steps is at least 1.")
        require(self.baseline in known, f"baseline is one of {', '.join(known)}.")

    def residual(
        self,
        model: Classifier,
        images: Tensor,
        targets: Tensor,
        maps: Tensor,
        *,
        streams: Streams,
    ) -> Tensor:
        """Relative completeness error of the maps, see `xbench.contracts.Complete`."""
        start = baselines(model, images, self.baseline, streams)
        return relative_residual(maps, difference(model, images, start, targets), self.pooling)


@METHODS.register
@dataclass(frozen=True)
class GuidedIntegratedGradients(StraightBaseline):
    """Guided IG: a path that moves first the pixels with the smallest partial derivatives.

    Each step shortens the L1 distance to x by 1 / n_steps of the whole, moving the `fraction` of
    values with the smallest |dS_c/dx|, and keeps every value within `max_dist` of the straight
    line; each move is credited with its gradient times its length.

    Attributes:
        fraction: share of values moved at once.
        max_dist: how far, as a share of the line, a value may run ahead or lag behind.
    """

    fraction: float = 0.25
    max_dist: float = 0.02

    card: ClassVar[MethodCard] = MethodCard(
        name="guided_integrated_gradients",
        family="path",
        summary="Integrated gradients on a path that avoids steep directions.",
        paper="Kapishnikov et al. 2021, Guided Integrated Gradients: An Adaptive Path Method for "
        "Removing Noise",
        limitations="One step needs the one before, so an image's steps cannot share a batch; "
        "the paper uses 200 steps.",
        needs=("gradients",),
        forwards="n_steps",
        backwards="n_steps",
        baseline="mean",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.fraction <= 1, "fraction is above 0 and at most 1.")
        require(self.max_dist >= 0, "max_dist is at least 0.")

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Guided integrated gradients, float32 (N, C, H, W)."""
        start = baselines(model, images, self.baseline, streams).double()
        points, totals = start.clone(), torch.zeros_like(start)
        for step in range(self.n_steps):
            gradients = model.gradients(points.to(images), targets).double()
            done = (step + 1) / self.n_steps
            bounds = max(done - self.max_dist, 0.0), min(done + self.max_dist, 1.0)
            for i, image in enumerate(images.double()):
                moved = advance(
                    (start[i], points[i], image), gradients[i], done, bounds, self.fraction
                )
                totals[i] += (moved - points[i]) * gradients[i]
                points[i] = moved
        return totals.float()


@METHODS.register
@dataclass(frozen=True)
class Idgi(StraightBaseline):
    """Important direction gradient integration on the straight line of integrated gradients.

    sum over steps j of g_j^2 / (g_j . g_j) * (S_c(x_{j+1}) - S_c(x_j)), g_j the gradient at x_j:
    the change of the score is shared out along the gradient alone. Completeness is exact, but
    for steps whose gradient is zero everywhere. The score is the raw logit, where the authors
    take the probability.
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="idgi",
        family="path",
        summary="Score changes along the integration path, shared out by squared gradients.",
        paper="Yang, Wang and Bilgic 2023, IDGI: A Framework to Eliminate Explanation Noise from "
        "Integrated Gradients",
        limitations="All pixels of one step get the same sign.",
        needs=("gradients",),
        forwards="n_steps + 1",
        backwards="n_steps",
        baseline="mean",
    )

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Shares of the score's change, float32 (N, C, H, W)."""
        steps = self.n_steps
        start = baselines(model, images, self.baseline, streams)
        end = model.logits(images).double().gather(1, targets[:, None])[:, 0]
        totals = gather(len(images), tuple(images.shape[1:]), images)

        def build(index: Tensor) -> Tensor:
            image = index // steps
            alpha = ((index % steps) / steps).view(-1, 1, 1, 1).to(images)
            return start[image] + alpha * (images[image] - start[image])

        last: Tensor | None = None  # the shares of a row whose next score is in the next batch
        for index, _, gradients, scores in model.gradient_rows(
            len(images) * steps, build, targets.repeat_interleave(steps), like=images
        ):
            owner, values = index // steps, scores.double()
            if last is not None:
                totals[int(owner[0])] += last * values[0]
            shares = _shares(gradients)
            following = torch.cat([values[1:], values.new_zeros(1)])
            final = index % steps == steps - 1
            following = torch.where(final, end[owner], following)
            add_rows(totals, owner, shares * (following - values).view(-1, 1, 1, 1))
            last = None if bool(final[-1]) else shares[-1]
        return totals.float()


@METHODS.register
@dataclass(frozen=True)
class BlurIntegratedGradients(PixelMethod):
    """Blur IG: the path sharpens the image, x(s) = x blurred by a Gaussian of deviation s.

    sum over steps of (x(s_k) - x(s_{k+1})) * dS_c(x((s_k + s_{k+1}) / 2)) / dx, s from 0 to
    max_sigma: a midpoint rule whose moves are exact, where the paper uses finite differences of
    the blur. Edges are replicated, so that the frame does not darken.

    Attributes:
        n_steps: steps between the blurred and the sharp image.
        max_sigma: the strongest blur in pixels at 224, scaled with the shorter side.
    """

    n_steps: int = 50
    max_sigma: float = 50.0

    card: ClassVar[MethodCard] = MethodCard(
        name="blur_integrated_gradients",
        family="path",
        summary="Gradients integrated while the image is sharpened.",
        paper="Xu, Venugopalan and Sundararajan 2020, Attribution in Scale and Space",
        limitations="Sums to the difference from the blurred image; large blurs cost time.",
        needs=("gradients",),
        forwards="n_steps",
        backwards="n_steps",
        baseline="blur",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.n_steps >= 1, "n_steps is at least 1.")
        require(self.max_sigma > 0, "max_sigma is above 0.")

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Blur integrated gradients, float32 (N, C, H, W)."""
        n, count = len(images), self.n_steps
        totals = torch.zeros_like(images, dtype=torch.float64)

        def build(index: Tensor) -> Tensor:  # rows are step * n + image
            pieces = [
                self.blurred(images[index[index // n == step] % n], (step + 0.5) / count)
                for step in (index // n).unique().tolist()
            ]
            return torch.cat(pieces)

        for index, _, gradients, _ in model.gradient_rows(
            n * count, build, targets.repeat(count), like=images
        ):
            for step in (index // n).unique().tolist():
                here = index // n == step
                image = index[here] % n
                sharp = self.blurred(images[image], step / count)
                move = sharp - self.blurred(images[image], (step + 1) / count)
                totals[image] += move.double() * gradients[here]
        return totals.float()

    def blurred(self, images: Tensor, share: float) -> Tensor:
        """The images blurred by that share of the strongest blur."""
        sigma = share * self.max_sigma * min(images.shape[-2:]) / 224.0
        return images if sigma == 0 else gaussian_blur(images, sigma)

    def residual(
        self,
        model: Classifier,
        images: Tensor,
        targets: Tensor,
        maps: Tensor,
        *,
        streams: Streams,
    ) -> Tensor:
        """Relative completeness error of the maps, see `xbench.contracts.Complete`."""
        delta = difference(model, images, self.blurred(images, 1.0), targets)
        return relative_residual(maps, delta, self.pooling)


def _shares(gradients: Tensor) -> Tensor:
    """g^2 / (g . g), float64 (B, C, H, W); zero where the gradient is zero."""
    square = gradients.double().square()
    total = square.sum(dim=(1, 2, 3), keepdim=True)
    return square / total.masked_fill(total == 0, 1.0)
