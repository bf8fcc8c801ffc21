"""Network dissection (Bau et al. 2017): which unit of a layer answers to which concept."""

from collections.abc import Sequence

import pandas as pd
import torch
from torch import Tensor

from xbench.classifier import Classifier, Layer
from xbench.errors import ParameterError, UnsupportedError
from xbench.models.loading import load_classifier
from xbench.operations.pixels import upsample
from xbench.probes._concepts import Concepts, labeled, stacked

LARGEST = 56
_POOLED = ("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d")
_ACTIVATIONS = ("ReLU", "ReLU6", "LeakyReLU", "ELU", "GELU", "SiLU", "Hardswish", "PReLU", "CELU")


def last_layers(model: Classifier, image: Tensor, count: int) -> list[Layer]:
    """The last layers with feature maps: activations, or what has maps where there are none.

    Args:
        model: the classifier.
        image: (1, C, H, W).
        count: at most so many, in order of execution.

    Raises:
        UnsupportedError: there is none.
    """
    traced = model.trace(image)
    spatial = [
        layer
        for layer in sorted(traced.layers, key=lambda layer: layer.order)
        if layer.name in traced.leaves
        and layer.grid not in ((0, 0), (1, 1))
        and layer.kind not in _POOLED
        and layer.calls == 1
    ]
    active = [layer for layer in spatial if layer.kind in _ACTIVATIONS]
    if not spatial:
        raise UnsupportedError(f"'{model.name}' has no layer with feature maps to dissect.")
    return (active or spatial)[-count:]


def beside(names: Sequence[str], model: Classifier) -> list[Classifier]:
    """Further models for the same images.

    Args:
        names: as after --model.
        model: the first one, whose device and batch size they share.

    Raises:
        ParameterError: another input size, or a model twice.
    """
    found: list[Classifier] = []
    for spec in names:
        if spec in (model.name, *(one.name for one in found)):
            raise ParameterError(f"'{spec}' is on the page already; --beside takes other models.")
        other = load_classifier(spec, device=str(model.device), batch_size=model.batch_size)
        if other.geometry.crop != model.geometry.crop:
            raise ParameterError(
                f"'{spec}' sees {other.geometry.crop} pixels and '{model.name}' "
                f"{model.geometry.crop}; only models of one input size go on one page."
            )
        found.append(other)
    return found


