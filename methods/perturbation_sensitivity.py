"""Global sensitivity analysis: how much of the score's variation a cell of the image explains."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError
from xbench.operations.pixels import upsample
from xbench.registry import METHODS
from xbench.streams import Streams

from ._masked import (
    BASELINES,
    OUTPUTS,
    Baseline,
    Output,
    baseline_images,
    check_at_least,
    check_choice,
    masked_scores,
)


@METHODS.register
@dataclass(frozen=True)
class Sobol(Method):
    """Total-order Sobol index of each cell, by Jansen's estimator.

    ST_i = 1 / (2 N) sum_j (f(A_j) - f(C_ij))^2 / V(f(A)): A and B are N quasi-random designs of
    visibilities in [0, 1], C_i is A with the i-th column of B, V the sample variance. Cells keep
    a share z of the image and take 1 - z of the baseline. The design B itself is never shown, as
    Jansen's estimator has no use for it.

    Attributes:
        n_designs: N, a power of two.
        grid: cells along each side.
        scramble: scramble the Sobol sequence by the run's seed. Without it, as the authors have
            it, some cells get the same column for so few designs: the indices of an additive
            score over 49 cells sum to 0.3 in place of 1.
        baseline: "mean", "black" or "blur".
        output: "logit" or "probability".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="sobol",
        summary="Total-order Sobol indices of the cells of a grid.",
        paper="Fel et al., Look at the Variance! Efficient Black-box Explanations with Sobol-based "
        "Sensitivity Analysis, 2021",
        limitations="No sign: evidence for and against look alike; no finer than its grid; noisy "
        "with few designs.",
        family="perturbation",
        signed=False,
        stochastic=True,
        forwards="n_designs * (grid ** 2 + 1)",
        baseline="mean",
    )
    n_designs: int = 32
    grid: int = 7
    scramble: bool = True
    baseline: Baseline = "mean"
    output: Output = "logit"

    def __post_init__(self) -> None:
        check_at_least(self.n_designs, 2, "n_designs")
        if self.n_designs & (self.n_designs - 1):
            raise ParameterError(
                f"n_designs must be a power of two, not {self.n_designs}: other numbers unbalance "
                "the Sobol sequence."
            )
        check_at_least(self.grid, 1, "grid")
        check_choice(self.baseline, BASELINES, "The baseline")
        check_choice(self.output, OUTPUTS, "The output")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        designs = [self.design(streams.seed_for(i, "sobol")) for i in range(len(images))]
        first = torch.stack([one for one, _ in designs]).to(images)
        second = torch.stack([one for _, one in designs]).to(images)
        cells, n = self.grid**2, self.n_designs
        inside = _cells(images, self.grid)

        def keep(image: Tensor, step: Tensor) -> Tensor:
            row, column = step % n, step // n - 1  # rows of A, then of C_0, C_1 ...
            visible = first[image, row]
            swapped = torch.arange(cells, device=images.device) == column[:, None]
            return torch.where(swapped, second[image, row], visible)[:, inside]

        fills = baseline_images(model, images, self.baseline, streams)
        scores = masked_scores(model, images, fills, targets, n * (cells + 1), keep, self.output)
        scores = scores.double().view(-1, cells + 1, n)
        whole, swapped = scores[:, :1], scores[:, 1:]
        variance = whole.var(dim=2)
        index = (whole - swapped).square().mean(dim=2) / 2 / variance
        # a score that varies by rounding alone owes nothing to any cell
        index = torch.where(variance.sqrt() > _rounding(whole).amax(dim=2), index, 0.0)
        return _paint(index, images, self.grid)

    def design(self, seed: int) -> tuple[Tensor, Tensor]:
        """The designs A and B, float32 (n_designs, cells) each."""
        cells = self.grid**2
        engine = SobolEngine(2 * cells, scramble=self.scramble, seed=seed % 2**62)
        points = engine.draw(self.n_designs)
        return points[:, :cells], points[:, cells:]


