"""Optimized masks: the least that must be hidden, or the most telling region of a given area."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, MethodCard
from xbench.errors import ParameterError
from xbench.operations.pixels import gaussian_blur, upsample
from xbench.registry import METHODS
from xbench.streams import Streams

from ._mask_gradient import Blend, MaskProblem, Move
from ._masked import OUTPUTS, Output, check_at_least, check_choice, masked_scores
from ._smooth_masks import SmoothMasks

Variant = Literal["preserve", "delete"]

LEVELS = 8


@METHODS.register
@dataclass(frozen=True)
class MeaningfulPerturbation(Method):
    """1 - m for the mask m that minimizes f(m x + (1 - m) blur(x)) + l1 |1 - m|_1 + l2 |grad m|^b.

    m is coarse and enlarged bilinearly; it is found by Adam from the smallest centered disk that,
    blurred, takes away 99 % of what blurring everything takes away. Each step sees the image
    jittered by a few pixels. Norms are sums over the coarse mask, as in the paper, whose
    weights these are.

    Attributes:
        n_steps: steps of Adam.
        grid: cells of the mask along the shorter side, at most half its pixels.
        l1: weight of the hidden area.
        tv: weight of the roughness, the sum of |differences of neighbors| to the power beta.
        beta: that power.
        rate: learning rate.
        jitter: largest shift in pixels at 224 pixels; scales with the side.
        sigma: of the blur, in pixels at 224 pixels; scales with the side.
        output: "probability", as the authors, or "logit".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="meaningful_perturbation",
        summary="The smallest smooth region whose blurring destroys the class score.",
        paper="Fong and Vedaldi, Interpretable Explanations of Black Boxes by Meaningful "
        "Perturbation, 2017",
        limitations="Depends on the weights of its penalties; may end in a local minimum or an "
        "adversarial pattern; expensive.",
        family="perturbation",
        needs=("gradients",),
        signed=False,
        stochastic=True,
        forwards="n_steps + 11",
        backwards="n_steps",
        baseline="blur",
    )
    n_steps: int = 300
    grid: int = 28
    l1: float = 1e-4
    tv: float = 1e-2
    beta: float = 3.0
    rate: float = 0.1
    jitter: int = 4
    sigma: float = 10.0
    output: Output = "probability"

    def __post_init__(self) -> None:
        check_at_least(self.n_steps, 1, "n_steps")
        check_at_least(self.grid, 1, "grid")
        check_at_least(self.beta, 1, "beta")
        for name in ("l1", "tv", "jitter"):
            check_at_least(getattr(self, name), 0, name)
        for name in ("rate", "sigma"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name} must be above 0, not {getattr(self, name)}.")
        check_choice(self.output, OUTPUTS, "The output")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        size = (images.shape[-2], images.shape[-1])
        blurred = gaussian_blur(images, self.sigma * min(size) / 224)

        def blend(index: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            slope = images[index] - blurred[index]
            return blurred[index] + mask[:, None] * slope, slope

        mask = self._start(model, images, blurred, targets)
        problem = MaskProblem(model, images, targets, blend, self.output)
        reach = math.ceil(self.jitter * min(size) / 224)
        shifts = streams.integers(reach + 1, (self.n_steps, 2), "jitter")
        optimizer = torch.optim.Adam([mask], lr=self.rate)
        for step in range(self.n_steps):
            now = shifts[:, step]
            gradient = problem.gradient(mask, _rolling(now), _rolling(-now))
            mask.grad = gradient + self._penalty(mask)
            optimizer.step()
            mask.clamp_(0, 1)
        return (1 - upsample(mask, size)).clamp(min=0)  # interpolation rounds above 1

    def _penalty(self, mask: Tensor) -> Tensor:
        """Gradient of l1 |1 - m|_1 + l2 |grad m|^beta for masks in [0, 1]."""
        with torch.enable_grad():
            leaf = mask.detach().requires_grad_(True)
            rough = sum(leaf.diff(dim=dim).abs().pow(self.beta).sum() for dim in (1, 2))
            total = self.l1 * (1 - leaf).sum() + self.tv * rough
            (gradient,) = torch.autograd.grad(total, leaf)
        return gradient

    def _start(self, model: Classifier, images: Tensor, blurred: Tensor, targets: Tensor) -> Tensor:
        """The mask of the smallest sufficient disk, (N, h, w)."""
        height, width = images.shape[-2:]
        cell = max(2.0, min(height, width) / self.grid)
        shape = (max(1, round(height / cell)), max(1, round(width / cell)))

        def radius(rows: int, columns: int) -> Tensor:
            y = (torch.arange(rows, device=images.device) + 0.5) / rows - 0.5
            x = (torch.arange(columns, device=images.device) + 0.5) / columns - 0.5
            return (2 * (y[:, None].square() + x[None, :].square())).sqrt()  # 1 in the corners

        fine, coarse = radius(height, width), radius(*shape)

        def keep(_: Tensor, step: Tensor) -> Tensor:
            return (fine >= step.view(-1, 1, 1) / 10).float()

        scores = masked_scores(model, images, blurred, targets, 11, keep, self.output)
        drops = scores[:, :1] - scores
        enough = drops >= 0.99 * drops[:, -1:]
        enough[:, 0] = False
        enough[:, -1] = True
        first = enough.int().argmax(dim=1)
        return (coarse >= first.view(-1, 1, 1) / 10).to(images.dtype)


@METHODS.register
@dataclass(frozen=True)
class ExtremalPerturbation(Method):
    """Mean over areas a of the mask m_a that maximizes f(m_a * x) among smooth masks of area a.

    m * x is the image blurred the more the smaller m (a pyramid of 8 levels). The mask is the
    smooth maximum of Gaussian-like bumps on a grid, so it cannot be finer than sigma; its area is
    enforced by l_t |sort(m) - r_a|^2 with r_a a share a of ones and l_t growing 16-fold. Masks
    start full and follow gradient descent with momentum; every other step sees the mirror image.
    They are evaluated once a cell, a third of sigma, and enlarged bilinearly.

    Attributes:
        area: the smallest area, a share of the image.
        n_areas: how many areas, each twice the one before.
        n_steps: steps an area; the authors' schedule of 800 steps is run through faster, with
            larger steps, down to 100.
        variant: "preserve" seeks the region that alone keeps the score up, "delete" the one whose
            blurring takes it down.
        grid: bumps along the shorter side, at most half its pixels.
        sigma: width of a bump in pixels at 224 pixels; scales with the side.
        mirror: show the mirror image in every other step; off for classes that it changes.
        output: "logit", as the authors, or "probability".
    """

    card: ClassVar[MethodCard] = MethodCard(
        name="extremal_perturbation",
        summary="The region of a given area that alone keeps the class score highest.",
        paper="Fong et al., Understanding Deep Networks via Extremal Perturbations and Smooth "
        "Masks, 2019",
        limitations="Nearly binary, so few pixels are told apart; areas must fit the object; an "
        "image without evidence gets a region all the same; expensive.",
        family="perturbation",
        needs=("gradients",),
        signed=False,
        forwards="n_steps * n_areas",
        backwards="n_steps * n_areas",
        baseline="blur",
    )
    area: float = 0.05
    n_areas: int = 3
    n_steps: int = 800
    variant: Variant = "preserve"
    grid: int = 32
    sigma: float = 21.0
    mirror: bool = True
    output: Output = "logit"

    def __post_init__(self) -> None:
        check_at_least(self.n_areas, 1, "n_areas")
        check_at_least(self.n_steps, 1, "n_steps")
        check_at_least(self.grid, 1, "grid")
        if not self.sigma > 0:
            raise ParameterError(f"sigma must be above 0, not {self.sigma}.")
        if not 0 < self.area * 2 ** (self.n_areas - 1) < 1:
            raise ParameterError(
                f"Areas must lie between 0 and 1; {self.n_areas} areas from {self.area} on, each "
                "twice the one before, do not."
            )
        check_choice(self.variant, ("preserve", "delete"), "The variant")
        check_choice(self.output, OUTPUTS, "The output")

    def explain(
        self, model: Classifier, images: Tensor, targets: Tensor, *, streams: Streams
    ) -> Tensor:
        """See the class."""
        n, size = images.shape[0], (images.shape[-2], images.shape[-1])
        shape = SmoothMasks.of(size, self.grid, self.sigma * min(size) / 224)
        doubled = self.area * 2.0 ** torch.arange(self.n_areas, device=images.device)
        areas = doubled.repeat(n)
        problem = MaskProblem(
            model,
            images,
            targets.repeat_interleave(self.n_areas),
            self._blend(images),
            self.output,
        )
        bumps = torch.ones(n * self.n_areas, *shape.cells, device=images.device)
        speed = min(8.0, 800 / self.n_steps)  # faster, the descent would not be stable
        # a bump's share of the mean over points, and so its gradient, falls with their number;
        # 38 x 38 is that of the authors
        rate = 0.01 * speed * shape.places / 38**2
        optimizer = torch.optim.SGD([bumps], lr=rate, momentum=0.9, dampening=0.9)
        for step in range(self.n_steps):
            move = _mirror if self.mirror and step % 2 == 0 else _stay
            masks, slopes = shape.evaluate(bumps)
            reward = problem.gradient(shape.crop(masks), move, move)
            weight = 300 * 1.0035 ** (step * speed)
            bumps.grad = shape.loss_gradient(masks, slopes, reward, areas, weight)
            optimizer.step()
            bumps.clamp_(0, 1)
        masks = upsample(shape.crop(shape.evaluate(bumps)[0]), size).clamp(0, 1)
        return masks.view(n, self.n_areas, *size).mean(dim=1)

    def _blend(self, images: Tensor) -> Blend:
        """Images blurred as their mask says, linear between the levels of a pyramid."""
        strongest = 20 * min(images.shape[-2:]) / 224
        pyramid = torch.stack(
            [gaussian_blur(images, strongest * (1 - k / (LEVELS - 1))) for k in range(LEVELS - 1)]
            + [images],
            dim=1,
        )
        height, width = images.shape[-2:]
        colors = pyramid.permute(0, 1, 3, 4, 2).reshape(-1, images.shape[1])
        place = torch.arange(height * width, device=images.device).view(height, width)

        def blend(index: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            image = (index // self.n_areas)[:, None, None]
            depth = (mask if self.variant == "preserve" else 1 - mask) * (LEVELS - 1)
            level = depth.floor().clamp(max=LEVELS - 2).long()
            row = ((image * LEVELS + level) * (height * width) + place).flatten()
            low, high = (
                colors.index_select(0, at).view(*mask.shape, -1).permute(0, 3, 1, 2)
                for at in (row, row + height * width)
            )
            rows = torch.lerp(low, high, (depth - level)[:, None].expand_as(low))
            slope = (high - low) * (LEVELS - 1)
            # deleting maximizes -f and 1 - m stands for m: both signs cancel in the derivative
            return rows, slope

        return blend


def _mirror(images: Tensor, _: Tensor) -> Tensor:
    return images.flip(3)


def _stay(images: Tensor, _: Tensor) -> Tensor:
    return images


def _rolling(shifts: Tensor) -> Move:
    """Shifts each image around by its own (dy, dx)."""

    def move(images: Tensor, index: Tensor) -> Tensor:
        now = shifts[index.cpu()].tolist()
        moved = [image.roll(by, dims=(1, 2)) for image, by in zip(images, now, strict=True)]
        return torch.stack(moved)

    return move
