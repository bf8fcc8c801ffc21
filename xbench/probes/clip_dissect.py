"""CLIP-Dissect: units in words, by a joint image-text model instead of masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor

from xbench import names
from xbench.classifier import Classifier, Layer
from xbench.contracts import Samples
from xbench.errors import ParameterError, UnsupportedError
from xbench.models.encoders import Encoder, load_encoder
from xbench.probes._concepts import PLAIN, TEXTURES, opened, scenes
from xbench.probes._described import image_names, layer_table, pictures, sentences, word_counts
from xbench.probes._describing import Matching, chance_lift, describe, read_words, summaries
from xbench.probes._dissection import beside, last_layers
from xbench.probes._edits import SHAPES
from xbench.probes.contract import PROBES, Exhibit, Probe, ProbeCard, Table, Tell, silent
from xbench.probes.shared import about
from xbench.streams import Streams

LEAST = 8
_LIMITS = (
    "A word describes the images on which a unit is active most, as the joint image-text model "
    "sees them: it does not say where in the image the unit looks, nor what it ignores.",
    "Only words of the list can be found, and only what the probing images show: with few images "
    "or another kind of images other words are best.",
    "By chance alone up to one unit in twenty is called described: there the line is drawn.",
    "The joint image-text model has mistakes and habits of its own; they pass into the words.",
)


@PROBES.register
@dataclass(frozen=True)
class ClipDissect(Probe):
    """The word of a list that describes best the images on which a unit is active most.

    Attributes:
        clip: the joint image-text model, `open_clip:ARCHITECTURE` or `PATH.py:FUNCTION`.
        clip_weights: file of its weights, for open_clip.
        concepts: a text file with one concept a line; "planted" for the names of shapes, colors
            and textures.
        images: the probing images: "planted" for generated scenes, "given" for the images handed
            over, or a data set that is read, such as `images:DIR`.
        limit: so many of them.
        layers: the last so many layers with feature maps.
        similarity, top, sharpness, weight: see `Matching`.
        beside: further models, separated by commas, on the same images.
    """

    clip: str = ""
    clip_weights: str = ""
    concepts: str = "planted"
    images: str = "planted"
    limit: int = 96
    layers: int = 5
    similarity: str = "softwpmi"
    top: int = 100
    sharpness: float = 10.0
    weight: float = 1.0
    beside: str = ""

    card: ClassVar[ProbeCard] = ProbeCard(
        name="clip_dissect",
        summary="Units of the last layers in words, by a joint image-text model; no masks needed.",
        question="Which words describe the images on which single units are active most?",
        paper="Oikarinen and Weng 2023, CLIP-Dissect",
        min_images=0,
        images="any images for images=given; none are needed for planted ones",
    )

    def __post_init__(self) -> None:
        if not self.clip:
            raise ParameterError(
                "Give a joint image-text model: open_clip:ARCHITECTURE with weights, or "
                "PATH.py:FUNCTION."
            )
        if self.layers < 1 or self.limit < LEAST:
            raise ParameterError(
                f"layers is at least 1, and limit (probing images) at least {LEAST}."
            )
        _ = self.matching  # a wrong parameter is told before anything is loaded

    @property
    def matching(self) -> Matching:
        """How units and words are compared."""
        return Matching(self.similarity, self.top, self.sharpness, self.weight)

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        words = self._words()
        weights = Path(self.clip_weights) if self.clip_weights else None
        encoder = load_encoder(self.clip, weights, model.device)
        models = [model, *beside(names.split(self.beside), model)]
        probed = self._probed(model, samples, seed)
        cosines = _cosines(encoder, probed, words, tell)
        draws = Streams(seed=seed, image_ids=["units"], scope="clip_dissect")
        chance = chance_lift(cosines, self.matching, draws.generator(0, "chance"))
        parts = []
        for one in models:
            for layer in last_layers(one, probed.images[:1].to(one.device), self.layers):
                activations = _summarized(one, layer, probed, tell)
                found = describe(cosines, activations, words, self.matching, chance)
                found.insert(0, "layer", layer.name)
                found.insert(0, "model", one.name)
                parts.append(found)
        units = pd.concat([part for part in parts if "unit" in part] or [pd.DataFrame()])
        if units.empty:
            raise UnsupportedError("No unit of these layers changes from image to image.")
        units = units.reset_index(drop=True)
        units["images"] = image_names(probed, units["top"].tolist())
        table = layer_table(units)
        shown = units.drop(columns="top").sort_values(
            ["described", "lift"], ascending=False, ignore_index=True
        )
        numbers = {
            "layers": Table(table, _LAYERS),
            "units": Table(shown, _UNITS_CAPTION, shown=20),
        }
        counts = word_counts(units)
        if len(counts):
            numbers["concepts"] = Table(counts, "Units that each word describes, by layer.")
        counted = self.matching.counted(len(probed))
        return Exhibit(
            title=f"Units of {', '.join(one.name for one in models)} in words",
            question=self.card.question,
            caption=tuple(sentences(units, table, len(words), counted)),
            images=pictures(units, table, counts, probed),
            numbers=numbers,
            limits=_LIMITS,
            about=about(
                self,
                model,
                probed,
                seed,
                encoder={"name": encoder.name, "file": encoder.digest, "notes": encoder.notes},
                concepts=words,
            ),
        )

    def _words(self) -> list[str]:
        if self.concepts == "planted":
            return [*SHAPES, *PLAIN, "dark", "bright", *TEXTURES]
        return read_words(Path(self.concepts))

    def _probed(self, model: Classifier, samples: Samples, seed: int) -> Samples:
        """The probing images."""
        if self.images == "given":
            if len(samples) < LEAST:
                raise ParameterError(f"images=given needs {LEAST} images, not {len(samples)}.")
            return samples
        if self.images != "planted":
            read, _, _ = opened(self.images, "--images", model, self.limit, seed)
            if len(read) < LEAST:
                raise ParameterError(f"'{self.images}' has {len(read)} images; {LEAST} are needed.")
            return read
        height, width = model.geometry.crop or (64, 64)
        made = scenes(self.limit, height, width, model.geometry.channels, seed).images
        ids = [f"scene {number}" for number in range(len(made))]
        return Samples(images=made, labels=torch.full((len(ids),), -1), ids=ids)


_LAYERS = (
    "Layers in order: units that change; those whose best word has a lift above chance, which is "
    "what the best word reaches on random images in 95 % of the draws; different words among them."
)
_UNITS_CAPTION = (
    "Every unit with its best and second best word and their similarity (higher is better), the "
    "lift of the best word (by how many standard deviations its cosine is higher on the unit's top "
    "images than on all), and the first of these images."
)


def _cosines(encoder: Encoder, probed: Samples, words: list[str], tell: Tell) -> Tensor:
    """The concept-activation matrix P, (N, M)."""
    tell(0, len(probed), f"{encoder.name} encodes")

    def told(done: int) -> None:
        tell(done, len(probed), f"{encoder.name} encodes")

    texts, images = encoder.texts(words), encoder.images(probed.images, told)
    if texts.shape[1] != images.shape[1]:
        raise ParameterError(
            f"{encoder.name} gives {images.shape[1]} numbers an image and {texts.shape[1]} a text; "
            "they must lie in one space."
        )
    return images @ texts.T


def _summarized(model: Classifier, layer: Layer, probed: Samples, tell: Tell) -> Tensor:
    """The activations of a layer, told image by image."""
    what = f"{model.name} {layer.name}"
    tell(0, len(probed), what)
    return summaries(model, layer, probed.images, lambda done: tell(done, len(probed), what))
