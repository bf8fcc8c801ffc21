"""Fooling images: does the explanation change when the prediction does, does it point there?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, Samples
from xbench.errors import ParameterError
from xbench.operations.ranks import spearman
from xbench.probes import sheets
from xbench.probes._attacks import ATTACKS, Fooled, Limits, attack, rounded
from xbench.probes._moves import MOVES, move_table, moves
from xbench.probes.contract import PROBES, Exhibit, Picture, Probe, ProbeCard, Table, Tell, silent
from xbench.probes.maps import (
    DEFAULT_METHODS,
    Maps,
    choose,
    class_index,
    class_name,
    explain_all,
    replaced,
)
from xbench.probes.shared import about, counted, rows_of
from xbench.registry import Chosen
from xbench.streams import Streams

_LIMITS = (
    "A map that moves with the prediction is no proof that it is right, but one that stays has not "
    "followed the model.",
    "Perturbations of attacks are scattered over the image, so a map that points at them points at "
    "the cells (of 14 x 14) where they are strongest.",
    "The change under random noise of the same size is the yardstick: a map that moves as much "
    "under noise is not moved by the attack.",
)


@dataclass(frozen=True)
class _Shot:
    """One image fooled by one attack."""

    image_id: str
    clean: Tensor
    fooled: Fooled
    before: int
    target: int
    chance: Tensor  # probabilities of clean and fooled, (2, K)

    @property
    def difference(self) -> Tensor:
        return self.fooled.image - self.clean

    @property
    def works(self) -> bool:
        return int(self.chance[1].argmax()) == self.target


@PROBES.register
@dataclass(frozen=True)
class Fool(Probe):
    """Images changed until the model takes them for another class, and the maps of both.

    Attributes:
        target: a class by name or number; none for each image's least probable one.
        attacks: of "ascent", "fgsm" and "pgd", the first one is shown.
        methods: whose maps are compared.
        confidence, steps, epsilon: see `Limits`.
        pictures: images shown.
    """

    target: str | None = None
    attacks: str = "ascent,fgsm,pgd"
    methods: str = DEFAULT_METHODS
    confidence: float = 0.99
    steps: int = 200
    epsilon: float = 4 / 255
    pictures: int = 2

    card: ClassVar[ProbeCard] = ProbeCard(
        name="fool",
        summary="Adversarial images by ascent, FGSM and PGD, and how the maps of methods move.",
        question="When an invisible change turns the prediction, does the explanation change with "
        "it, and does it point at the change?",
        paper="Goodfellow et al. 2015; Madry et al. 2018; Ghorbani et al. 2019",
    )

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        samples = self.check(samples)
        samples = replace(samples, images=rounded(samples.images))
        names = [name.strip() for name in self.attacks.split(",") if name.strip()]
        limits = Limits(self.confidence, self.steps, self.epsilon)
        if not names:
            raise ParameterError(f"Name an attack of {', '.join(ATTACKS)}.")
        methods = choose(self.methods)
        found, sheet, moved, total = [], {}, [], len(samples) * len(names)
        refused: dict[str, str] = {}
        for row in range(len(samples)):
            for place, name in enumerate(names):
                tell(row * len(names) + place, total, f"{name} on {samples.ids[row]}")
                shot = self._shoot(model, samples, row, name, limits)
                one = replace(replaced(samples, samples.images[row][None]), ids=[samples.ids[row]])
                maps = _explained(model, one, shot, methods, seed)
                refused |= dict(maps.refused)
                found.append(_facts(model, shot))
                moved.append(moves(maps, shot.difference, shot.image_id, name, works=shot.works))
                if place == 0 and row < self.pictures:
                    sheet[f"image{row + 1}"] = Picture(
                        _images(model, shot),
                        f"{shot.image_id}: before, after, the difference and ten times it "
                        "(gray: no change).",
                    )
                    sheet[f"maps{row + 1}"] = Picture(_maps(model, shot, maps), _MAPS)
                    sheet[f"fooling{row + 1}"] = Picture(
                        sheets.png(sheets.photo(shot.fooled.image)),
                        "The fooling image at its own size, as the model sees it.",
                    )
        tell(total, total, "fooled")
        facts, every = pd.concat(found, ignore_index=True), pd.concat(moved, ignore_index=True)
        table = move_table(every)
        return Exhibit(
            title=f"Fooling {counted(len(samples), 'image')}: {', '.join(names)}",
            question=self.card.question,
            caption=(
                *_sentences(facts, table, names[0]),
                *(f"{label} gave no maps: {reason}" for label, reason in refused.items()),
            ),
            images=sheet,
            numbers={
                "attacks": Table(facts, _FACTS),
                "methods": Table(table, MOVES),
                "moves": Table(every, "The same, image by image.", shown=10),
            },
            limits=_LIMITS,
            about=about(self, model, samples, seed),
        )

    def _shoot(
        self, model: Classifier, samples: Samples, row: int, name: str, limits: Limits
    ) -> _Shot:
        image = samples.images[row]
        clean = model.probabilities(image[None].to(model.device)).cpu()[0]
        before = int(clean.argmax())
        target = (
            int(clean.argmin()) if self.target is None else class_index(model, samples, self.target)
        )
        if target == before:
            raise ParameterError(
                f"The model already takes {samples.ids[row]} for {class_name(model, target)}; "
                "choose another --target."
            )
        fooled = attack(model, image, target, name, limits)
        after = model.probabilities(fooled.image[None].to(model.device)).cpu()[0]
        return _Shot(samples.ids[row], image, fooled, before, target, torch.stack([clean, after]))


_CLEAR = 0.25  # 1 - rank correlation below which a map is much the same
_FACTS = (
    "Attacks: classes and probabilities before and after (of 8-bit pixels), the largest and the "
    "root mean square change of a pixel in steps of 1/255, and the peak signal-to-noise ratio in "
    "decibels (above 40 a difference is hardly seen)."
)
_MAPS = (
    "Maps of each method: of the first prediction before; of the target after; of the first "
    "prediction after; and of the first prediction under random noise as large as the attack."
)


def _explained(
    model: Classifier,
    one: Samples,
    shot: _Shot,
    methods: Sequence[Chosen[Method]],
    seed: int,
) -> Maps:
    """Maps of the five image and class pairs that `moves` compares, in its order."""
    size = shot.difference.square().mean().sqrt()
    streams = Streams(seed=seed, image_ids=list(one.ids), scope="fool")
    noise = streams.normal(tuple(shot.clean.shape), shot.fooled.attack)[0]
    noisy = rounded(shot.clean + size * noise)
    images = torch.stack([shot.clean, shot.clean, shot.fooled.image, shot.fooled.image, noisy])
    classes = torch.tensor([shot.before, shot.target, shot.target, shot.before, shot.before])
    return explain_all(model, replaced(one, images), methods, classes, seed=seed)


def _facts(model: Classifier, shot: _Shot) -> pd.DataFrame:
    change = shot.difference.double()
    mean_square = float(change.square().mean())
    return pd.DataFrame(
        {
            "image": shot.image_id,
            "attack": shot.fooled.attack,
            "before": class_name(model, shot.before),
            "target": class_name(model, shot.target),
            "after": class_name(model, int(shot.chance[1].argmax())),
            "target_before": float(shot.chance[0, shot.target]),
            "target_after": float(shot.chance[1, shot.target]),
            "fooled": shot.works,
            "largest": 255 * float(change.abs().max()),
            "rms": 255 * mean_square**0.5,
            "psnr": -10 * np.log10(mean_square) if mean_square > 0 else np.inf,
            "gradients": shot.fooled.steps,
        },
        index=[0],
    )


def _images(model: Classifier, shot: _Shot) -> bytes:
    def said(row: int) -> str:
        index = int(shot.chance[row].argmax())
        return f"{class_name(model, index)} ({float(shot.chance[row, index]):.1%})"

    tiles = [
        sheets.Tile(sheets.photo(shot.clean), said(0)),
        sheets.Tile(sheets.photo(shot.fooled.image), said(1)),
        sheets.Tile(sheets.photo(0.5 + shot.difference)),
        sheets.Tile(sheets.photo(0.5 + 10 * shot.difference)),
    ]
    return sheets.sheet(
        [tiles], columns=["before", "after", "difference", "difference x 10"], side=224
    )


def _maps(model: Classifier, shot: _Shot, maps: Maps) -> bytes:
    before, target = (class_name(model, index) for index in (shot.before, shot.target))
    order = [(0, shot.clean), (2, shot.fooled.image), (3, shot.fooled.image), (4, shot.clean)]
    lines = []
    for label, found in maps.maps.items():
        shown = [
            sheets.overlay(image, found[row], signed=maps.signed[label]) for row, image in order
        ]
        alike = float(spearman(found[:1], found[2:3]))
        tiles = [sheets.Tile(picture) for picture in shown]
        lines.append(
            [*tiles[:1], sheets.Tile(shown[1], f"rank correlation {alike:.2f}"), *tiles[2:]]
        )
    columns = [f"before, {before}", f"after, {target}", f"after, {before}", f"noise, {before}"]
    return sheets.sheet(lines, columns=columns, names=list(maps.maps))


def _sentences(facts: pd.DataFrame, table: pd.DataFrame, first: str) -> list[str]:
    said = []
    for name, part in facts.groupby("attack", sort=False):
        rows = rows_of(part)
        won = sum(bool(row["fooled"]) for row in rows)
        said.append(
            f"{name}: {won} of {counted(len(rows), 'image')} taken for the target, at "
            f"{part['target_after'].median():.1%} (median), with a largest change of "
            f"{part['largest'].max():.0f}/255 and a signal-to-noise ratio of "
            f"{part['psnr'].median():.0f} dB."
        )
    rows = [row for row in rows_of(table) if row["attack"] == first and row["images"] > 0]
    if not rows:
        return [*said, "No image was fooled, so the maps have nothing to follow."]
    for row in sorted(rows, key=lambda row: -row["change"]):
        said.append(
            f"{row['method']}: rank correlation of the explanation before and after is "
            f"{1 - row['change']:.2f} (under noise {1 - row['change_noise']:.2f}), "
            f"{_verdict(row)}; it "
            f"correlates with the perturbation by {row['points']:+.2f} "
            f"(before the attack {row['points_clean']:+.2f})."
        )
    return said


def _verdict(row: Mapping[str, float]) -> str:
    if abs(row["change"] - row["change_same_class"]) < 1e-9:
        return "which is all the change of the pixels: it is the same whichever class is asked for"
    if row["change"] > max(_CLEAR, 1.5 * row["change_noise"]):
        return "so it moves with the prediction"
    return "so it hardly moves with the prediction"
