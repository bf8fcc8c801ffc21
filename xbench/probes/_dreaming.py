"""Images by gradient ascent on what a network answers to: a class, a unit, a whole layer."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.classifier import Classifier, Layer
from xbench.classifier.layers import to_nchw
from xbench.errors import ParameterError
from xbench.operations.pixels import gaussian_blur, upsample

_COARSEST = 28

Goal = Callable[[Tensor], Tensor]
"""Maps images (N, C, H, W) in [0, 1] to a sum to be made large."""


@dataclass(frozen=True)
class Regularizers:
    """What keeps an ascended image from being noise.

    Attributes:
        steps: gradient steps.
        rate: length of the first step, root mean square a pixel; it falls to a fifth.
        l2: pull towards gray, a share a step (Simonyan et al. 2014).
        blur: sigma in pixels of a blur every fourth step (Yosinski et al. 2015), 0 for none; it
            falls to zero over the steps.
        jitter: largest random shift, a share of the shorter side (Mordvintsev et al. 2015).
        clip: share of the pixels with the smallest contribution set back to gray every eighth
            step (Yosinski et al. 2015).
        tv: weight of total variation (Mahendran and Vedaldi 2015).
    """

    steps: int = 256
    rate: float = 0.02
    l2: float = 0.002
    blur: float = 0.6
    jitter: float = 1 / 16
    clip: float = 0.02
    tv: float = 0.2

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.rate > 0:  # also what is no number
            raise ParameterError("steps is at least 1 and rate above 0.")
        weights = (self.l2, self.blur, self.jitter, self.clip, self.tv)
        if not all(0 <= weight < math.inf for weight in weights) or self.clip >= 1:
            raise ParameterError("l2, blur, jitter, clip and tv are not negative; clip is below 1.")


@dataclass
class Ascent:
    """An ascended image and how it came about.

    Attributes:
        image: (C, H, W) in [0, 1].
        goals: value of the goal by step.
        snapshots: images on the way, by step.
    """

    image: Tensor
    goals: list[float] = field(default_factory=list)
    snapshots: dict[int, Tensor] = field(default_factory=dict)


def class_goal(model: Classifier, index: int) -> Goal:
    """The raw score of a class."""
    return lambda images: model.network(images)[:, index].sum()


def unit_goal(model: Classifier, layer: Layer, unit: int) -> Goal:
    """The mean activation of a channel of a layer.

    Raises:
        ParameterError: the layer has no such channel.
    """
    if not 0 <= unit < layer.channels:
        raise ParameterError(
            f"The layer '{layer.name}' has {layer.channels} units, 0 to {layer.channels - 1}; "
            f"{unit} is none."
        )

    def goal(images: Tensor) -> Tensor:
        with model.captured(layer) as kept:
            model.network(images)
        return to_nchw(kept[-1], layer)[:, unit].mean()

    return goal


def layer_goal(model: Classifier, layer: Layer) -> Goal:
    """The mean square activation of a layer: what it sees, it shall see more of (DeepDream)."""

    def goal(images: Tensor) -> Tensor:
        with model.captured(layer) as kept:
            model.network(images)
        return to_nchw(kept[-1], layer).square().mean()

    return goal


def ascend(
    goal: Goal,
    start: Tensor,
    how: Regularizers,
    generator: torch.Generator,
    tell: Callable[[int], None],
    gray: Tensor,
) -> Ascent:
    """Climb from a start image (C, H, W).

    Args:
        goal: what to make large.
        start: in [0, 1], on the model's device.
        how: steps and regularizers.
        generator: of the jitter.
        tell: told of every step.
        gray: where L2 pulls and clipping sets back to, (C, 1, 1).
    """
    found = Ascent(start)
    image = start[None]
    reach = round(how.jitter * min(image.shape[2:]))
    marks = {round(how.steps * share) for share in (0, 0.1, 0.25, 0.5, 1)}
    for step in range(how.steps):
        tell(step)
        if step in marks:
            found.snapshots[step] = image[0].clone()
        shifts = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
        moved = torch.roll(image, shifts, dims=(2, 3)).detach().requires_grad_(True)
        with torch.enable_grad():
            value = goal(moved)
            (gradient,) = torch.autograd.grad(value, moved)
        found.goals.append(float(value.detach()))
        gradient = balanced(torch.roll(gradient, [-shift for shift in shifts], dims=(2, 3)))
        rate = how.rate * (1 - 0.8 * step / how.steps)
        image = image + rate * (gradient - how.tv * _roughness(image))
        image = _regularized(image, gradient, step, how, gray)
    tell(how.steps)
    found.snapshots[how.steps] = image[0].clone()
    found.image = image[0].detach()
    return found


def balanced(gradient: Tensor) -> Tensor:
    """The gradient (1, C, H, W) with a root mean square of 1, every scale of detail alike strong.

    Octaves of detail down to 28 pixels are normalized each (the Laplacian pyramid of Mordvintsev
    et al. 2015); else fine detail drowns all shape in large images.
    """
    rest, bands = gradient, []
    while min(rest.shape[2:]) >= 2 * _COARSEST:
        size = (int(rest.shape[2]), int(rest.shape[3]))
        coarse = F.avg_pool2d(rest, 2)
        bands.append(rest - upsample(coarse, size))
        rest = coarse
    total = _unit(rest)
    for band in reversed(bands):
        total = upsample(total, (int(band.shape[2]), int(band.shape[3]))) + _unit(band)
    return _unit(total)


def _unit(values: Tensor) -> Tensor:
    return values / values.square().mean().sqrt().clamp(min=1e-30)


def _roughness(image: Tensor) -> Tensor:
    """Gradient of the total variation sum |difference|, smooth at zero, with mean square 1."""
    moved = image.detach().requires_grad_(True)
    with torch.enable_grad():
        down = (moved[:, :, 1:] - moved[:, :, :-1]).square()
        right = (moved[..., 1:] - moved[..., :-1]).square()
        total = (down + 1e-4).sqrt().sum() + (right + 1e-4).sqrt().sum()
        (gradient,) = torch.autograd.grad(total, moved)
    return gradient


def _regularized(
    image: Tensor, gradient: Tensor, step: int, how: Regularizers, gray: Tensor
) -> Tensor:
    left = 1 - step / how.steps
    image = image - how.l2 * (0.2 + 0.8 * left) * (image - gray)
    if how.blur * left > 0.2 and step % 4 == 3:
        image = gaussian_blur(image, how.blur * left)
    if how.clip > 0 and step % 8 == 7 and left > 0.2:
        worth = ((image - gray) * gradient).sum(dim=1, keepdim=True).abs()
        cut = worth.flatten().kthvalue(max(1, round(how.clip * worth.numel()))).values
        image = torch.where(worth <= cut, gray.expand_as(image), image)
    return image.clamp(0, 1)


def dream(
    goal: Goal,
    image: Tensor,
    how: Regularizers,
    generator: torch.Generator,
    tell: Callable[[int], None],
    octaves: int = 3,
) -> Ascent:
    """DeepDream: the goal climbed on a small copy first, its details carried to larger ones.

    Args:
        goal, how, generator, tell: as in `ascend`; the steps are shared by the octaves.
        image: the start (C, H, W).
        octaves: sizes, each 1.3 times the one before.

    Raises:
        ParameterError: no octave.
    """
    if octaves < 1:
        raise ParameterError(f"octaves is a number of at least 1, not {octaves}.")
    detail = torch.zeros_like(image)
    found = Ascent(image)
    parts = Regularizers(
        steps=max(1, how.steps // octaves),
        rate=how.rate,
        l2=0,
        blur=0,
        jitter=how.jitter,
        clip=0,
        tv=how.tv,
    )
    for octave in range(octaves):
        scale = 1.3 ** (octave + 1 - octaves)
        size = (max(32, round(image.shape[1] * scale)), max(32, round(image.shape[2] * scale)))
        base, carried = _sized(image, size), _sized(detail, size)
        done = octave * parts.steps
        one = ascend(
            goal,
            (base + carried).clamp(0, 1),
            parts,
            generator,
            lambda step, done=done: tell(done + step),  # type: ignore[misc]
            base.mean(dim=(1, 2), keepdim=True),
        )
        detail = one.image - base
        found.goals += one.goals
        found.snapshots[done + parts.steps] = one.image
        found.image = one.image
    return found


def _sized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[1:]) == size:
        return image
    return upsample(F.adaptive_avg_pool2d(image[None], size), size)[0]


def through_generator(
    goal: Goal,
    generator: torch.nn.Module,
    code: Tensor,
    how: Regularizers,
    tell: Callable[[int], None],
) -> Ascent:
    """Climb over the code of a generator, whose images are the prior (Nguyen et al. 2016).

    Args:
        goal: what to make large.
        generator: maps codes (1, D, ...) to images (1, C, H, W) in [0, 1].
        code: the start.
        how: its steps, rate (ten times as long, a code is no pixel) and l2 count.
        tell: told of every step.
    """
    with torch.no_grad():
        found = Ascent(generator(code)[0])
    for step in range(how.steps):
        tell(step)
        moved = code.detach().requires_grad_(True)
        with torch.enable_grad():
            value = goal(generator(moved).clamp(0, 1))
            (gradient,) = torch.autograd.grad(value, moved)
        found.goals.append(float(value.detach()))
        gradient = gradient / gradient.square().mean().sqrt().clamp(min=1e-30)
        code = (1 - how.l2) * code + 10 * how.rate * gradient
    tell(how.steps)
    with torch.no_grad():
        found.image = generator(code)[0].clamp(0, 1)
    found.snapshots[how.steps] = found.image
    return found


def facts(model: Classifier, image: Tensor, index: int) -> Mapping[str, float]:
    """Raw score, probability and rank of a class on an image (C, H, W)."""
    logits = model.logits(image[None].to(model.device))[0]
    return {
        "score": float(logits[index]),
        "probability": float(logits.softmax(dim=0)[index]),
        "rank": float((logits > logits[index]).sum() + 1),
    }
