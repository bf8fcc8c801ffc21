"""The contract of probes: a question to a model, answered by pictures, numbers and a caption."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, get_type_hints

import pandas as pd
import torch

from xbench.classifier import Classifier
from xbench.contracts import Card, Samples
from xbench.errors import DataError, ParameterError
from xbench.names import Value
from xbench.registry import Chosen, Registry, fit_value

Tell = Callable[[int, int, str], None]
"""Told of progress: units done, units in all, what runs now."""


def silent(done: int, total: int, what: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, kw_only=True)
class ProbeCard(Card):
    """Card of a probe.

    Attributes:
        question: what it asks, a sentence that the page opens with.
        min_images: how many images it needs.
        max_images: how many it looks at, None for all.
        images: what to hand over, in words.
    """

    question: str
    min_images: int = 1
    max_images: int | None = None
    images: str = "any number of images"


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows, in words."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class Table:
    """Numbers as records, and what they are.

    Attributes:
        frame: one record a row, plain column names.
        caption: what stands there, with directions and units.
        shown: rows that the page shows; the file has all.
    """

    frame: pd.DataFrame
    caption: str
    shown: int = 40


@dataclass(frozen=True)
class Exhibit:
    """What a probe found.

    Attributes:
        title: of the page.
        question: what was asked.
        caption: the answer, one sentence a line; every number in it stands in `numbers`.
        images: pictures by name, in the order of the page.
        numbers: tables by name, in the order of the page.
        limits: what the numbers do not say.
        about: what made it: model, weights, seed, parameters, images; plain values.
    """

    title: str
    question: str
    caption: tuple[str, ...]
    images: Mapping[str, Picture]
    numbers: Mapping[str, Table]
    limits: tuple[str, ...] = ()
    about: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe(ABC):
    """An experiment: a frozen dataclass of what to vary, over images and a model."""

    card: ClassVar[ProbeCard]

    @abstractmethod
    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """Ask, and answer.

        Args:
            model: the classifier under test; it is left as found.
            samples: the images, in [0, 1], on the CPU.
            seed: of everything random.
            tell: told of progress.

        Raises:
            XbenchError: one sentence about a wrong box, class, layer or image.
        """

    def check(self, samples: Samples) -> Samples:
        """The images that this probe looks at.

        Raises:
            DataError: there are too few.
        """
        if len(samples) < self.card.min_images:
            raise DataError(
                f"'{self.card.name}' needs {self.card.min_images} images, not {len(samples)}: "
                f"{self.card.images}."
            )
        most = self.card.max_images
        return samples if most is None or len(samples) <= most else first(samples, most)


def nothing() -> Samples:
    """No image, for probes that make or read their own."""
    return Samples(images=torch.zeros(0, 3, 0, 0), labels=torch.zeros(0).long(), ids=[])


def first(samples: Samples, count: int) -> Samples:
    """The first so many images."""
    return pick(samples, list(range(min(count, len(samples)))))


def pick(samples: Samples, rows: list[int]) -> Samples:
    """Some of the images, in this order; they may repeat."""
    return Samples(
        images=samples.images[rows],
        labels=samples.labels[rows],
        ids=[samples.ids[row] for row in rows],
        truth=None if samples.truth is None else samples.truth[rows],
        truth_defined=None if samples.truth_defined is None else samples.truth_defined[rows],
        extras={name: mask[rows] for name, mask in samples.extras.items()},
    )


PROBES: Registry[Probe] = Registry("probe", "probes")


def make_probe(name: str, **values: Value) -> Chosen[Probe]:
    """The probe of a name with some of its parameters, lists of names as one text.

    Raises:
        UnknownNameError: no such probe.
        ParameterError: an unknown parameter, or a value of the wrong kind or range.
    """
    entry = PROBES.entry(name)
    defaults = entry.parameters
    for key in values:
        if key not in defaults:
            raise ParameterError(
                f"The probe '{name}' has no parameter '{key}'; it has {', '.join(defaults)}."
            )
    hints = get_type_hints(entry.factory)
    fitted = {key: fit_value(value, hints[key], f"{name}: {key}") for key, value in values.items()}
    identity = f"{name}{sorted({**defaults, **fitted}.items())}"
    return Chosen(name, identity, entry.factory(**fitted), entry.card, entry)
