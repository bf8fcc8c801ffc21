"""Integrated gradients: the gradient along the straight line from a baseline to the image."""

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import MethodCard
from xbench.operations.pixels import rows_of
from xbench.registry import METHODS
from xbench.streams import Streams

from ._baselines import FIXED, Baseline, baselines, difference, relative_residual
from ._pixel import PixelMethod, add_rows, gather, require


@METHODS.register
@dataclass(frozen=True)
class IntegratedGradients(PixelMethod):
    """Integrated gradients: (x - x') * integral over a in [0, 1] of dS_c(x' + a (x - x')) / dx.

    The integral is the midpoint rule, a_k = (k + 1/2) / n_steps, averaged over the baselines where
    they are drawn. Rows of (image, baseline, step) are packed into full batches, so memory does
    not grow with the steps.

    Attributes:
        n_steps: points on the line.
        baseline: x', see `_baselines.baselines`; "random" is uniform noise.
        n_baselines: how many random baselines are averaged; 1 for a fixed one.
    """

    n_steps: int = 50
    baseline: Baseline = "mean"
    n_baselines: int = 1

    card: ClassVar[MethodCard] = MethodCard(
        name="integrated_gradients",
        family="path",
        summary="Gradients integrated on the line from a baseline; sums to the logit difference.",
        paper="Sundararajan, Taly and Yan 2017, Axiomatic Attribution for Deep Networks",
        limitations="Blind to pixels of the baseline's color; completeness needs enough steps "
        "(see its residual).",
        needs=("gradients",),
        forwards="n_steps * n_baselines",
        backwards="n_steps * n_baselines",
        baseline="mean",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(Baseline)
        require(self.n_steps >= 1, "n_steps is at least 1.")
        require(self.baseline in known, f"baseline is one of {', '.join(known)}.")
        require(self.n_baselines >= 1, "n_baselines is at least 1.")
        require(
            self.n_baselines == 1 or self.baseline not in FIXED,
            f"The baseline '{self.baseline}' is always the same; leave n_baselines at 1.",
        )

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Integrated gradients, float32 (N, C, H, W)."""
        totals = gather(len(images), images.shape[1:], images)
        for draw in range(self.n_baselines):
            start = baselines(model, images, self.baseline, streams, draw)
            totals += (images - start) * self._mean_gradients(model, images, start, targets)
        return (totals / self.n_baselines).float()

    def _mean_gradients(
        self, model: Classifier, images: Tensor, start: Tensor, targets: Tensor
    ) -> Tensor:
        steps = self.n_steps
        totals = gather(len(images), images.shape[1:], images)
        change = images - start

        def build(index: Tensor) -> Tensor:
            image = index // steps
            alpha = ((index % steps + 0.5) / steps).view(-1, 1, 1, 1).to(images)
            return (alpha * rows_of(change, image)).add_(rows_of(start, image))

        for index, _, gradients, _ in model.gradient_rows(
            len(images) * steps, build, targets.repeat_interleave(steps), like=images
        ):
            add_rows(totals, index // steps, gradients)
        return totals / steps

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
        starts = [
            baselines(model, images, self.baseline, streams, draw)
            for draw in range(self.n_baselines)
        ]
        stacked = torch.stack(starts, dim=1)
        delta = difference(
            model, images, lambda owner, draw: stacked[owner, draw], targets, self.n_baselines
        )
        return relative_residual(maps, delta, self.pooling)


METHODS.preset(
    "integrated_gradients_abs",
    IntegratedGradients,
    pooling="abs_sum",
    card={"summary": "Magnitude of integrated gradients, summed over channels.", "signed": False},
)
METHODS.preset(
    "integrated_gradients_black",
    IntegratedGradients,
    baseline="black",
    card={"summary": "Integrated gradients from a black image.", "baseline": "black"},
)
METHODS.preset(
    "integrated_gradients_blur",
    IntegratedGradients,
    baseline="blur",
    card={"summary": "Integrated gradients from the blurred image.", "baseline": "blur"},
)
METHODS.preset(
    "integrated_gradients_uniform",
    IntegratedGradients,
    baseline="random",
    n_baselines=4,
    card={
        "summary": "Integrated gradients averaged over uniform random images (IG-U).",
        "paper": "Sturmfels, Lundberg and Lee 2020, Visualizing the Impact of Feature "
        "Attribution Baselines",
        "stochastic": True,
        "baseline": "",
    },
)
