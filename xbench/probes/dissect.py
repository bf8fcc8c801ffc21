"""Network dissection: which unit answers to which shape, color or texture, layer by layer."""

from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch

from xbench import names
from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.errors import ParameterError
from xbench.models.loading import load_classifier
from xbench.operations.pixels import upsample
from xbench.probes import plots, sheets
from xbench.probes._concepts import Concepts, concepts_of, scenes
from xbench.probes._dissection import (
    concept_counts,
    detects,
    dissect,
    last_layers,
    layer_table,
    thresholds,
)
from xbench.probes.contract import PROBES, Exhibit, Picture, Probe, ProbeCard, Table, Tell, silent
from xbench.probes.shared import about, rows_of

_KINDS = ("shape", "color", "texture", "object")
_SHOWN = 8
_LIMITS = (
    "A unit that overlaps with a concept answers where the concept is; it may answer to something "
    "else that comes with it.",
    "Only concepts that have masks can be found: a unit without one may answer to any other thing.",
    "The cut of 0.04 is that of Bau et al.; chance is the best overlap with the masks of other "
    "images, and a detector must be half as much above it, too.",
)


@PROBES.register
@dataclass(frozen=True)
class Dissect(Probe):
    """IoU of every unit's strongest places with the masks of concepts.

    Attributes:
        concepts: "planted" for generated scenes of shapes, colors and textures; "images" for what
            the given images have: labels with masks, further masks, colors of pixels.
        scenes: number of generated scenes.
        layers: the last so many layers with feature maps.
        cut: IoU above which a unit is a detector.
        share: of the places at which a unit counts as active.
        beside: further models, separated by commas, dissected on the same images.
    """

    concepts: str = "planted"
    scenes: int = 96
    layers: int = 5
    cut: float = 0.04
    share: float = 0.01
    beside: str = ""

    card: ClassVar[ProbeCard] = ProbeCard(
        name="dissect",
        summary="Which unit of the last layers answers to which shape, color or texture.",
        question="Which concepts do single units answer to, and in which layers?",
        paper="Bau et al. 2017, Network dissection",
        min_images=0,
        images="images with masks for concepts=images; none are needed for planted ones",
    )

    def __post_init__(self) -> None:
        if self.concepts not in ("planted", "images"):
            raise ParameterError(f"concepts is planted or images, not '{self.concepts}'.")
        if self.layers < 1 or self.scenes < 8:
            raise ParameterError("layers is at least 1, and scenes at least 8.")
        if not (0 < self.share < 1 and 0 <= self.cut < 1):
            raise ParameterError("share lies between 0 and 1, and cut from 0 up to 1.")

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        concepts = self._concepts(model, samples, seed)
        models = [model, *(self._other(spec, model) for spec in names.split(self.beside))]
        parts, total = [], len(models) * self.layers
        for place, one in enumerate(models):
            layers = last_layers(one, concepts.images[:1].to(one.device), self.layers)
            for number, layer in enumerate(layers):
                tell(place * self.layers + number, total, f"{one.name} {layer.name}")
                found = dissect(one, layer, concepts, self.share)
                found.insert(0, "layer", layer.name)
                found.insert(0, "model", one.name)
                parts.append(found)
        tell(total, total, "dissected")
        units = pd.concat(parts, ignore_index=True)
        units["detector"] = detects(units, self.cut)
        counts = concept_counts(units, self.cut)
        table = layer_table(units, self.cut, [k for k in _KINDS if k in concepts.kinds.values()])
        numbers = {
            "layers": Table(table, "Layers in order: units, detectors and their kinds of concept."),
            "units": Table(
                units.sort_values("iou", ascending=False, ignore_index=True),
                "Every unit with its best concept; chance is the IoU with masks of other images.",
                shown=20,
            ),
        }
        if len(counts):
            numbers["concepts"] = Table(counts, "Units that detect each concept, by layer.")
        return Exhibit(
            title=f"Dissection of {', '.join(one.name for one in models)}",
            question=self.card.question,
            caption=tuple(_sentences(units, table)),
            images=self._pictures(model, concepts, units, table),
            numbers=numbers,
            limits=_LIMITS,
            about=about(self, model, samples, seed, concepts=concepts.kinds),
        )

    def _concepts(self, model: Classifier, samples: Samples, seed: int) -> Concepts:
        if self.concepts == "images":
            if len(samples) == 0:
                raise ParameterError("concepts=images needs images; give a data set with masks.")
            return concepts_of(samples, model.class_names)
        crop = model.geometry.crop
        if len(samples):
            crop = (int(samples.images.shape[2]), int(samples.images.shape[3]))
        height, width = crop or (64, 64)
        return scenes(self.scenes, height, width, model.geometry.channels, seed)

    def _other(self, spec: str, model: Classifier) -> Classifier:
        other = load_classifier(spec, device=str(model.device), batch_size=model.batch_size)
        if other.geometry.crop != model.geometry.crop:
            raise ParameterError(
                f"'{spec}' sees {other.geometry.crop} pixels and '{model.name}' "
                f"{model.geometry.crop}; only models of one input size go on one page."
            )
        return other

    def _pictures(
        self, model: Classifier, concepts: Concepts, units: pd.DataFrame, table: pd.DataFrame
    ) -> dict[str, Picture]:
        images = {}
        kinds = [kind for kind in _KINDS if kind in table.columns]
        for place, (name, part) in enumerate(table.groupby("model", sort=False)):
            panels = {
                row["layer"]: units[(units["model"] == name) & (units["layer"] == row["layer"])][
                    "iou"
                ].to_numpy()
                for row in rows_of(part)
            }
            ending = "" if place == 0 else f"_{place + 1}"
            images[f"histograms{ending}"] = Picture(
                plots.histograms(panels, label="IoU with the best concept", mark=self.cut),
                f"{name}: IoU of the units of each layer with their best concept; the line is the "
                "cut.",
            )
            images[f"kinds{ending}"] = Picture(
                plots.stacked(
                    part["layer"].tolist(),
                    {kind: part[kind].tolist() for kind in kinds},
                    label="detectors",
                ),
                f"{name}: detectors of each layer by kind of concept.",
            )
        images["concepts"] = Picture(
            sheets.columns_of(_examples(concepts), 8), "The concepts, each on one of the images."
        )
        shown = units[(units["model"] == model.name) & units["detector"]]
        if len(shown):
            images["units"] = Picture(
                _unit_sheet(model, concepts, shown, self.share),
                f"The clearest unit of each concept in {model.name}: the images on which it is "
                "active most, where it answers, and whether the concept is in the image.",
            )
        return images


