"""Class visualization, activation maximization of a unit, and DeepDream."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from torch import Tensor, nn

from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.errors import DataError, ModelError, ParameterError
from xbench.models.python_file import build_python
from xbench.operations.imputers import mean_color
from xbench.probes import _dreaming as d
from xbench.probes import plots, sheets
from xbench.probes._attacks import rounded
from xbench.probes.contract import PROBES, Exhibit, Picture, Probe, ProbeCard, Table, Tell, silent
from xbench.probes.maps import class_index, class_name
from xbench.probes.shared import about
from xbench.streams import Streams

_LIMITS = (
    "An image that scores high shows what the network answers to, not what it answers to in "
    "photographs: other starts and regularizers give other images.",
    "Regularizers are ours, not the network's: what looks natural here was asked for.",
)


@PROBES.register
@dataclass(frozen=True)
class Visualize(Probe):
    """An image made to be scored high: for a class, for a unit, or from an image on.

    Attributes:
        target: a class by name or number (several with commas), for class visualization.
        unit: `LAYER:NUMBER`, a channel whose mean activation is maximized.
        dream: a layer whose activations on the given image are amplified; `last_conv` works.
        steps, rate, l2, blur, jitter, clip, tv: see `Regularizers`.
        octaves: sizes of DeepDream.
        generator: `PATH.py:FUNCTION`, an nn.Module from codes to images in [0, 1], as a prior.
        code: length of the generator's code.
    """

    target: str | None = None
    unit: str | None = None
    dream: str | None = None
    steps: int = 256
    rate: float = 0.02
    l2: float = 0.002
    blur: float = 0.6
    jitter: float = 1 / 16
    clip: float = 0.02
    tv: float = 0.2
    octaves: int = 3
    generator: str | None = None
    code: int = 128

    card: ClassVar[ProbeCard] = ProbeCard(
        name="visualize",
        summary="Class visualization, activation maximization of a unit, DeepDream.",
        question="What does the network want to see?",
        paper="Simonyan et al. 2014; Yosinski et al. 2015; Mordvintsev et al. 2015",
        min_images=0,
        max_images=1,
        images="an image of the right size; DeepDream starts from it, the others ignore it",
    )

    def __post_init__(self) -> None:
        if sum(x is not None for x in (self.target, self.unit, self.dream)) != 1:
            raise ParameterError(
                "Say what to visualize: a class, --unit LAYER:NUMBER, or --dream LAYER."
            )
        if self.target is not None and not _listed(self.target):
            raise ParameterError(f"'{self.target}' names no class; give a name or a number.")
        if self.octaves < 1 or self.code < 1:
            raise ParameterError("octaves and code are numbers of at least 1.")
        d.Regularizers(self.steps, self.rate, self.l2, self.blur, self.jitter, self.clip, self.tv)

    @property
    def regularizers(self) -> d.Regularizers:
        """Steps and regularizers."""
        return d.Regularizers(
            self.steps, self.rate, self.l2, self.blur, self.jitter, self.clip, self.tv
        )

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        samples = self.check(samples)
        if len(samples) == 0:
            samples = blank(model)
        if self.target is not None:
            return self._classes(model, samples, seed, tell)
        return self._layer(model, samples, seed, tell)

    def _classes(self, model: Classifier, samples: Samples, seed: int, tell: Tell) -> Exhibit:
        classes = [class_index(model, samples, name) for name in _listed(str(self.target))]
        images, rows, curves, tiles = {}, [], {}, []
        for place, index in enumerate(classes):
            name = class_name(model, index)

            def told(step: int, place: int = place, name: str = name) -> None:
                tell(place * self.steps + step, len(classes) * self.steps, name)

            goal = d.class_goal(model, index)
            found = self._climb(model, samples, (f"class {index}", goal), seed, told)
            image = rounded(found.image)
            facts = d.facts(model, image, index)
            rows.append({"class": name, "index": index, **facts, "gradients": self.steps})
            curves[name] = (list(range(len(found.goals))), found.goals)
            images[f"class{index}"] = Picture(sheets.png(sheets.photo(image)), f"{name}, as it is.")
            tiles.append(
                [
                    sheets.Tile(sheets.photo(picture), f"step {step}")
                    for step, picture in sorted(found.snapshots.items())
                ]
            )
            tiles[-1][-1] = replace(tiles[-1][-1], text=f"probability {facts['probability']:.1%}")
        table = pd.DataFrame(rows)
        shown = Picture(
            sheets.sheet(tiles, names=[class_name(model, index) for index in classes], side=200),
            "From noise to the image that the class scores high, with its probability.",
        )
        score = plots.lines(curves, "step", "raw score of the class")
        first = [
            f"{row['class']}: the network gives the image {row['probability']:.1%} and a raw score "
            f"of {row['score']:.1f} (rank {row['rank']:.0f} of the classes)."
            for row in rows
        ]
        return _exhibit(
            self,
            (model, samples, seed),
            tuple(first),
            {"ascent": shown, **images, "scores": Picture(score, "Raw score by step.")},
            Table(table, "Score, probability and rank of the class on its image (8-bit pixels)."),
        )

    def _layer(self, model: Classifier, samples: Samples, seed: int, tell: Tell) -> Exhibit:
        name, _, number = (self.unit or self.dream or "").rpartition(":" if self.unit else "\0")
        if self.unit and not number.isdecimal():
            raise ParameterError(f"--unit takes LAYER:NUMBER, not '{self.unit}'.")
        layer = model.layer(name if self.unit else str(self.dream), samples.images[:1])
        if layer.grid == (0, 0):
            raise ParameterError(f"The layer '{layer.name}' has no feature maps to visualize.")

        def told(step: int) -> None:
            tell(step, self.steps, layer.name)

        start = samples.images[0].to(model.device)
        if self.unit:
            goal = d.unit_goal(model, layer, int(number))
            found = self._climb(model, samples, (self.unit, goal), seed, told)
            words = f"unit {number} of {layer.name}"
        else:
            goal = d.layer_goal(model, layer)
            draws = Streams(seed=seed, image_ids=list(samples.ids[:1]), scope="dream")
            found = d.dream(
                goal, start, self.regularizers, draws.generator(0, "jitter"), told, self.octaves
            )
            words = f"the layer {layer.name}"
        image = rounded(found.image)
        with torch.no_grad():
            before, after = float(goal(start[None])), float(goal(image[None]))
        tiles = [sheets.Tile(sheets.photo(start), f"{before:.3g}")] if self.dream else []
        tiles.append(sheets.Tile(sheets.photo(image), f"{after:.3g}"))
        columns = (["the image"] if self.dream else []) + [words]
        compared = "the image that was given" if self.dream else f"the image {samples.ids[0]}"
        rows = [
            {
                "what": words,
                "activation": after,
                "before": before,
                "ratio": after / before if before else float("nan"),
                "gradients": len(found.goals),
            }
        ]
        curve = plots.lines({words: (list(range(len(found.goals))), found.goals)}, "step", "goal")
        return _exhibit(
            self,
            (model, samples, seed),
            (f"{words} answers with {after:.3g} to its image, with {before:.3g} to {compared}.",),
            {
                "image": Picture(sheets.sheet([tiles], columns=columns, side=300), f"For {words}."),
                "goal": Picture(curve, "The goal by step (octaves of DeepDream after another)."),
            },
            Table(
                pd.DataFrame(rows), "Mean activation (of a layer: mean square) before and after."
            ),
        )

    def _climb(
        self,
        model: Classifier,
        samples: Samples,
        goal: tuple[str, d.Goal],
        seed: int,
        told: Callable[[int], None],
    ) -> d.Ascent:
        """From gray with a little noise, or over the codes of a generator."""
        tag, climbed = goal
        draws = Streams(seed=seed, image_ids=["visualize"], scope="visualize")
        if self.generator is not None:
            code = torch.randn(1, self.code, generator=draws.generator(0, tag)).to(model.device)
            prior = _generator(self.generator, code, samples.images[0])
            return d.through_generator(climbed, prior, code, self.regularizers, told)
        gray = mean_color(model).to(samples.images).view(-1, 1, 1)
        if not bool(gray.any()):
            gray = torch.full_like(gray, 0.5)
        noise = torch.randn(samples.images[0].shape, generator=draws.generator(0, tag, "noise"))
        start = (gray + 0.02 * noise).clamp(0, 1).to(model.device)
        jitter = draws.generator(0, tag, "jitter")
        return d.ascend(climbed, start, self.regularizers, jitter, told, gray.to(model.device))


def _exhibit(
    probe: Visualize,
    made: tuple[Classifier, Samples, int],
    caption: tuple[str, ...],
    images: dict[str, Picture],
    table: Table,
) -> Exhibit:
    model, samples, seed = made
    return Exhibit(
        title=f"What {model.name} wants to see: {probe.target or probe.unit or probe.dream}",
        question=probe.card.question,
        caption=caption,
        images=images,
        numbers={"scores": table},
        limits=_LIMITS,
        about=about(probe, model, samples, seed),
    )


def _listed(target: str) -> list[str]:
    return [name for name in target.split(",") if name.strip()]


def blank(model: Classifier) -> Samples:
    """A gray image of the model's size.

    Raises:
        DataError: the model names no size.
    """
    geometry = model.geometry
    if geometry.crop is None:
        raise DataError("The model names no input size; give an image of the right size.")
    image = torch.full((1, geometry.channels, *geometry.crop), 0.5)
    return Samples(images=image, labels=torch.tensor([-1]), ids=["gray"])


def _generator(spec: str, code: Tensor, like: Tensor) -> nn.Module:
    path, _, function = spec.rpartition(":")
    if not path.endswith(".py"):
        raise ModelError(f"A generator is PATH.py:FUNCTION, not '{spec}'.")
    module = build_python(Path(path).expanduser(), function, None).module
    module = module.to(code.device).eval().requires_grad_(False)
    try:
        with torch.no_grad():
            made = module(code)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"The generator cannot take a code of length {code.shape[1]} ({first}); see --code."
        ) from error
    if not isinstance(made, Tensor):
        raise ModelError(f"The generator gives a {type(made).__name__} instead of images.")
    if tuple(made.shape[1:]) != tuple(like.shape):
        raise ModelError(
            f"The generator gives images {tuple(made.shape[1:])}; the model takes "
            f"{tuple(like.shape)}."
        )
    return module
