"""Do methods say the same of an image: the table image | IoU, the matrix, and what makes it so."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import torch

from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.errors import ParameterError
from xbench.operations.selection import top_membership
from xbench.probes import plots, sheets
from xbench.probes._agreement import (
    FACTORS,
    FEW,
    factor_table,
    image_table,
    pair_table,
    pair_values,
)
from xbench.probes.contract import PROBES, Exhibit, Picture, Probe, ProbeCard, Table, Tell, silent
from xbench.probes.maps import DEFAULT_METHODS, Maps, choose, explain_all, predicted
from xbench.probes.shared import about, counted, rows_of, text_of
from xbench.statistics.intervals import mean_interval

_ONE, _OTHER, _BOTH = (0, 114, 178), (213, 94, 0), (0, 158, 115)


@PROBES.register
@dataclass(frozen=True)
class Agree(Probe):
    """Intersection over union of the top q pixels of every pair of methods, image by image.

    Attributes:
        methods: two or more, by name.
        q: share of the pixels that a map selects.
        pictures: images shown of those that agree most, and as many that agree least.
    """

    methods: str = DEFAULT_METHODS
    q: float = 0.1
    pictures: int = 3

    card: ClassVar[ProbeCard] = ProbeCard(
        name="agree",
        summary="IoU of methods' top pixels by image and pair, and what makes it high or low.",
        question="Do these methods point at the same pixels, and on which images do they not?",
        paper="after Krishna et al. 2022, The disagreement problem in explainable machine learning",
        limitations="Agreement is not truth: methods may agree and be wrong together.",
        min_images=1,
        images="two images or more tell what makes agreement high or low",
    )

    def __post_init__(self) -> None:
        if not 0 < self.q <= 1:
            raise ParameterError(
                f"q is a share of the pixels, above 0 and at most 1, not {self.q}."
            )

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        samples = self.check(samples)
        methods = choose(self.methods, least=2)
        classes, confidence = predicted(model, samples)
        found = explain_all(model, samples, methods, classes, seed=seed, tell=tell)
        if len(found.maps) < 2:
            raise ParameterError(f"Fewer than two methods run here: {found.sentences()[0]}")
        pairs = pair_values(found, samples, self.q, seed)
        table = image_table(model, samples, pairs, classes, confidence, found)
        matrix = pair_table(pairs)
        factors = factor_table(table)
        images = {
            "matrix": Picture(
                _square(matrix, list(found.maps)), f"Mean IoU of the top {self.q:.0%} pixels."
            )
        }
        images |= self._overlaps(samples, found, table)
        clouds = _clouds(table)
        if clouds:
            images["factors"] = Picture(clouds, "Mean IoU of each image against what may move it.")
        return Exhibit(
            title=f"Agreement of {len(found.maps)} methods",
            question=self.card.question,
            caption=(*_sentences(matrix, factors, table, self.q), *found.sentences()),
            images=images,
            numbers={
                "images": Table(table.drop(columns="row"), _IMAGES_CAPTION),
                "pairs": Table(matrix, "Mean IoU of every pair with its 95 % interval."),
                "factors": Table(factors, _FACTORS_CAPTION),
            },
            limits=(
                self.card.limitations,
                f"By chance two maps reach an IoU of {self.q / (2 - self.q):.3f}.",
                "Factors are correlations over few images: they show what goes together, not why, "
                "and of five factors one in four pages shows one that is clear by chance.",
            ),
            about=about(self, model, samples, seed),
        )

    def _overlaps(self, samples: Samples, found: Maps, table: pd.DataFrame) -> dict[str, Picture]:
        """What the maps select, of the images that agree most and least."""
        order = [row["row"] for row in rows_of(table) if np.isfinite(row["iou"])]
        best = order[: self.pictures]
        worst = [row for row in order[::-1][: self.pictures] if row not in best]
        images = {}
        for name, rows in (("most_agreement", best), ("least_agreement", worst)):
            if rows:
                words = name.replace("_", " ")
                picture = overlap_sheet(samples, found, table, rows, self.q)
                images[name] = Picture(picture, _overlap_caption(found, words, self.q))
        return images


_IMAGES_CAPTION = (
    "Images by mean IoU over all pairs; class of the label where it is known, confidence of the "
    "prediction, share of the image that the object covers and number of objects (where there are "
    "masks), share of the pixels that hold half of the mean map, and mean edge strength."
)
_FACTORS_CAPTION = "Spearman correlation of an image's mean IoU with what may make it high or low."


def _square(matrix: pd.DataFrame, names: list[str]) -> bytes:
    values = np.full((len(names), len(names)), np.nan)
    np.fill_diagonal(values, 1.0)
    for row in rows_of(matrix):
        i, j = names.index(row["method"]), names.index(row["other"])
        values[i, j] = values[j, i] = row["iou"]
    return plots.matrix(names, values, label="IoU")


def _clouds(table: pd.DataFrame) -> bytes | None:
    panels = {}
    for name in FACTORS:
        known = table[["iou", name]].dropna()
        if len(known) >= FEW and known[name].nunique() > 1:
            panels[name.replace("_", " ")] = (known[name].to_numpy(), known["iou"].to_numpy())
    return plots.points(panels, label="mean IoU") if panels else None


def overlap_sheet(
    samples: Samples, found: Maps, table: pd.DataFrame, rows: list[int], q: float
) -> bytes:
    """The images with what every map selects, and all selections in one picture."""
    by_row = {row["row"]: row for row in rows_of(table)}
    names = list(found.maps)
    sheet = []
    for row in rows:
        image = samples.images[row]
        count = max(1, round(q * image.shape[1] * image.shape[2]))
        chosen = [
            top_membership(found.maps[name][row][None], count)[0].view(image.shape[1:])
            for name in names
        ]
        if len(names) == 2:
            both = chosen[0] * chosen[1]
            parts = [(chosen[0], _ONE), (chosen[1], _OTHER), (both, _BOTH)]
            joined = sheets.masks(image, parts)
        else:
            joined = sheets.overlay(image, torch.stack(chosen).mean(dim=0), signed=False)
        facts = by_row[row]
        sheet.append(
            [
                sheets.Tile(
                    sheets.photo(image), f"{facts['predicted']} ({facts['confidence']:.0%})"
                ),
                *(sheets.Tile(sheets.masks(image, [(mask, _ONE)])) for mask in chosen),
                sheets.Tile(joined, f"IoU {facts['iou']:.2f}"),
            ]
        )
    return sheets.sheet(sheet, columns=["image", *names, "together"])


def _overlap_caption(found: Maps, words: str, q: float) -> str:
    names = list(found.maps)
    if len(names) == 2:
        together = f"blue {names[0]} alone, orange {names[1]} alone, green both"
    else:
        together = "the brighter, the more methods select a pixel"
    return f"Images with {words}: the top {q:.0%} pixels of each map, and together ({together})."


def _sentences(
    matrix: pd.DataFrame, factors: pd.DataFrame, table: pd.DataFrame, q: float
) -> list[str]:
    mean = mean_interval(table["iou"].to_numpy())
    pairs, images = rows_of(matrix), rows_of(table)
    said = [
        f"The methods' top {q:.0%} pixels overlap by an IoU of {text_of(mean)} on average over "
        f"{counted(len(table), 'image')} (chance: {q / (2 - q):.2f})."
    ]
    if len(pairs) > 1:
        top, last = pairs[0], pairs[-1]
        said.append(
            f"{top['method']} and {top['other']} agree most ({top['iou']:.2f}), {last['method']} "
            f"and {last['other']} least ({last['iou']:.2f})."
        )
    if len(images) > 1:
        most, least = images[0], images[-1]
        said.append(
            f"They agree most on {most['image']} ({most['iou']:.2f}) and least on "
            f"{least['image']} ({least['iou']:.2f})."
        )
    clear = [row for row in rows_of(factors) if row["low"] > 0 or row["high"] < 0]
    for row in clear:
        way = "more" if row["spearman"] > 0 else "less"
        said.append(
            f"The larger the {row['meaning']}, the {way} they agree (Spearman "
            f"{row['spearman']:+.2f}, {row['images']} images)."
        )
    if not clear:
        said.append("No factor goes clearly with agreement on these images.")
    return said
