"""What `xbench models` says: which models there are, and whether one is fit to be explained."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from xbench.classifier import Classifier, Layer
from xbench.contracts import Method, Source
from xbench.errors import XbenchError
from xbench.models.calibration import Finding, check_input
from xbench.models.loading import KINDS
from xbench.models.own import own_models
from xbench.models.zoo import torchvision_names
from xbench.optional import optional
from xbench.registry import Chosen
from xbench.selection import Predictions, predict

_timm = optional("timm", "install it with `pip install timm`")
_transformers = optional("transformers", "install it with `pip install transformers`")
_PROBED = 64  # images on which the input range is checked


@dataclass(frozen=True)
class Kind:
    """One way of writing a model.

    Attributes:
        spec: as written after --model.
        summary: one line.
        names: the names that can stand there, empty where anything can.
        missing: why it cannot be used here, empty if it can.
    """

    spec: str
    summary: str
    names: Sequence[str] = ()
    missing: str = ""


@dataclass(frozen=True)
class Accuracy:
    """How often the model is right.

    Attributes:
        images: images with a known label.
        unknown: images without one.
        top1, top5: shares of right answers, NaN where no label is known.
        low, high: Wilson's 95 % interval of top1.
        confidence: mean probability of the most probable class, over all images.
    """

    images: int
    unknown: int
    top1: float
    top5: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Structure:
    """What the network is made of.

    Attributes:
        architecture: class of the module.
        parameters: how many numbers it learned.
        classes: number of logits.
        input: channels, height, width that were looked at.
        last_conv: the layer that class activation maps use, None if there is none.
        spatial: names of all layers with a spatial output, in order of execution.
        kinds: how many of each class of leaf module.
        reused: modules that run more than once in one pass (rules by layer misread them).
    """

    architecture: str
    parameters: int
    classes: int
    input: tuple[int, int, int]
    last_conv: Layer | None
    spatial: Sequence[str]
    kinds: dict[str, int]
    reused: Sequence[str]


@dataclass(frozen=True)
class Support:
    """Whether a method can be right on this model; `reason` says why not."""

    method: str
    family: str
    reason: str = ""


@dataclass(frozen=True)
class Inspection:
    """Everything that `inspect_model` found."""

    model: str
    notes: Sequence[str]
    accuracy: Accuracy
    input: Sequence[Finding]
    structure: Structure
    methods: Sequence[Support]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return dataclasses.asdict(self)


def kinds() -> list[Kind]:
    """Every way of writing a model, with the names that it knows here."""
    found = []
    for spec, summary in KINDS.items():
        if spec.startswith("torchvision:"):
            found.append(Kind(spec, summary, torchvision_names()))
        elif spec.startswith("timm:"):
            reason = _timm.reason
            known = [] if reason else list(_timm.list_models())
            found.append(Kind(spec, summary, known, reason or ""))
        elif spec.startswith("hf:"):
            found.append(Kind(spec, summary, missing=_transformers.reason or ""))
        elif spec == "NAME":
            found.append(Kind(spec, summary, list(own_models())))
        else:
            found.append(Kind(spec, summary))
    return found


def inspect_model(
    model: Classifier, source: Source, methods: Sequence[Chosen[Method]] = ()
) -> Inspection:
    """Look at a model and some images; nothing is trained, changed or counted.

    Args:
        model: the classifier.
        source: images, with labels where accuracy is wanted.
        methods: whose support is asked for.
    """
    some = source.read(range(min(_PROBED, len(source))))
    return Inspection(
        model=model.name,
        notes=list(model.notes),
        accuracy=accuracy(predict(model, source)),
        input=check_input(model, some.images, some.labels),
        structure=structure(model, some.images[:1]),
        methods=supports(model, methods),
    )


def accuracy(found: Predictions) -> Accuracy:
    """Top-1 and top-5 accuracy with Wilson's interval (Wilson, JASA 1927)."""
    known = found.known
    images = int(known.sum())
    top5 = (found.top == found.labels[:, None]).any(dim=1) & known
    right = int(found.right.sum())
    low, high = wilson(right, images)
    share = right / images if images else math.nan
    return Accuracy(
        images=images,
        unknown=len(known) - images,
        top1=share,
        top5=int(top5.sum()) / images if images else math.nan,
        low=low,
        high=high,
        confidence=float(found.confidence.mean()),
    )


def wilson(right: int, images: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a share, (NaN, NaN) without images.

    >>> [round(x, 3) for x in wilson(9, 10)]
    [0.596, 0.982]
    """
    if not images:
        return math.nan, math.nan
    share, spread = right / images, z * z / images
    center = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / images + spread / (4 * images)) / (1 + spread)
    return max(0.0, center - half), min(1.0, center + half)


def structure(model: Classifier, image: Tensor) -> Structure:
    """What the network is made of, seen on one image (1, C, H, W)."""
    image = image.to(model.device)
    traced = model.trace(image)
    last = model.find_layer("last_conv", image)
    leaves = [child for child in model.module.modules() if not any(child.children())]
    counts: dict[str, int] = {}
    for child in leaves:
        counts[type(child).__name__] = counts.get(type(child).__name__, 0) + 1
    return Structure(
        architecture=type(model.module).__name__,
        parameters=sum(p.numel() for p in model.module.parameters()),
        classes=model.classes(image),
        input=(int(image.shape[1]), int(image.shape[2]), int(image.shape[3])),
        last_conv=last,
        spatial=[layer.name for layer in traced.layers if layer.grid not in ((0, 0), (1, 1))],
        kinds=counts,
        reused=[
            layer.name for layer in traced.layers if layer.calls > 1 and layer.name in traced.leaves
        ],
    )


def supports(model: Classifier, methods: Sequence[Chosen[Method]]) -> list[Support]:
    """What each method says to this model, by family and name."""
    found = []
    for chosen in methods:
        try:
            reason = chosen.value.supports(model)
        except XbenchError as error:
            reason = str(error)
        found.append(Support(chosen.label, str(chosen.card.family), reason or ""))
    return sorted(found, key=lambda support: (support.family, support.method))


__all__ = [
    "Accuracy",
    "Inspection",
    "Kind",
    "Structure",
    "Support",
    "accuracy",
    "inspect_model",
    "kinds",
    "structure",
    "supports",
    "wilson",
]
