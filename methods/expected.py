"""Expected gradients and GradientSHAP: one random point on the line to each of many baselines."""

from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import MethodCard
from xbench.registry import METHODS
from xbench.streams import Streams

from ._baselines import RandomBaseline, difference, relative_residual, sampled_baselines
from ._pixel import PixelMethod, add_rows, gather, require


@METHODS.register
@dataclass(frozen=True)
class ExpectedGradients(PixelMethod):
    """Expected gradients: mean over x' ~ D, a ~ U[0, 1) of (x - x') * dS_c(x' + a (x - x')) / dx.

    GradientSHAP adds Gaussian noise to x (`stdev` above 0), a fresh one a draw. The reference
    distribution D needs the image and a seed only, no other images.

    Attributes:
        n_samples: draws of (x', a).
        baseline: D, see `_baselines.sampled_baselines`.
        stdev: noise on x as a share of the image's range; 0 for expected gradients.
    """

    n_samples: int = 50
    baseline: RandomBaseline = "random"
    stdev: float = 0.0

    card: ClassVar[MethodCard] = MethodCard(
        name="expected_gradients",
        family="path",
        summary="Integrated gradients averaged over random baselines, one random point each.",
        paper="Erion et al. 2021, Improving performance of deep learning models with axiomatic "
        "attribution priors and expected gradients",
        limitations="Sums to the logit difference in expectation only; the baselines are made "
        "from the image or from noise, not from a data set.",
        needs=("gradients",),
        stochastic=True,
        forwards="n_samples",
        backwards="n_samples",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(RandomBaseline)
        require(self.n_samples >= 1, "n_samples is at least 1.")
        require(self.baseline in known, f"baseline is one of {', '.join(known)}.")
        require(self.stdev >= 0, "stdev is at least 0.")

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """Expected gradients, float32 (N, C, H, W)."""
        n, totals = self.n_samples, gather(len(images), tuple(images.shape[1:]), images)
        change = images[:0]

        def build(index: Tensor) -> Tensor:
            nonlocal change
            owner, draw = index // n, index % n
            start = sampled_baselines(model, images, self.baseline, streams, owner, draw)
            change = self._ends(images, owner, draw, streams) - start
            return start + _points(owner, draw, streams).to(images) * change

        for index, _, gradients, _ in model.gradient_rows(
            len(images) * n, build, targets.repeat_interleave(n), like=images
        ):
            add_rows(totals, index // n, change * gradients)
        return (totals / n).float()

    def _ends(self, images: Tensor, owner: Tensor, draw: Tensor, streams: Streams) -> Tensor:
        """The images of the rows, noisy where `stdev` says so, (B, C, H, W)."""
        ends = images[owner]
        if self.stdev == 0:
            return ends
        spread = ends.amax(dim=(1, 2, 3)) - ends.amin(dim=(1, 2, 3))
        pairs = zip(owner.tolist(), draw.tolist(), strict=True)
        shape = tuple(images.shape[1:])
        noise = [torch.randn(shape, generator=streams.generator(i, "noise", k)) for i, k in pairs]
        return ends + self.stdev * spread.view(-1, 1, 1, 1) * torch.stack(noise).to(images)

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


def _points(owner: Tensor, draw: Tensor, streams: Streams) -> Tensor:
    """The points a of the rows, (B, 1, 1, 1)."""
    pairs = zip(owner.tolist(), draw.tolist(), strict=True)
    drawn = [torch.rand(1, generator=streams.generator(i, "alpha", k)) for i, k in pairs]
    return torch.stack(drawn).view(-1, 1, 1, 1)


METHODS.preset(
    "gradient_shap",
    ExpectedGradients,
    stdev=0.09,
    card={
        "summary": "Expected gradients from noisy copies of the image (GradientSHAP).",
        "paper": "Lundberg and Lee 2017, A Unified Approach to Interpreting Model Predictions",
    },
)
METHODS.preset(
    "expected_gradients_blur",
    ExpectedGradients,
    baseline="blur",
    card={"summary": "Expected gradients from randomly blurred copies of the image."},
)
