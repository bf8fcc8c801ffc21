"""The small classifiers of planted scenes that come with the package, and their weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from xbench.classifier import Classifier, Normalization
from xbench.contracts import Geometry
from xbench.errors import ModelError, UnknownNameError
from xbench.models.built import Built
from xbench.models.checkpoints import fit_weights, read_checkpoint
from xbench.optional import seeded

WEIGHTS: Final = Path(__file__).parent / "weights"
NORMALIZATION: Final = Normalization((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
GEOMETRY: Final = Geometry(crop=(64, 64), resize=64)
CLASSES: Final = 8

VARIANTS: Final = {
    "reference": "trained on planted scenes; it can only know the target's shape",
    "reference-shortcut": "trained where a watermark tells the class as well; it reads the mark",
    "reference-twin": "trained on permuted labels until it knew them by heart",
    "reference-masked": "the reference, trained on with random parts of the images removed",
}

SIBLINGS: Final = tuple(name for name in VARIANTS if name != "reference")


class ReferenceNet(nn.Module):
    """Five 3x3 convolutions with batch norm and ReLU, global average pooling, a linear head.

    Pooling halves the first three stages, so the last convolution works at an eighth of the
    input's size. 191 064 parameters with the default widths.

    Args:
        classes: number of logits.
        widths: channels of the five convolutions.
    """

    def __init__(
        self, classes: int = CLASSES, widths: tuple[int, ...] = (16, 32, 64, 96, 128)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
            layers += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
            if stage < 3:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of normalized images (N, 3, H, W)."""
        logits: Tensor = self.head(torch.flatten(self.pool(self.features(images)), 1))
        return logits


@dataclass(frozen=True)
class ReferenceCard:
    """What is known of one shipped network.

    Attributes:
        name: the variant.
        summary: one line.
        class_names: by class index.
        training: how it was trained (data, seed, epochs).
        accuracy: share of right answers by data set or question.
    """

    name: str
    summary: str
    class_names: tuple[str, ...]
    training: dict[str, Any]
    accuracy: dict[str, float]


def weights_path(variant: str) -> Path:
    """Where the weights of a variant lie (whether or not they are there).

    Raises:
        UnknownNameError: no such variant.
    """
    if variant not in VARIANTS:
        raise UnknownNameError(
            f"There is no shipped network '{variant}'; there are {', '.join(VARIANTS)}."
        )
    return WEIGHTS / f"{variant}.safetensors"


def reference_module(variant: str = "reference", *, weights: Path | None = None) -> nn.Module:
    """A shipped network with its weights, in eval mode; it expects normalized images.

    Args:
        variant: one of `VARIANTS`.
        weights: another file of weights than the shipped one.

    Raises:
        UnknownNameError: no such variant.
        ModelError: the weights are missing, broken, or of another network.
    """
    network = ReferenceNet()
    path = weights or weights_path(variant)
    tensors, _ = read_checkpoint(path)
    fit_weights(network, tensors, path, variant)
    return network.eval()


def reference_card(variant: str = "reference") -> ReferenceCard:
    """The card that lies beside the weights of a variant.

    Raises:
        UnknownNameError: no such variant.
        ModelError: the card is missing or broken.
    """
    path = weights_path(variant).with_suffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["class_names"] = tuple(content["class_names"])
        return ReferenceCard(**content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"The card of '{variant}' cannot be read from {path}.") from error


def build_reference(variant: str, weights: Path | None = None) -> Built:
    """A shipped network, for `--model reference` and its siblings.

    Raises:
        UnknownNameError, ModelError: see `reference_module`.
    """
    return Built(
        reference_module(variant, weights=weights),
        normalization=NORMALIZATION,
        geometry=GEOMETRY,
        class_names=reference_card(variant).class_names,
        masked_training=variant == "reference-masked",
    )


def reference_classifier(
    variant: str = "reference",
    *,
    device: torch.device | str = "cpu",
    batch_size: int | None = None,
    weights: Path | None = None,
) -> Classifier:
    """A shipped network as the suite uses it, with normalization, geometry and class names.

    Args:
        variant: one of `VARIANTS`.
        device: where it runs.
        batch_size: rows a call; None measures the fastest.
        weights: another file of weights than the shipped one.
    """
    with seeded(0):
        built = build_reference(variant, weights)
    return Classifier(
        built.module,
        name=variant,
        normalization=built.normalization,
        geometry=built.geometry,
        class_names=built.class_names,
        device=device,
        batch_size=batch_size,
        own=True,
    )