def dissect(
    model: Classifier,
    layer: Layer,
    concepts: Concepts,
    share: float,
    masks: Tensor | None = None,
    chunk: int = 32,
) -> pd.DataFrame:
    """IoU of every unit with its best concept.

    A unit's threshold is the activation that it exceeds on `share` of all places of all images; its
    maps, upsampled, above the threshold are compared with the masks over all images together on
    which the concept's kind is labeled.

    Args:
        model: the classifier.
        layer: whose channels are the units.
        concepts: images with masks.
        share: of the places at which a unit counts as active.
        masks: those of the concepts at `mask_size`, if they are at hand.
        chunk: images at a time.

    Returns:
        one record a unit: unit, concept, kind, iou, and `chance`, the IoU with the best concept of
        masks that belong to other images.
    """
    images = concepts.images
    features = torch.cat(
        [
            model.activations(images[start : start + chunk].to(model.device), layer)
            for start in range(0, len(images), chunk)
        ]
    )
    names = list(concepts.masks)
    masks = stacked(concepts, mask_size(images)) if masks is None else masks
    known, order = labeled(concepts), torch.arange(len(images))
    threshold = thresholds(features, share)
    true = _ious(features, threshold, masks, known, order, chunk)
    turned = order.roll(max(1, len(order) // 2))
    chance = _ious(features, threshold, masks, known, turned, chunk)
    best = true.max(dim=1)
    constant = features.amax(dim=(0, 2, 3)) <= features.amin(dim=(0, 2, 3))
    frame = pd.DataFrame(
        {
            "unit": range(len(true)),
            "concept": [names[int(index)] for index in best.indices],
            "kind": [concepts.kinds[names[int(index)]] for index in best.indices],
            "iou": best.values.numpy(),
            "chance": chance.max(dim=1).values.numpy(),
        }
    )
    return frame[~constant.cpu().numpy()].reset_index(drop=True)


def mask_size(images: Tensor) -> tuple[int, int]:
    """The size at which maps and masks of images (N, C, H, W) are compared."""
    return min(LARGEST, int(images.shape[2])), min(LARGEST, int(images.shape[3]))


def thresholds(features: Tensor, share: float) -> Tensor:
    """The activation that each unit exceeds on a share of the places, (C,)."""
    flat = features.transpose(0, 1).flatten(1)
    place = min(flat.shape[1], max(1, round(share * flat.shape[1])))
    return flat.topk(place, dim=1).values[:, -1]


def most_active(features: Tensor, share: float, count: int) -> list[int]:
    """The images on which a unit (N, h, w) is active at most places, as `dissect` counts them."""
    active = (features >= thresholds(features[:, None], share)) & (features > features.amin())
    return active.flatten(1).sum(dim=1).topk(min(count, len(features))).indices.tolist()


def _ious(
    features: Tensor, threshold: Tensor, masks: Tensor, known: Tensor, order: Tensor, chunk: int
) -> Tensor:
    """IoU (C, K) of units above their thresholds with masks bool (N, K, h, w).

    Args:
        features: (N, C, a, b).
        threshold: (C,).
        masks: of the concepts.
        known: images on which a concept is labeled, bool (N, K); the others do not count.
        order: which image's masks each image is compared with, (N,).
        chunk: images at a time.
    """
    size = (int(masks.shape[2]), int(masks.shape[3]))
    shape = (features.shape[1], masks.shape[1])
    shared, active = torch.zeros(shape).double(), torch.zeros(shape).double()
    covered = torch.zeros(shape[1]).double()
    for start in range(0, len(features), chunk):
        part = upsample(features[start : start + chunk], size)
        on = (part >= threshold.view(1, -1, 1, 1)) & (part > part.amin())
        rows = order[start : start + chunk]
        some = (masks[rows] & known[rows, :, None, None]).to(features)
        flat = on.transpose(0, 1).flatten(1).float()
        shared += (flat @ some.transpose(0, 1).flatten(1).T).double().cpu()
        counted = on.flatten(2).sum(dim=2).double().cpu()  # places of each unit on each image
        active += counted.T @ known[rows].double()
        covered += some.sum(dim=(0, 2, 3)).double().cpu()
    union = active + covered[None] - shared
    return shared / union.clamp(min=1)


def concept_counts(units: pd.DataFrame, cut: float) -> pd.DataFrame:
    """How many units of each layer detect each concept: IoU above the cut and above chance."""
    found = units[detects(units, cut)]
    grouped = found.groupby(["model", "layer", "kind", "concept"], sort=False)
    counts = grouped.agg(units=("unit", "size"), best=("iou", "max")).reset_index()
    return counts.sort_values(["model", "layer", "units"], ascending=[True, True, False])


def detects(units: pd.DataFrame, cut: float) -> "pd.Series[bool]":
    """Whether each unit is a detector of its concept."""
    return (units["iou"] > cut) & (units["iou"] > 1.5 * units["chance"])


def layer_table(units: pd.DataFrame, cut: float, kinds: Sequence[str]) -> pd.DataFrame:
    """Units, detectors and different concepts of every layer, and detectors by kind of concept."""
    rows = []
    for (model, layer), part in units.groupby(["model", "layer"], sort=False):
        found = part[detects(part, cut)]
        row: dict[str, object] = {
            "model": model,
            "layer": layer,
            "units": len(part),
            "detectors": len(found),
            "share": len(found) / len(part),
            "concepts": found["concept"].nunique(),
        }
        row |= {kind: int((found["kind"] == kind).sum()) for kind in kinds}
        row |= {"mean_iou": float(part["iou"].mean()), "chance": float(part["chance"].mean())}
        rows.append(row)
    return pd.DataFrame(rows)
