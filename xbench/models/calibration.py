"""Is the input what the network was trained on? Double normalization and its relatives, named."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization

_IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_ENOUGH = 8  # images with labels, below which only statistics are compared
_FAR = 0.5  # standard deviations that natural images of another kind do not reach
_LEVEL = 0.01

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Finding:
    """Something about the input that the user should know.

    Attributes:
        level: "ok", "warning" (it looks so) or "error" (measured on labels, or seen in the parts).
        text: one sentence, with what to do.
    """

    level: Literal["ok", "warning", "error"]
    text: str


@dataclass(frozen=True)
class Reading:
    """How the network fares on the same images, prepared in one way.

    Attributes:
        name: of the preparation.
        right: bool (N,), right answers; False where the label is unknown.
        distance: how far what enters the first batch normalization is from what it remembers of
            training, in its standard deviations; None without an informative one.
    """

    name: str
    right: Tensor
    distance: float | None


OWN = "as configured"
TWICE = "pixels in [0, 1] as they are"


def readings(model: Classifier, images: Tensor, labels: Tensor) -> list[Reading]:
    """The network on images prepared as configured, and in the ways that are often mistaken for it.

    Args:
        model: the classifier; the calls are not counted.
        images: float32 (N, C, H, W) in [0, 1].
        labels: int64 (N,), -1 where unknown.

    Returns:
        The configured preparation first.
    """
    images = images.to(model.device)
    mean, std = model.network.get_buffer("mean"), model.network.get_buffer("std")
    found = []
    for name, prepare in _preparations(model.normalization, images.shape[1]):
        undone = prepare(images) * std + mean  # the classifier normalizes it back
        with model.counter.paused(), _first_norm(model.module) as entered:
            top = model.logits(undone).argmax(dim=1).cpu()
        right = (top == labels) & (labels >= 0)
        found.append(Reading(name, right, _distance(entered)))
    return found


@contextmanager
def _first_norm(module: nn.Module) -> Iterator[list[tuple[nn.BatchNorm2d, Tensor]]]:
    """What enters the batch normalization that runs first, inside the block."""
    entered: list[tuple[nn.BatchNorm2d, Tensor]] = []

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        if not entered or entered[0][0] is norm:
            entered.append((norm, inputs[0].detach().float()))

    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]
    handles = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        yield entered
    finally:
        for handle in handles:
            handle.remove()


def _distance(entered: Sequence[tuple[nn.BatchNorm2d, Tensor]]) -> float | None:
    if not entered:
        return None
    norm = entered[0][0]
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None or not bool(mean.any()):  # none kept, or folded away
        return None
    values = torch.cat([value.transpose(0, 1).flatten(1) for _, value in entered], dim=1)
    spread = (variance + norm.eps).sqrt()
    shift = (values.mean(dim=1) - mean).abs() / spread
    stretch = ((values.std(dim=1) + norm.eps) / spread).log().abs()
    return float((shift + stretch).median())


def _preparations(own: Normalization, channels: int) -> list[tuple[str, Transform]]:
    def by(normalization: Normalization) -> Transform:
        def prepare(images: Tensor) -> Tensor:
            mean = torch.tensor(normalization.mean, device=images.device).view(1, -1, 1, 1)
            std = torch.tensor(normalization.std, device=images.device).view(1, -1, 1, 1)
            return (images - mean) / std

        return prepare

    plain, half = Normalization(), Normalization((0.5,), (0.5,))
    ways: list[tuple[str, Transform]] = [(OWN, by(own))]
    if not _alike(own, plain):
        ways.append((TWICE, by(plain)))
    if channels == 3 and not _alike(own, _IMAGENET):
        ways.append(("pixels normalized with ImageNet's mean and std", by(_IMAGENET)))
    if not _alike(own, half):
        ways.append(("pixels in [-1, 1]", by(half)))
    ways.append(("pixels in [0, 255]", by(Normalization((0.0,), (1 / 255,)))))
    if channels == 3:
        ways.append(("channels in the order blue, green, red", lambda x: by(own)(x).flip(1)))
    return ways


def _alike(first: Normalization, second: Normalization) -> bool:
    def full(values: Sequence[float]) -> list[float]:
        return list(values) * (3 // len(values))

    pairs = zip(
        full(first.mean) + full(first.std), full(second.mean) + full(second.std), strict=True
    )
    return all(math.isclose(a, b, abs_tol=0.02) for a, b in pairs)


def judge(found: Sequence[Reading], labeled: int, *, identity: bool = False) -> Finding:
    """What the readings say: the configured preparation is best, or another clearly is.

    With labels, a sign test on the images that only one of the two gets right; without, what the
    first batch normalization remembers of the images it was trained on.

    Args:
        found: from `readings`.
        labeled: how many of the images have a label.
        identity: whether the configured normalization changes nothing.
    """
    own, others = found[0], found[1:]
    if labeled >= _ENOUGH:
        best = max(others, key=lambda reading: int(reading.right.sum()))
        right, better = int(own.right.sum()), int(best.right.sum())
        gained, lost = int((best.right & ~own.right).sum()), int((own.right & ~best.right).sum())
        if gained > lost and sign_test(gained, lost) < _LEVEL / len(others):
            measured = f"Of {labeled} images the model gets {right} right {OWN}, {better} with"
            return Finding("error", f"{measured} {best.name}: {_advice(best.name, identity)}")
        return Finding(
            "ok", f"The normalization fits ({right} of {labeled} right), none is better."
        )
    if own.distance is None:
        return Finding("ok", "Without labels nothing can be said about the normalization.")
    best = min(others, key=lambda reading: reading.distance or 0.0)
    assert best.distance is not None
    if own.distance > _FAR and best.distance < own.distance / 2:
        measured = f"The first batch normalization is {own.distance:.2f} from training {OWN}, "
        measured += f"{best.distance:.2f} with {best.name}"
        return Finding("warning", f"{measured}: perhaps {_advice(best.name, identity)}")
    text = (
        f"Nothing speaks against the normalization (first layer {own.distance:.2f} from training)."
    )
    return Finding("ok", text)


def _advice(name: str, identity: bool) -> str:
    if name == TWICE:
        return (
            "it normalizes inside already, so its input is normalized twice; give it mean 0 and "
            "std 1."
        )
    if identity:
        return f"it was trained on {name}, and no normalization is set; give that one."
    return f"it was trained on {name}; give that normalization instead."


def sign_test(gained: int, lost: int) -> float:
    """One-sided p-value of at least `gained` heads in `gained + lost` tosses of a fair coin.

    >>> sign_test(3, 0)
    0.125
    """
    total = gained + lost
    return float(sum(math.comb(total, k) for k in range(gained, total + 1)) / 2**total)


def inner_normalization(module: nn.Module) -> str | None:
    """The name of a part of the network that normalizes pixels itself, if one shows it.

    That is a module whose class is called after normalizing the input and that keeps a mean and a
    std of one value a channel, or such a pair of buffers of the network itself.
    """
    for name, child in module.named_modules():
        kind = type(child).__name__.lower()
        pair = [getattr(child, key, None) for key in ("mean", "std")]
        small = all(_is_channelwise(value) for value in pair)
        if small and (name == "" or kind.startswith(("normaliz", "imagenorm", "inputnorm"))):
            return name or "mean and std of the network itself"
    return None


def _is_channelwise(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.numel() in (1, 3)
    return isinstance(value, list | tuple) and len(value) in (1, 3)


def check_input(model: Classifier, images: Tensor, labels: Tensor) -> list[Finding]:
    """Everything that can be said about whether the network gets the input it was trained on.

    Args:
        model: the classifier.
        images: float32 (N, C, H, W) in [0, 1], natural images.
        labels: int64 (N,), -1 where unknown.
    """
    findings = []
    identity = _alike(model.normalization, Normalization())
    inner = inner_normalization(model.module)
    if inner is not None and not identity:
        findings.append(
            Finding(
                "error",
                f"The network normalizes inside ({inner}) and is given normalized input: its input "
                "is normalized twice; give it mean 0 and std 1.",
            )
        )
    labeled = int((labels >= 0).sum())
    findings.append(judge(readings(model, images, labels), labeled, identity=identity))
    return findings
