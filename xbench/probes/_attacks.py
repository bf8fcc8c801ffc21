"""Attacks towards a class: gradient ascent on the raw score, FGSM, PGD; all end in 8-bit pixels."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.errors import ParameterError

Name = Literal["ascent", "fgsm", "pgd"]
ATTACKS = get_args(Name)
_START, _LARGEST = 0.0006, 0.02


@dataclass(frozen=True)
class Limits:
    """How far attacks may go.

    Attributes:
        confidence: gradient ascent stops at this probability of the target.
        steps: of gradient ascent at most, and of PGD.
        epsilon: largest change of a pixel of FGSM and PGD.
    """

    confidence: float = 0.99
    steps: int = 200
    epsilon: float = 4 / 255

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ParameterError(f"confidence lies between 0 and 1, not at {self.confidence}.")
        if self.steps < 1 or not 0 < self.epsilon <= 1:
            raise ParameterError("steps is at least 1, and epsilon above 0 and at most 1.")


@dataclass(frozen=True)
class Fooled:
    """An adversarial image.

    Attributes:
        attack: how it was made.
        image: (C, H, W), in steps of 1/255, as a file keeps it.
        steps: gradients taken.
    """

    attack: str
    image: Tensor
    steps: int


def rounded(images: Tensor) -> Tensor:
    """Pixels as an 8-bit file keeps them."""
    return (images.clamp(0, 1) * 255).round() / 255


def attack(model: Classifier, image: Tensor, target: int, name: str, limits: Limits) -> Fooled:
    """An image that the model should take for the target.

    Args:
        model: the classifier.
        image: (C, H, W) in [0, 1].
        target: the class.
        name: one of `ATTACKS`.
        limits: how far.

    Raises:
        ParameterError: no such attack.
    """
    attacks: dict[str, Callable[[Classifier, Tensor, Tensor, Limits], tuple[Tensor, int]]] = {
        "ascent": _ascent,
        "fgsm": _fgsm,
        "pgd": _pgd,
    }
    if name not in attacks:
        raise ParameterError(f"There is no attack '{name}'; there are {', '.join(ATTACKS)}.")
    start = image[None].to(model.device)
    found, steps = attacks[name](model, start, torch.tensor([target], device=model.device), limits)
    return Fooled(name, rounded(found)[0].cpu(), steps)


def _ascent(model: Classifier, image: Tensor, target: Tensor, limits: Limits) -> tuple[Tensor, int]:
    """Steps of one length along the gradient of the raw score; longer ones where that stalls.

    The step has a root mean square of 0.0006 a pixel; every 25 steps without success double it.
    """
    found, length = image, _START
    for step in range(limits.steps):
        if float(model.probabilities(rounded(found))[0, target]) >= limits.confidence:
            return found, step
        gradient = model.gradients(found, target)
        size = gradient.square().mean().sqrt().clamp(min=1e-30)
        found = (found + length * gradient / size).clamp(0, 1)
        if step % 25 == 24:
            length = min(2 * length, _LARGEST)
    return found, limits.steps


def _log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.log_softmax(dim=1).gather(1, targets[:, None])[:, 0]


def _fgsm(model: Classifier, image: Tensor, target: Tensor, limits: Limits) -> tuple[Tensor, int]:
    """One step of epsilon along the sign of the gradient (Goodfellow et al. 2015)."""
    gradient = model.gradients(image, target, score=_log_probability)
    return image + limits.epsilon * gradient.sign(), 1


def _pgd(model: Classifier, image: Tensor, target: Tensor, limits: Limits) -> tuple[Tensor, int]:
    """Signed steps of epsilon / 4, kept within epsilon (Madry et al. 2018), from the image on."""
    found = image
    steps = min(limits.steps, 20)
    for _ in range(steps):
        gradient = model.gradients(found, target, score=_log_probability)
        found = found + limits.epsilon / 4 * gradient.sign()
        found = (image + (found - image).clamp(-limits.epsilon, limits.epsilon)).clamp(0, 1)
    return found, steps
