"""Network dissection: which unit answers to which shape, color or texture, layer by layer."""

from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from xbench import names
from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.errors import DataError, ParameterError, UnsupportedError
from xbench.probes._concepts import Concepts, concepts_of, opened, scenes, stacked
from xbench.probes._dissected import (
    color_table,
    kinds_of,
    layer_pictures,
    sentences,
    unit_pictures,
)
from xbench.probes._dissection import (
    beside,
    concept_counts,
    detects,
    dissect,
    last_layers,
    layer_table,
    mask_size,
)
from xbench.probes.contract import PROBES, Exhibit, Probe, ProbeCard, Table, Tell, silent
from xbench.probes.shared import about

LEAST = 4
"""Images with which shares of places mean anything."""
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
            the given images have: labels with masks, further masks, colors of pixels; or a data
            set that is read for them, such as `broden:DIR` or `voc:DIR`.
        scenes: number of generated scenes, or of images of the data set.
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
        if self.layers < 1 or self.scenes < LEAST:
            raise ParameterError(f"layers is at least 1, and scenes (--limit) at least {LEAST}.")
        if not (0 < self.share < 1 and 0 <= self.cut < 1):
            raise ParameterError("share lies between 0 and 1, and cut from 0 up to 1.")

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        models = [model, *beside(names.split(self.beside), model)]
        concepts, samples = self._concepts(model, samples, seed)
        if not concepts.masks:
            raise DataError("There is no concept on these images; give more of them.")
        masks = stacked(concepts, mask_size(concepts.images))
        parts, total = [], len(models) * self.layers
        for place, one in enumerate(models):
            layers = last_layers(one, concepts.images[:1].to(one.device), self.layers)
            for number, layer in enumerate(layers):
                tell(place * self.layers + number, total, f"{one.name} {layer.name}")
                found = dissect(one, layer, concepts, self.share, masks)
                found.insert(0, "layer", layer.name)
                found.insert(0, "model", one.name)
                parts.append(found)
        tell(total, total, "dissected")
        units = pd.concat(parts, ignore_index=True)
        if units.empty:
            raise UnsupportedError("No unit of these layers changes from place to place.")
        units["detector"] = detects(units, self.cut)
        counts = concept_counts(units, self.cut)
        table = layer_table(units, self.cut, kinds_of(concepts))
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
        colors = color_table(units, table)
        if len(colors):
            numbers["colors"] = Table(colors, "Units of each layer that detect each color.")
        return Exhibit(
            title=f"Dissection of {', '.join(one.name for one in models)}",
            question=self.card.question,
            caption=tuple(sentences(units, table)),
            images={
                **layer_pictures(units, table, self.cut),
                **unit_pictures(model, concepts, units, self.share),
            },
            numbers=numbers,
            limits=_LIMITS,
            about=about(self, model, samples, seed, concepts=concepts.kinds),
        )

    def _concepts(self, model: Classifier, samples: Samples, seed: int) -> tuple[Concepts, Samples]:
        """The concepts, and the images that they are on."""
        if self.concepts == "images":
            if len(samples) == 0:
                raise ParameterError("concepts=images needs images; give a data set with masks.")
            return concepts_of(samples, model.class_names), samples
        if self.concepts != "planted":
            read, drawn, labels = opened(self.concepts, "--concepts", model, self.scenes, seed)
            return concepts_of(read, labels, drawn), read
        crop = model.geometry.crop
        if len(samples):
            crop = (int(samples.images.shape[2]), int(samples.images.shape[3]))
        height, width = crop or (64, 64)
        return scenes(self.scenes, height, width, model.geometry.channels, seed), samples