@METHODS.register
@dataclass(frozen=True)
class Hsic(Method):
    """Hilbert-Schmidt independence criterion between the visibility of a cell and the score.

    HSIC_i = tr(K_i H L H) / n^2: K_i(z, z') = 1/2 - (z_i - z'_i)^2 over binary masks z,
    L(y, y') = exp(-(y - y')^2 / (2 w^2)) over their scores, w the median distance between scores,
    H = I - 1/n. Masks are a binary Latin hypercube: each cell is visible in half of them.

    Attributes:
        n_samples: n, that is forward passes.
        grid: cells along each side.
        baseline: "mean", "black" or "blur".
        output: "logit" or "probability".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="hsic",
        summary="Dependence (HSIC) between the visibility of a cell and the score.",
        paper="Novello et al., Making Sense of Dependence: Efficient Black-box Explanations Using "
        "Dependence Measure, 2022",
        limitations="No sign: evidence for and against look alike; no finer than its grid; a "
        "cell that does not matter gets a small positive value.",
        family="perturbation",
        signed=False,
        stochastic=True,
        forwards="n_samples",
        baseline="mean",
    )
    n_samples: int = 500
    grid: int = 7
    baseline: Baseline = "mean"
    output: Output = "logit"

    def __post_init__(self) -> None:
        check_at_least(self.n_samples, 2, "n_samples")
        check_at_least(self.grid, 1, "grid")
        check_choice(self.baseline, BASELINES, "The baseline")
        check_choice(self.output, OUTPUTS, "The output")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        masks = self.masks(streams).to(images.device)
        inside = _cells(images, self.grid)

        def keep(image: Tensor, step: Tensor) -> Tensor:
            return masks[image, step][:, inside]

        fills = baseline_images(model, images, self.baseline, streams)
        scores = masked_scores(model, images, fills, targets, self.n_samples, keep, self.output)
        index = torch.stack(
            [hsic(mask.double(), score.double()) for mask, score in zip(masks, scores, strict=True)]
        )
        return _paint(index, images, self.grid)

    def masks(self, streams: Streams) -> Tensor:
        """Which cells are visible, bool (N, n_samples, cells)."""
        draws = streams.uniform((self.n_samples, self.grid**2), "hsic")
        return draws.argsort(dim=1).argsort(dim=1) < self.n_samples // 2


def hsic(masks: Tensor, scores: Tensor) -> Tensor:
    """HSIC of each binary column with the scores, (d,).

    Args:
        masks: (n, d), 0 or 1.
        scores: (n,).
    """
    n = scores.shape[0]
    distance = (scores[:, None] - scores[None, :]).abs()
    pairs = torch.triu_indices(n, n, offset=1, device=scores.device)
    width = distance[pairs[0], pairs[1]].median()
    least = _rounding(scores).max()
    if not bool(width > least):  # half of the scores or more are the same
        width = distance.max()
        if not bool(width > least):
            return torch.zeros(masks.shape[1], dtype=scores.dtype, device=scores.device)
    kernel = torch.exp(-0.5 * (distance / width).square())
    rows = kernel.mean(dim=1, keepdim=True)
    centered = kernel - rows - rows.T + kernel.mean()
    # for binary z the kernel is 1/2 - z - z' + 2 z z', and H removes all but the last term
    return 2 * (masks * (centered @ masks)).sum(dim=0) / n**2


def _rounding(scores: Tensor) -> Tensor:
    """What float32 rounding may add to a score."""
    return 1e-6 * scores.abs()


def _cells(images: Tensor, grid: int) -> Tensor:
    """The number of the cell that each pixel lies in, int64 (H, W)."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) * grid // height
    columns = torch.arange(width, device=images.device) * grid // width
    return rows[:, None] * grid + columns[None, :]


def _paint(index: Tensor, images: Tensor, grid: int) -> Tensor:
    size = (images.shape[-2], images.shape[-1])
    return upsample(index.to(images.dtype).view(-1, grid, grid), size)
