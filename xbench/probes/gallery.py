"""A gallery: the image, its top probabilities, and maps of methods for the top classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch

from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.errors import ParameterError
from xbench.explaining import predictions
from xbench.probes import sheets
from xbench.probes.contract import (
    PROBES,
    Exhibit,
    Picture,
    Probe,
    ProbeCard,
    Table,
    Tell,
    pick,
    silent,
)
from xbench.probes.maps import DEFAULT_METHODS, Maps, choose, class_name, explain_all, spread_of
from xbench.probes.shared import about, counted
from xbench.reading import Reading, read_reading
from xbench.report.pictures import Look, gallery_file

_LIMITS = (
    "Pictures show where a map is strong, not whether it is right; colors of maps with scales of "
    "their own cannot be compared.",
)


@PROBES.register
@dataclass(frozen=True)
class Gallery(Probe):
    """Maps of several methods for the most probable classes of every image.

    Attributes:
        methods: by name.
        top: explain so many of the most probable classes.
        bars: probabilities shown.
        reading: how maps are read, for example `sign=absolute,cap=99,times_input=true`.
        scale: "own" gives every map a scale of its own, "shared" one a method and image.
    """

    methods: str = DEFAULT_METHODS
    top: int = 3
    bars: int = 15
    reading: str = ""
    scale: str = "own"

    card: ClassVar[ProbeCard] = ProbeCard(
        name="gallery",
        summary="The image, its top probabilities, and maps of methods for the top classes.",
        question="What do these methods say of these images?",
    )

    def __post_init__(self) -> None:
        if self.top < 1 or self.bars < 1:
            raise ParameterError("top and bars are numbers of at least 1.")
        Look(self.scale)

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        samples = self.check(samples)
        return self.exhibit(self.pages(model, samples, seed, tell), model, samples, seed)

    def pages(self, model: Classifier, samples: Samples, seed: int, tell: Tell) -> list["Page"]:
        """One page an image."""
        read, pages = read_reading(self.reading), []
        for row in range(len(samples)):
            tell(row, len(samples), samples.ids[row])
            pages.append(draw(model, pick(samples, [row]), self, seed, read))
        tell(len(samples), len(samples), "drawn")
        return pages

    def exhibit(
        self, pages: Sequence["Page"], model: Classifier, samples: Samples, seed: int
    ) -> Exhibit:
        """The pages as one exhibit."""
        refused: dict[str, str] = {}
        for page in pages:
            refused |= dict(page.found.refused)
        look = pages[0].look
        return Exhibit(
            title=f"Gallery of {counted(len(pages), 'image')}",
            question=self.card.question,
            caption=(
                f"{counted(len(pages), 'image')}, {counted(len(pages[0].found.maps), 'method')}, "
                f"the {self.top} most probable classes of each; maps are read "
                f"{look.reading or 'as they are'}, {look.words}.",
                *(f"{label} gave no maps: {reason}" for label, reason in refused.items()),
            ),
            images={
                f"image{number}": Picture(
                    page.file("png"),
                    f"{page.samples.ids[0]}: {page.bars[0][0]} ({page.bars[0][1]:.1%}).",
                )
                for number, page in enumerate(pages, start=1)
            },
            numbers={
                "maps": Table(pd.DataFrame([row for page in pages for row in page.rows]), _CAPTION)
            },
            limits=_LIMITS,
            about=about(self, model, samples, seed),
        )


_CAPTION = (
    "Every map: its class with the probability, its range, and the share of its mass above 0."
)


@dataclass(frozen=True)
class Page:
    """One image with its maps, ready to be drawn.

    Attributes:
        samples: the one image.
        bars: class names and probabilities, most probable first.
        classes: names of the explained classes.
        found: maps of every method, one a class.
        look: scale and reading.
        rows: one record a map.
    """

    samples: Samples
    bars: list[tuple[str, float]]
    classes: list[str]
    found: Maps
    look: Look
    rows: list[dict[str, object]]

    def file(self, kind: str) -> bytes:
        """The page as a file: "png" or "pdf"."""
        count = len(self.classes)
        maps: dict[str, list[object]] = {
            label: [one.numpy() for one in stack] for label, stack in self.found.maps.items()
        }
        maps |= {label: [reason] * count for label, reason in self.found.refused.items()}
        image = self.samples.images[0].permute(1, 2, 0).numpy()
        signed = {**dict.fromkeys(self.found.refused, False), **self.found.signed}
        return gallery_file(image, self.bars, self.classes, (maps, signed), self.look, kind)

    def raw(self) -> dict[str, bytes]:
        """Every map alone as a PNG of its own pixels, by method and class."""
        return {
            f"{label} {name}": sheets.png(
                sheets.heat(self.found.maps[label][place], signed=self.found.signed[label])
            )
            for label in self.found.maps
            for place, name in enumerate(self.classes)
        }


def draw(model: Classifier, one: Samples, probe: Gallery, seed: int, read: Reading) -> Page:
    """Explain one image for its most probable classes."""
    prediction = predictions(model, one.images, probe.bars)[0]
    order = prediction.probabilities.topk(min(probe.top, len(prediction.probabilities)))
    classes = order.indices.tolist()
    methods = [read.pooled(method) for method in choose(probe.methods)]
    repeated = spread_of(one, len(classes))
    found = explain_all(model, repeated, methods, torch.tensor(classes), seed=seed)
    kept = {label: read(maps, repeated.images) for label, maps in found.maps.items()}
    signed = {label: found.signed[label] and read.sign == "signed" for label in kept}
    names = [class_name(model, index) for index in classes]
    rows = []
    for label, maps in kept.items():
        for place, name in enumerate(names):
            values = maps[place].double()
            mass = float(values.abs().sum())
            rows.append(
                {
                    "image": one.ids[0],
                    "method": label,
                    "class": name,
                    "probability": float(order.values[place]),
                    "lowest": float(values.min()),
                    "highest": float(values.max()),
                    "positive": float(values.clamp(min=0).sum()) / mass if mass else float("nan"),
                }
            )
    return Page(
        samples=one,
        bars=[(class_name(model, i), float(prediction.probabilities[i])) for i in prediction.top],
        classes=names,
        found=Maps(kept, signed, found.refused),
        look=Look(probe.scale, read.text),
        rows=rows,
    )
