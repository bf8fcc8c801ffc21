"""Style transfer, and the question that follows: do maps keep to the content?"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from xbench.classifier import Classifier, Layer
from xbench.classifier.layers import stages, to_nchw
from xbench.contracts import Samples
from xbench.errors import ParameterError
from xbench.operations.ranks import spearman
from xbench.probes import plots, sheets
from xbench.probes._attacks import rounded
from xbench.probes._moves import SHARE, top_overlap
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
from xbench.probes.maps import DEFAULT_METHODS, Maps, choose, class_name, explain_all, replaced
from xbench.probes.shared import about, rows_of

_CHANCE = SHARE / (2 - SHARE)
_ALIKE = 0.1  # rank correlation below which two maps are not alike
_LIMITS = (
    "Classifiers without the smooth features of VGG give rough style pictures; the losses are "
    "those of the chosen network, so what counts as style is what that network calls so.",
    "A map that stays may follow the content, or may not look at the image: compare with controls.",
    "The prediction may change with the style; the class explained is that of the content image.",
)


@dataclass(frozen=True)
class Losses:
    """What a stylized image is pulled to.

    Attributes:
        content: weight of the features of the content image, relative to their mean square.
        style: weight of the Gram matrices of the style image, relative to their mean square.
        tv: weight of total variation.
    """

    content: float
    style: float
    tv: float


@PROBES.register
@dataclass(frozen=True)
class Style(Probe):
    """The content of one image in the style of another, and maps before and after.

    Attributes:
        methods: whose maps are compared.
        steps: of Adam, from the content image on.
        content, style, tv: weights of the losses.
        rate: of Adam, in pixels.
    """

    methods: str = DEFAULT_METHODS
    steps: int = 150
    content: float = 1.0
    style: float = 10.0
    tv: float = 2.0
    rate: float = 0.02

    card: ClassVar[ProbeCard] = ProbeCard(
        name="style",
        summary="Style transfer on the chosen network, and agreement of maps before and after.",
        question="When the texture changes and the content stays, do a method's maps follow the "
        "content?",
        paper="Gatys et al. 2016; Geirhos et al. 2019",
        min_images=2,
        max_images=2,
        images="two images, the content and the style",
    )

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.rate > 0:
            raise ParameterError("steps is at least 1 and rate above 0.")
        if not all(0 <= weight < math.inf for weight in (self.content, self.style, self.tv)):
            raise ParameterError("The weights content, style and tv are not negative.")

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        samples = self.check(samples)
        content, style = samples.images.to(model.device).split(1)
        total = self.steps + 1

        def told(step: int) -> None:
            tell(step, total, "style transfer")

        weights = Losses(self.content, self.style, self.tv)
        image, losses = transfer(model, (content, style), weights, (self.steps, self.rate), told)
        image = rounded(image).cpu()
        three = torch.cat([samples.images[:1], image, samples.images[1:]])
        chance = model.probabilities(three.to(model.device)).cpu()
        index = int(chance[0].argmax())
        found = explain_all(
            model,
            replaced(pick(samples, [0]), three),
            choose(self.methods),
            torch.full((3,), index),
            seed=seed,
        )
        tell(total, total, "maps")
        table = _table(found)
        said = f"{class_name(model, index)} from {chance[0, index]:.1%} to {chance[1, index]:.1%}"
        after = int(chance[1].argmax())
        caption = [
            f"The style moves the probability of {said}; the model now says "
            f"{class_name(model, after)} ({chance[1, after]:.1%}).",
            *_sentences(table),
            *found.sentences(),
        ]
        curve = {name: (list(range(len(v))), v) for name, v in losses.items()}
        return Exhibit(
            title=f"Style: {samples.ids[0]} in the style of {samples.ids[1]}",
            question=self.card.question,
            caption=tuple(caption),
            images={
                "style": Picture(_sheet(model, three, chance), "Content, stylized, and style."),
                "stylized": Picture(sheets.png(sheets.photo(image[0])), "Stylized, as it is."),
                "maps": Picture(
                    _maps(model, found, three, index),
                    f"Maps for {class_name(model, index)} on each image, each with its own scale.",
                ),
                "losses": Picture(plots.lines(curve, "step", "loss"), "Losses by step."),
            },
            numbers={
                "methods": Table(table, _CAPTION),
                "losses": Table(
                    pd.DataFrame({"step": range(len(losses["content"])), **losses}),
                    "Weighted losses by step.",
                    shown=5,
                ),
            },
            limits=_LIMITS,
            about=about(self, model, samples, seed),
        )


_CAPTION = (
    "Rank correlation and IoU of the top 10 % of the pixels of a method's map before and after, "
    "and the same of the content's and the style image's map: what two unrelated pictures share."
)


def transfer(
    model: Classifier,
    images: tuple[Tensor, Tensor],
    weights: Losses,
    how: tuple[int, float],
    told: Callable[[int], None],
) -> tuple[Tensor, dict[str, list[float]]]:
    """The content in the style, (1, C, H, W), and the losses by step.

    Content is compared in the features of the second to last resolution, style in the Gram matrices
    of all but the last one; both relative to their size, so weights mean the same everywhere.

    Args:
        model: whose features count.
        images: content and style, each (1, C, H, W).
        weights: of the losses.
        how: steps and rate of Adam.
        told: told of every step.
    """
    content, style = images
    layers = stages(model.module, model.trace(content))
    styled = layers[:-1] or layers
    with torch.no_grad():
        wanted = features(model, content, styled[-1:])[0]
        grams = [gram(one) for one in features(model, style, styled)]
    image = content.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([image], lr=how[1])
    losses: dict[str, list[float]] = {"content": [], "style": [], "variation": []}
    for step in range(how[0]):
        told(step)
        found = features(model, image, styled)
        one = weights.content * _relative(found[-1], wanted)
        two = (
            weights.style
            * sum(
                (_relative(gram(made), asked) for made, asked in zip(found, grams, strict=True)),
                torch.zeros((), device=image.device),
            )
            / len(grams)
        )
        three = weights.tv * _variation(image)
        (image.grad,) = torch.autograd.grad(one + two + three, image)
        optimizer.step()
        with torch.no_grad():
            image.clamp_(0, 1)
        for name, value in zip(losses, (one, two, three), strict=True):
            losses[name].append(float(value.detach()))
    return image.detach(), losses


def features(model: Classifier, image: Tensor, layers: list[Layer]) -> list[Tensor]:
    """Feature maps of several layers from one pass, each (1, C, h, w), with their graph."""
    with ExitStack() as stack:
        kept = [stack.enter_context(model.captured(layer)) for layer in layers]
        with torch.set_grad_enabled(image.requires_grad):
            model.network(image)
    return [to_nchw(outputs[-1], layer) for outputs, layer in zip(kept, layers, strict=True)]


def gram(maps: Tensor) -> Tensor:
    """Gram matrix of feature maps (1, C, h, w): mean product of every two channels, (C, C)."""
    flat = maps[0].flatten(1)
    return flat @ flat.T / flat.shape[1]


def _relative(made: Tensor, asked: Tensor) -> Tensor:
    return F.mse_loss(made, asked) / asked.square().mean().clamp(min=1e-12)


def _variation(image: Tensor) -> Tensor:
    down = (image[:, :, 1:] - image[:, :, :-1]).abs().mean()
    return down + (image[..., 1:] - image[..., :-1]).abs().mean()


def _table(found: Maps) -> pd.DataFrame:
    rows = []
    for label, maps in found.maps.items():
        content, stylized, style = maps
        rows.append(
            {
                "method": label,
                "correlation": float(spearman(content[None], stylized[None])),
                "iou": top_overlap(content, stylized),
                "correlation_style_image": float(spearman(content[None], style[None])),
                "iou_style_image": top_overlap(content, style),
            }
        )
    return pd.DataFrame(rows).sort_values("correlation", ascending=False, ignore_index=True)


def _sheet(model: Classifier, images: Tensor, chance: Tensor) -> bytes:
    tiles = []
    for image, row in zip(images, chance, strict=True):
        best = int(row.argmax())
        tiles.append(
            sheets.Tile(sheets.photo(image), f"{class_name(model, best)} ({row[best]:.0%})")
        )
    return sheets.sheet([tiles], columns=["content", "stylized", "style"], side=224)


def _maps(model: Classifier, found: Maps, images: Tensor, index: int) -> bytes:
    lines = [
        [
            sheets.Tile(sheets.overlay(image, maps[row], signed=found.signed[label]))
            for row, image in enumerate(images)
        ]
        for label, maps in found.maps.items()
    ]
    return sheets.sheet(lines, columns=["content", "stylized", "style"], names=list(found.maps))


def _sentences(table: pd.DataFrame) -> list[str]:
    said = []
    for row in rows_of(table):
        above = row["iou"] > 1.5 * max(row["iou_style_image"], _CHANCE)
        keeps = above and row["correlation"] > max(_ALIKE, 1.5 * row["correlation_style_image"])
        said.append(
            f"{row['method']}: rank correlation of the map before and after "
            f"{row['correlation']:.2f} and IoU {row['iou']:.2f} (with the style image's map "
            f"{row['iou_style_image']:.2f}): "
            f"{'it keeps to the content.' if keeps else 'it does not clearly keep to the content.'}"
        )
    return said
