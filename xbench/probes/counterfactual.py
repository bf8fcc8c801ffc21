"""An image before and after an edit: what the model says, where relevance went, was it foretold."""

from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import pandas as pd
import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.errors import ParameterError
from xbench.operations.imputers import mean_color
from xbench.operations.ranks import pearson, spearman
from xbench.probes import plots
from xbench.probes._edits import Edit, Kind, random_boxes, read_box, read_paste
from xbench.probes._scene import (
    Scene,
    clouds,
    edit_sheet,
    make_scene,
    map_sheet,
    mass_table,
    probability_table,
    sentences,
)
from xbench.probes.contract import PROBES, Exhibit, Picture, Probe, ProbeCard, Table, Tell, silent
from xbench.probes.maps import DEFAULT_METHODS, Maps, choose, class_name, explain_all, replaced
from xbench.probes.shared import about, correlation_interval
from xbench.streams import Streams

_LIMITS = (
    "An edit takes the image away from what the model was trained on; part of a change may come "
    "from that alone.",
    "A map foretells a removal by its sum over the removed pixels; maps that only point at regions "
    "foretell the order of changes at best, so ranks are compared.",
    "Random boxes of one image overlap, so the intervals of the correlations are too narrow.",
)


@PROBES.register
@dataclass(frozen=True)
class Counterfactual(Probe):
    """One image before and after an edit, and many random edits of the same kind.

    Attributes:
        occlude, blur, recolor: a box `LEFT,TOP,RIGHT,BOTTOM`; or
        paste: a shape with its box, `disk:LEFT,TOP,RIGHT,BOTTOM`; exactly one of the four.
        color: of what is pasted or recolored.
        methods: whose maps are shown.
        top: classes explained, the most probable ones before the edit.
        draws: random edits; 0 for none.
    """

    occlude: str | None = None
    paste: str | None = None
    recolor: str | None = None
    blur: str | None = None
    color: str = "red"
    methods: str = DEFAULT_METHODS
    top: int = 3
    draws: int = 100

    card: ClassVar[ProbeCard] = ProbeCard(
        name="counterfactual",
        summary="One image before and after an edit: scores, maps, was it foretold.",
        question="What does the model say when this part of the image is changed, and did the "
        "maps foretell it?",
        max_images=1,
        images="one image",
    )

    def __post_init__(self) -> None:
        if self.top < 1 or self.draws < 0:
            raise ParameterError("top is a number of at least 1, and draws is not negative.")

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        samples = self.check(samples)
        height, width = samples.images.shape[-2:]
        scene = make_scene(model, samples, self.edit(height, width), self.top)
        count = len(scene.classes)
        found = explain_all(
            model,
            replaced(samples, scene.images.repeat_interleave(count, dim=0)),
            choose(self.methods),
            torch.tensor(scene.classes * 2),
            seed=seed,
            tell=tell,
        )
        masses = mass_table(scene, found)
        foretold, edits = self._foretold(scene, found, seed)
        bars = probability_table(scene)
        images = {
            "edit": Picture(edit_sheet(scene), "Before, after, and what was changed."),
            "probabilities": Picture(
                plots.bars(
                    bars["class"].tolist(),
                    {name: bars[name].tolist() for name in ("before", "after")},
                    label="probability",
                ),
                f"The {len(bars)} most probable classes before or after the edit.",
            ),
            "maps": Picture(
                map_sheet(scene, found),
                "Maps before and after for the classes that were most probable before; the frame "
                "is the edit. Each map has its own scale.",
            ),
        }
        if len(edits):
            images["foretold"] = Picture(
                clouds(edits, list(found.maps)),
                f"{self.draws} random edits of the kind '{scene.edit.kind}': the sum of the map "
                "over the edited pixels, and how far the score fell.",
            )
        numbers = {
            "probabilities": Table(bars, "Probabilities and raw scores before and after."),
            "maps": Table(masses, _MASSES),
        }
        if len(foretold):
            numbers["foretold"] = Table(foretold, _FORETOLD)
            numbers["edits"] = Table(edits, "Every random edit and what each map foretold.", 10)
        return Exhibit(
            title=f"Counterfactual: {scene.edit.kind} {samples.ids[0]}",
            question=self.card.question,
            caption=(*sentences(scene, bars, masses, foretold), *found.sentences()),
            images=images,
            numbers=numbers,
            limits=_LIMITS,
            about=about(self, model, samples, seed, box=list(scene.edit.box)),
        )

    def edit(self, height: int, width: int) -> Edit:
        """The edit that was asked for.

        Raises:
            ParameterError: none or several, a wrong box, shape or color.
        """
        asked = {kind: text for kind in get_args(Kind) if (text := getattr(self, kind)) is not None}
        if len(asked) != 1:
            raise ParameterError(
                "Say one edit: --occlude BOX, --paste SHAPE, --recolor BOX or --blur BOX."
            )
        ((kind, text),) = asked.items()
        if kind == "paste":
            shape, box = read_paste(text, height, width)
            return Edit("paste", box, shape, self.color)
        return Edit(kind, read_box(text, height, width), color=self.color)

    def _foretold(self, scene: Scene, found: Maps, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Correlation of maps with the changes of many random edits, and these edits."""
        if self.draws < 5:
            return pd.DataFrame(), pd.DataFrame()
        streams = Streams(seed=seed, image_ids=[scene.samples.ids[0]], scope="counterfactual")
        height, width = scene.shape
        boxes = random_boxes(self.draws, height, width, streams.generator(0, "boxes"))
        edits = [scene.edit.moved(box) for box in boxes]
        image, mean = scene.images[0], mean_color(scene.model)

        def build(index: Tensor) -> Tensor:
            rows = [edits[int(row)].apply(image, mean) for row in index]
            return torch.stack(rows).to(scene.model.device)

        logits = scene.model.rows(len(edits), build, like=scene.images.to(scene.model.device)).cpu()
        fell = scene.logits[0] - logits
        masks = torch.stack([edit.mask(height, width) for edit in edits]).flatten(1).double()
        rows, every = [], []
        for place, index in enumerate(scene.classes):
            record: dict[str, Any] = {
                "class": class_name(scene.model, index),
                "box": [",".join(map(str, box)) for box in boxes],
                "score_fell": fell[:, index].double().numpy(),
            }
            for label, maps in found.maps.items():
                sums = masks @ maps[place].flatten().double()
                record[label] = sums.numpy()
                rank = float(spearman(sums[None], fell[None, :, index]))
                interval = correlation_interval(rank, len(edits))
                rows.append(
                    {
                        "method": label,
                        "class": class_name(scene.model, index),
                        "spearman": rank,
                        "low": interval.low,
                        "high": interval.high,
                        "pearson": float(pearson(sums[None], fell[None, :, index])),
                        "draws": len(edits),
                    }
                )
            every.append(pd.DataFrame(record))
        return pd.DataFrame(rows), pd.concat(every, ignore_index=True)


_MASSES = (
    "For each map: the share of its mass |a| that lies in the edit before and after (by chance the "
    "share of the area), what it foretold of the edit (its sum there) and how far the score fell, "
    "and the largest change of the map outside the edit as a share of the map's largest value."
)
_FORETOLD = (
    "Correlation, over random edits, of a map's sum over the edited pixels with the fall of the "
    "raw score. 1: the map foretells which edits matter; 0: it tells nothing."
)
