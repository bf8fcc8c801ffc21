"""Settings of one method, or several methods, side by side: pictures, table, and which to take."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from xbench import names
from xbench.classifier import Classifier
from xbench.contracts import Method, Samples
from xbench.errors import ParameterError
from xbench.probes import sheets
from xbench.probes._settings import (
    COMPLEXITY,
    FAITHFULNESS,
    STABILITY,
    Advice,
    Measured,
    measure,
    metrics_of,
    recommend,
    setting_table,
)
from xbench.probes.contract import PROBES, Exhibit, Picture, Probe, ProbeCard, Table, Tell, silent
from xbench.probes.maps import DEFAULT_METHODS, choose
from xbench.probes.shared import about
from xbench.registry import METHODS, Chosen

MOST = 64
_CAPTION = (
    "Means over images with 95 % intervals, model calls and seconds a map. Seconds are those of "
    "this machine and of this moment."
)
_LIMITS = (
    "The recommendation holds for these images, this model and these metrics; others may differ.",
    "Within one standard error is not shown to be equal: with more images fewer settings may stay.",
    "Stability is that of the map under small changes of the image; a constant map is stable, too.",
)


@PROBES.register
@dataclass(frozen=True)
class Sweep(Probe):
    """A grid of hyper-parameters of one method, as pictures and as a table.

    Attributes:
        method: the method, with what stays fixed in brackets.
        grid: one or more parameters with their values: `n_samples=5,25,125; stdev=0.05,0.15`.
        faithfulness, stability, complexity: the metrics, in the order of their weight.
        pictures: images shown.
    """

    method: str = "smoothgrad"
    grid: str = "n_samples=5,25,125; stdev=0.01,0.05,0.25"
    faithfulness: str = FAITHFULNESS
    stability: str = STABILITY
    complexity: str = COMPLEXITY
    pictures: int = 2

    card: ClassVar[ProbeCard] = ProbeCard(
        name="sweep",
        summary="A grid of settings of one method: pictures, faithfulness, stability, cost.",
        question="Which setting of this method should be used here?",
    )

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        samples = self.check(samples)
        axes = read_grid(self.grid)
        base = METHODS.create(self.method)
        combinations = list(itertools.product(*axes.values()))
        if len(combinations) > MOST:
            raise ParameterError(
                f"The grid has {len(combinations)} settings, at most {MOST} go on a page; "
                "leave some out."
            )
        settings = [
            METHODS.adjust(base, **dict(zip(axes, values, strict=True))) for values in combinations
        ]
        metrics = metrics_of(",".join((self.faithfulness, self.stability, self.complexity)))
        measured = measure(model, samples, settings, metrics, seed, tell)
        advice = recommend(measured.labels, measured.columns, measured.calls, len(samples))
        chosen = {
            setting.label: dict(zip(axes, values, strict=True))
            for setting, values in zip(settings, combinations, strict=True)
        }
        images = {
            f"grid{row + 1}": Picture(
                _grid_sheet(samples, measured, settings, axes, row),
                f"{samples.ids[row]}: {self.method} over {' and '.join(axes)}.",
            )
            for row in range(min(self.pictures, len(samples)))
        }
        return _exhibit(self, model, samples, seed, (measured, advice, images, chosen))


@PROBES.register
@dataclass(frozen=True)
class Choose(Probe):
    """Several methods measured on the same images, and the one to take.

    Attributes:
        methods: by name.
        metrics: in the order of their weight.
        pictures: images shown.
    """

    methods: str = DEFAULT_METHODS
    metrics: str = f"{FAITHFULNESS},{STABILITY},{COMPLEXITY}"
    pictures: int = 4

    card: ClassVar[ProbeCard] = ProbeCard(
        name="choose",
        summary="Several methods measured on the same images, and the one to take.",
        question="Which of these methods should be used here?",
    )

    def run(
        self, model: Classifier, samples: Samples, *, seed: int = 0, tell: Tell = silent
    ) -> Exhibit:
        """See `Probe.run`."""
        samples = self.check(samples)
        chosen = choose(self.methods, least=2)
        measured = measure(model, samples, chosen, metrics_of(self.metrics), seed, tell)
        advice = recommend(measured.labels, measured.columns, measured.calls, len(samples))
        rows = range(min(self.pictures, len(samples)))
        tiles = [
            [
                sheets.Tile(sheets.photo(samples.images[row])),
                *(_tile(samples, measured, label, row) for label in measured.labels),
            ]
            for row in rows
        ]
        sheet = sheets.sheet(tiles, columns=["image", *measured.labels])
        images = {"maps": Picture(sheet, "Maps of the predicted class, each with its own scale.")}
        return _exhibit(self, model, samples, seed, (measured, advice, images, {}))


def read_grid(text: str) -> dict[str, list[names.Value]]:
    """Parameters and their values: `n_samples=5,25; stdev=0.1` (or one a line).

    Raises:
        ParameterError: not of that form.

    >>> read_grid("window=8,16; baseline=mean,blur")
    {'window': [8, 16], 'baseline': ['mean', 'blur']}
    """
    axes: dict[str, list[names.Value]] = {}
    for part in filter(None, (one.strip() for one in text.replace("\n", ";").split(";"))):
        key, equals, values = part.partition("=")
        listed = [names.read_value(value.strip()) for value in values.split(",") if value.strip()]
        if not equals or not key.strip().isidentifier() or not listed:
            raise ParameterError(
                f"A grid is PARAMETER=VALUE,VALUE, for example n_samples=5,25,125, not '{part}'."
            )
        if key.strip() in axes:
            raise ParameterError(f"The grid names '{key.strip()}' twice; give all values at once.")
        axes[key.strip()] = list(dict.fromkeys(listed))
    if not axes:
        raise ParameterError("Give a grid, for example --grid n_samples=5,25,125.")
    return axes


def _grid_sheet(
    samples: Samples,
    measured: Measured,
    settings: Sequence[Chosen[Method]],
    axes: Mapping[str, Sequence[names.Value]],
    row: int,
) -> bytes:
    """The last parameter goes to the right, the others down; the image stands before."""
    *outer, inner = axes
    wide = len(axes[inner])
    cells = [_tile(samples, measured, setting.label, row) for setting in settings]
    lines: list[list[sheets.Tile | None]] = []
    heads = []
    for start in range(0, len(cells), wide):
        first = sheets.Tile(sheets.photo(samples.images[row])) if start == 0 else None
        lines.append([first, *cells[start : start + wide]])
        value = settings[start].value
        heads.append(", ".join(f"{name} {getattr(value, name)}" for name in outer))
    return sheets.sheet(lines, columns=["", *(f"{inner} {v}" for v in axes[inner])], names=heads)


def _tile(samples: Samples, measured: Measured, label: str, row: int) -> sheets.Tile:
    if label not in measured.maps.maps:
        return sheets.Tile("It cannot run on this model.")
    column = measured.columns[0]
    value = column.values[row, list(measured.labels).index(label)]
    values, signed = measured.maps.maps[label][row], measured.maps.signed[label]
    text = f"{column.label.replace('_', ' ')} {value:.2f}"
    return sheets.Tile(sheets.overlay(samples.images[row], values, signed=signed), text)


def _exhibit(
    probe: Probe,
    model: Classifier,
    samples: Samples,
    seed: int,
    found: tuple[Measured, Advice, Mapping[str, Picture], Mapping[str, Mapping[str, object]]],
) -> Exhibit:
    measured, advice, images, extra = found
    table = setting_table(measured, extra)
    table.insert(1, "recommended", table["setting"] == advice.setting)
    per_image = [
        pd.DataFrame(
            {
                "image": list(samples.ids),
                "setting": label,
                "metric": column.label,
                "value": column.values[:, place],
            }
        )
        for column in measured.columns
        for place, label in enumerate(measured.labels)
    ]
    return Exhibit(
        title=f"{probe.card.name.capitalize()}: {len(measured.labels)} settings",
        question=probe.card.question,
        caption=(f"Use {advice.setting}.", *advice.reasons, *measured.notes),
        images=images,
        numbers={
            "settings": Table(table, _CAPTION),
            "values": Table(
                pd.concat(per_image, ignore_index=True), "Every value by image.", shown=10
            ),
        },
        limits=_LIMITS,
        about=about(probe, model, samples, seed, recommended=advice.setting),
    )
