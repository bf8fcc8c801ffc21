"""SmoothGrad and its kin: statistics of another method's attributions under Gaussian noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.cost import Cost
from xbench.operations.cores import over_cores
from xbench.operations.pixels import rows_of
from xbench.registry import METHODS
from xbench.streams import Streams

from ._pixel import PixelMethod, add_rows, gather, require, row_blocks

Statistic = Literal["mean", "mean_square", "variance"]
_POWERS: dict[str, tuple[int, ...]] = {"mean": (1,), "mean_square": (2,), "variance": (1, 2)}


@METHODS.register
@dataclass(frozen=True)
class SmoothGrad(PixelMethod):
    """A statistic over noisy copies x + e of the attributions M(x + e), e ~ N(0, sigma^2).

    mean (SmoothGrad): 1/n sum M; mean_square (SmoothGrad-Squared): 1/n sum M^2; variance (VarGrad):
    1/n sum (M - mean)^2; each per channel, then pooled. sigma = stdev * (max x - min x) of each
    image; noisy copies are not clipped. The noise depends on the image alone, not on the call, so
    that a picture and its perturbed copy meet the same noise.

    Attributes:
        base: any method, with its parameters, for example "integrated_gradients[n_steps=10]".
        n_samples: noisy copies.
        stdev: noise level as a share of the image's range.
        statistic: "mean", "mean_square" or "variance".
    """

    base: str = "gradient"
    n_samples: int = 50
    stdev: float = 0.15
    statistic: Statistic = "mean"

    card: ClassVar[MethodCard] = MethodCard(
        name="smoothgrad",
        family="gradient",
        summary="Mean gradient over noisy copies of the image.",
        paper="Smilkov et al. 2017, SmoothGrad: removing noise by adding noise",
        limitations="The noisy copies are out of distribution; the noise level decides the map.",
        needs=("gradients",),
        stochastic=True,
        forwards="n_samples * base_forwards",
        backwards="n_samples * base_backwards",
        tails="n_samples * base_tails",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(Statistic)
        require(self.n_samples >= 1, "n_samples is at least 1.")
        require(self.stdev > 0, "stdev is above 0.")
        require(self.statistic in known, f"statistic is one of {', '.join(known)}.")
        METHODS.create(self.base)  # an unknown base is refused at once

    @property
    def method(self) -> Method:
        """The method that is smoothed."""
        return METHODS.create(self.base).value

    def supports(self, model: Classifier) -> str | None:
        """The base's own reason."""
        return self.method.supports(model)

    def cost(self, facts: Mapping[str, object]) -> Cost:
        """The base's cost, once a noisy copy."""
        base = self.method.cost(facts)
        named = {
            "base_forwards": base.forwards,
            "base_backwards": base.backwards,
            "base_tails": base.tails,
        }
        return super().cost({**facts, **named})

    def attribute(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """The statistic of the base's attributions, float32 (N, C, H, W) or (N, 1, H, W)."""
        base, n = self.method, self.n_samples
        sigma = self.stdev * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))
        sums: dict[int, Tensor] = {}  # of the attributions to each power that is read
        for index in row_blocks(model, len(images) * n, images):
            owner = index // n
            noise = _noise(images, owner.tolist(), (index % n).tolist(), streams)
            rows = noise.mul_(sigma[owner].view(-1, 1, 1, 1)).add_(rows_of(images, owner))
            own = streams.select(owner.tolist()).scoped(f"{streams.scope}/base")
            values = _channels(base, model, rows, targets[owner], own)
            for power in _POWERS[self.statistic]:
                if power not in sums:
                    sums[power] = gather(len(images), tuple(values.shape[1:]), images)
                add_rows(sums[power], owner, values if power == 1 else values.double().square())
        means = {power: total / n for power, total in sums.items()}
        if self.statistic == "variance":
            return (means[2] - means[1].square()).clamp(min=0).float()
        (mean,) = means.values()
        return mean.float()


def _noise(images: Tensor, owners: list[int], copies: list[int], streams: Streams) -> Tensor:
    """Standard normal noise of some (image, copy) rows, (B, C, H, W)."""
    found = torch.empty(len(owners), *images.shape[1:])
    drawn = [
        streams.generator(owner, "noise", copy) for owner, copy in zip(owners, copies, strict=True)
    ]

    def draw(part: slice) -> None:
        for row, generator in zip(found[part], drawn[part], strict=True):
            row.normal_(generator=generator)

    over_cores(draw, len(owners))
    return found.to(images)


def _channels(
    base: Method, model: Classifier, images: Tensor, targets: Tensor, streams: Streams
) -> Tensor:
    """The base's attributions a channel where it has them, else its map as one channel."""
    if isinstance(base, PixelMethod):
        return base.attribute(model, images, targets, streams=streams)
    return base.explain(model, images, targets, streams=streams)[:, None]


_SQUARED: dict[str, Any] = {
    "paper": "Hooker et al. 2019, A Benchmark for Interpretability Methods in Deep Neural Networks",
    "signed": False,
}
_VARIANCE: dict[str, Any] = {
    "paper": "Adebayo et al. 2018, Local Explanation Methods for Deep Neural Networks Lack "
    "Sensitivity to Parameter Values",
    "signed": False,
}
METHODS.preset(
    "smoothgrad_squared",
    SmoothGrad,
    statistic="mean_square",
    card={"summary": "Mean square of the gradient over noisy copies of the image.", **_SQUARED},
)
METHODS.preset(
    "vargrad",
    SmoothGrad,
    statistic="variance",
    card={"summary": "Variance of the gradient over noisy copies of the image.", **_VARIANCE},
)
for _base, _title, _copies, _facts in (
    ("guided_backprop", "guided backpropagation", 50, {"needs": ("gradients", "relu")}),
    ("input_x_gradient", "gradient times input", 50, {"baseline": "mean"}),
    # each copy costs the steps of the integral
    ("integrated_gradients", "integrated gradients", 10, {"baseline": "mean"}),
):
    METHODS.preset(
        f"smooth_{_base}",
        SmoothGrad,
        base=_base,
        n_samples=_copies,
        card={"summary": f"Mean of {_title} over noisy copies of the image.", **_facts},
    )
METHODS.preset(
    "smoothgrad_abs",
    SmoothGrad,
    pooling="max_abs",
    card={"summary": "Largest magnitude of SmoothGrad over channels.", "signed": False},
)