def _examples(concepts: Concepts) -> dict[str, sheets.Tile]:
    tiles = {}
    for name, mask in concepts.masks.items():
        row = int(mask.flatten(1).sum(dim=1).argmax())
        picture = sheets.masks(concepts.images[row], [(mask[row].float(), (0, 158, 115))])
        tiles[f"{name} ({concepts.kinds[name]})"] = sheets.Tile(picture)
    return tiles


def _unit_sheet(model: Classifier, concepts: Concepts, units: pd.DataFrame, share: float) -> bytes:
    """A row a concept: its clearest unit on the four images on which it is active most."""
    best = units.sort_values("iou", ascending=False).drop_duplicates("concept").head(_SHOWN)
    lines, heads = [], []
    for row in rows_of(best):
        layer = model.layer(str(row["layer"]), concepts.images[:1])
        every = model.activations(concepts.images.to(model.device), layer)
        features = every[:, int(row["unit"])]
        active = features >= thresholds(features[:, None], share)
        top = active.flatten(1).sum(dim=1).topk(min(4, len(features))).indices.cpu()
        size = (int(concepts.images.shape[2]), int(concepts.images.shape[3]))
        maps = upsample(features[top.to(features.device)], size).cpu()
        line = []
        for place, image in enumerate(top.tolist()):
            picture = sheets.overlay(concepts.images[image], maps[place], signed=False)
            line.append(sheets.Tile(sheets.photo(concepts.images[image])))
            mask = concepts.masks[str(row["concept"])][image]
            line.append(sheets.Tile(picture, "here" if bool(mask.any()) else "not here"))
        lines.append(line)
        heads.append(f"{row['concept']} unit {row['unit']} of {row['layer']} IoU {row['iou']:.2f}")
    return sheets.sheet(lines, names=heads, side=110)


def _sentences(units: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    said = []
    for name, part in table.groupby("model", sort=False):
        rows: list[dict[str, Any]] = rows_of(part)
        best = max(rows, key=lambda row: row["share"])
        total = sum(row["detectors"] for row in rows)
        said.append(
            f"{name}: {total} of {sum(row['units'] for row in rows)} units in the last "
            f"{len(rows)} layers detect a concept, most in {best['layer']} ({best['share']:.0%})."
        )
        for kind in ("color", "shape", "texture"):
            if kind in part and int(part[kind].sum()):
                shares = [row[kind] / row["units"] for row in rows]
                said.append(
                    f"Detectors of a {kind}, from the first to the last of these layers: "
                    f"{', '.join(f'{share:.0%}' for share in shares)} of the units "
                    f"({_trend(shares)})."
                )
        found = units[(units["model"] == name) & units["detector"]]
        if len(found):
            first = rows_of(found.sort_values("iou", ascending=False).head(1))[0]
            said.append(
                f"The clearest unit is {first['unit']} of {first['layer']}: {first['concept']}, "
                f"IoU {first['iou']:.2f} (chance {first['chance']:.2f})."
            )
    return said


def _trend(shares: list[float]) -> str:
    order = torch.tensor(shares)
    if len(shares) < 2 or bool((order == order[0]).all()):
        return "no trend"
    peak = int(order.argmax())
    if peak == len(shares) - 1:
        return "they rise to the end"
    return "they fall" if peak == 0 else f"most in the layer {peak + 1} of {len(shares)}"
