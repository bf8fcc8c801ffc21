"""One image before and after an edit, as numbers, pictures and sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.operations.imputers import mean_color
from xbench.probes import plots, sheets
from xbench.probes._edits import Edit
from xbench.probes.maps import Maps, class_name
from xbench.probes.shared import rows_of

BARS = 15


@dataclass(frozen=True)
class Scene:
    """An image, its edit, and what the model says of both.

    Attributes:
        model: the classifier.
        samples: the one image.
        edit: what was changed.
        images: before and after, (2, C, H, W).
        mask: the pixels that changed, bool (H, W).
        logits: before and after, (2, K).
        classes: the most probable classes before.
    """

    model: Classifier
    samples: Samples
    edit: Edit
    images: Tensor
    mask: Tensor
    logits: Tensor
    classes: list[int]

    @property
    def probabilities(self) -> Tensor:
        """Before and after, (2, K)."""
        return self.logits.softmax(dim=1)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.images.shape[2]), int(self.images.shape[3])


def make_scene(model: Classifier, samples: Samples, edit: Edit, top: int) -> Scene:
    """Edit the image and ask the model."""
    image = samples.images[0]
    images = torch.stack([image, edit.apply(image, mean_color(model))])
    logits = model.logits(images.to(model.device)).cpu()
    classes = logits[0].topk(min(top, logits.shape[1])).indices.tolist()
    mask = edit.mask(image.shape[1], image.shape[2])
    return Scene(model, samples, edit, images, mask, logits, classes)


def probability_table(scene: Scene) -> pd.DataFrame:
    """The most probable classes before or after, most probable first."""
    chance = scene.probabilities.double()
    order = chance.amax(dim=0).topk(min(BARS, chance.shape[1])).indices.tolist()
    return pd.DataFrame(
        {
            "class": [class_name(scene.model, index) for index in order],
            "before": chance[0, order].numpy(),
            "after": chance[1, order].numpy(),
            "score_before": scene.logits[0, order].double().numpy(),
            "score_after": scene.logits[1, order].double().numpy(),
        }
    )


def mass_table(scene: Scene, found: Maps) -> pd.DataFrame:
    """Where the mass of every map lies, before and after."""
    count = len(scene.classes)
    inside = scene.mask.double()
    rows = []
    for label, maps in found.maps.items():
        for place, index in enumerate(scene.classes):
            before, after = maps[place].double(), maps[count + place].double()
            largest = float(before.abs().max())
            outside = float(((after - before).abs() * (1 - inside)).max())
            rows.append(
                {
                    "method": label,
                    "class": class_name(scene.model, index),
                    "inside_before": _share(before, inside),
                    "inside_after": _share(after, inside),
                    "area": float(inside.mean()),
                    "foretold": float((before * inside).sum()),
                    "score_fell": float(scene.logits[0, index] - scene.logits[1, index]),
                    "change_outside": outside / largest if largest else float("nan"),
                }
            )
    return pd.DataFrame(rows)


def _share(values: Tensor, inside: Tensor) -> float:
    total = float(values.abs().sum())
    return float((values.abs() * inside).sum()) / total if total else float("nan")


def edit_sheet(scene: Scene) -> bytes:
    """Before, after, and the pixels that changed."""
    before, after = (sheets.photo(image) for image in scene.images)
    changed = sheets.masks(scene.images[1], [(scene.mask, (213, 94, 0))])
    tiles = []
    for picture, row in ((before, 0), (after, 1)):
        confidence, index = scene.probabilities[row].max(dim=0)
        text = f"{class_name(scene.model, int(index))} ({float(confidence):.0%})"
        tiles.append(sheets.Tile(picture, text))
    return sheets.sheet(
        [[*tiles, sheets.Tile(changed)]], columns=["before", "after", "the edit"], side=220
    )


def map_sheet(scene: Scene, found: Maps) -> bytes:
    """Maps before and after: a row a class, two columns a method."""
    count = len(scene.classes)
    lines = []
    for place in range(count):
        line = []
        for label, maps in found.maps.items():
            for step in range(2):
                drawn = sheets.overlay(
                    scene.images[step], maps[step * count + place], signed=found.signed[label]
                )
                line.append(sheets.Tile(sheets.framed(drawn, scene.edit.box)))
        lines.append(line)
    titles = [f"{label}, {when}" for label in found.maps for when in ("before", "after")]
    names = [class_name(scene.model, index) for index in scene.classes]
    return sheets.sheet(lines, columns=titles, names=names, side=130)


def clouds(edits: pd.DataFrame, labels: Sequence[str]) -> bytes:
    """What each map foretold against how far the score fell, for the first class."""
    first = edits[edits["class"] == edits["class"].iloc[0]]
    y = first["score_fell"].to_numpy()
    panels = {f"sum of {label}": (first[label].to_numpy(), y) for label in labels}
    return plots.points(panels, label=f"score of {first['class'].iloc[0][:24]} fell by")


def sentences(
    scene: Scene, bars: pd.DataFrame, masses: pd.DataFrame, foretold: pd.DataFrame
) -> list[str]:
    """What was found, in words."""
    chance = scene.probabilities
    before, after = int(chance[0].argmax()), int(chance[1].argmax())
    name = class_name(scene.model, before)
    said = [
        f"The edit ({scene.edit.kind}, {float(scene.mask.double().mean()):.1%} of the image) moves "
        f"the probability of {name} from {float(chance[0, before]):.1%} to "
        f"{float(chance[1, before]):.1%} and its raw score by "
        f"{float(scene.logits[1, before] - scene.logits[0, before]):+.2f}; "
        + (
            "the prediction stays."
            if before == after
            else f"the model now says {class_name(scene.model, after)} "
            f"({float(chance[1, after]):.1%})."
        )
    ]
    top = [row for row in rows_of(masses) if row["class"] == name]
    told = ", ".join(
        f"{row['method']} {row['inside_before']:.1%} before and {row['inside_after']:.1%} after"
        for row in top
        if np.isfinite(row["inside_before"]) and np.isfinite(row["inside_after"])
    )
    if told:
        said.append(f"Mass of the maps for {name} inside the edit: {told}.")
    ranked = [row for row in rows_of(foretold) if row["class"] == name]
    ranked = [row for row in ranked if np.isfinite(row["spearman"])]
    if ranked:
        ranked.sort(key=lambda row: -row["spearman"])
        listed = ", ".join(
            f"{row['method']} {row['spearman']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
            for row in ranked
        )
        said.append(
            f"Over {ranked[0]['draws']} random edits of that kind the maps foretell the fall of "
            f"the score of {name} with a rank correlation of: {listed}."
        )
    return said
