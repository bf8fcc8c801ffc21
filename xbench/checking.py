"""The conformance suite for a file of one's own: methods, metrics, data, boards, probes, models."""

import math
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.comparing import examine_method
from xbench.contracts import Geometry, Metric, Samples
from xbench.contracts.boards import GATES
from xbench.errors import XbenchError
from xbench.models.loading import load_classifier
from xbench.plugins.catalogues import REGISTRIES, use_catalogue
from xbench.plugins.loading import enter, load_method
from xbench.probes.contract import make_probe
from xbench.registry import DATASETS, LEADERBOARDS, METHODS, METRICS
from xbench.running.guard import Guard
from xbench.running.session import Settings, run_grid
from xbench.user_files import MODELS

SCENES = 4
PROPERTIES = (
    "faithfulness",
    "randomization",
    "robustness",
    "localization",
    "agreement",
    "complexity",
    "axioms",
    "efficiency",
    "adapters",
)
_BENCH = "gradient,random,oracle"


def check_file(path: Path | str, model: Classifier | None = None) -> dict[str, list[str]]:
    """Everything that is wrong with what a file brings, by entry ("method mine"); empty is good.

    Args:
        path: a file or folder of entries, or `PATH.py:NAME` for a plain function.
        model: on which methods are tried, default the reference classifier.

    Raises:
        XbenchError: it cannot be imported, or brings nothing.
    """
    model = model or load_classifier("reference")
    text = str(path)
    if text.rpartition(":")[2].isidentifier() and ".py:" in text:
        chosen = enter(load_method(text), model, _images(model))
        return {f"method {chosen.label}": examine_method(chosen, model, _images(model), text)}
    if Path(path).is_file() and Path(path).parent.name == MODELS:
        use_catalogue(Path(path).parent.parent)
        return {f"model {Path(path).stem}": _model(Path(path).stem, model)}
    before = {registry.kind: set(registry._entries) for registry in REGISTRIES}
    names = use_catalogue(Path(path))
    if not names:  # imported before: look at what came from there
        names = _from(Path(path), before)
    if not names:
        raise XbenchError(
            f"'{path}' registers nothing; put @METHODS.register above the class, or name a "
            f"function: {path}:NAME."
        )
    return {name: _check(name, model) for name in names}


def _from(path: Path, before: dict[str, set[str]]) -> list[str]:
    """Entries that a path brought in earlier."""
    marks = {path.stem} if path.is_file() else {p.stem for p in path.rglob("*.py")}
    found = [
        f"{registry.kind} {entry.name}"
        for registry in REGISTRIES
        for entry in registry.entries()
        if entry.module.startswith("_xbench_user_")
        and any(mark in entry.module for mark in marks)
        and entry.name in before[registry.kind]
    ]
    return found + [f"model {file.stem}" for file in sorted((path / MODELS).glob("[!_]*.py"))]


def _check(entry: str, model: Classifier) -> list[str]:
    kind, _, name = entry.partition(" ")
    checks = {
        "method": _method,
        "metric": _metric,
        "dataset": _dataset,
        "leaderboard": _board,
        "probe": _probe,
        "model": _model,
    }
    return checks[kind](name, model)


def _samples(model: Classifier, count: int) -> Samples:
    source = DATASETS.create("planted").value.open(model.geometry, limit=count, seed=0)
    return source.read(range(count))


def _images(model: Classifier) -> Tensor:
    return _samples(model, 3).images.to(model.device)


def _method(name: str, model: Classifier) -> list[str]:
    return examine_method(METHODS.create(name), model, _images(model), None)


def _metric(name: str, model: Classifier) -> list[str]:
    """Card, values in range, the same for other batches, truth above noise, calls as it says."""
    chosen = METRICS.create(name)
    card, found = chosen.card, []
    if not (card.summary[:1].isupper() and card.summary.endswith(".")):
        found.append(f"The summary of '{name}' is no sentence; capital first, dot last.")
    if card.property not in PROPERTIES:
        found.append(f"'{name}' is of the property '{card.property}'; take one of "
                     f"{', '.join(PROPERTIES)}.")  # fmt: skip
    if not isinstance(chosen.value, Metric):
        return found
    whole, alone = _scored(name, chunk=SCENES), _scored(name, chunk=1)
    bad = whole[whole["status"].isin(["error", "invalid"])]
    if len(bad):
        return [*found, f"'{name}' fails: {bad['reason'].iloc[0]}"]
    values = whole["value"].dropna()
    low, high = card.range
    if len(values) and not bool(values.between(low - 1e-9, high + 1e-9).all()):
        found.append(f"'{name}' leaves its range [{low:g}, {high:g}]: it has {values.min():g} to "
                     f"{values.max():g}; correct the card or the formula.")  # fmt: skip
    keys = ["image_id", "method"]
    pair = whole.set_index(keys)["value"].align(alone.set_index(keys)["value"])
    if not bool(((pair[0] - pair[1]).abs().fillna(0) <= 1e-4 * pair[0].abs().clip(lower=1)).all()):
        found.append(f"'{name}' depends on the neighbors in the batch; score each image alone.")
    return found + _direction(name, whole) + _calls(name, whole, model)


def _direction(name: str, rows: pd.DataFrame) -> list[str]:
    card = METRICS.create(name).card
    means = rows.groupby("method")["value"].mean()
    oracle, noise = means.get("oracle", math.nan), means.get("random", math.nan)
    if card.direction == "none" or math.isnan(oracle) or math.isnan(noise):
        return []
    if (oracle > noise) == (card.direction == "higher") and oracle != noise:
        return []
    return [
        f"'{name}' does not put the truth ({oracle:.3g}) before noise ({noise:.3g}) on planted "
        f"scenes, where {card.direction} is better; check the direction and the formula."
    ]


def _calls(name: str, rows: pd.DataFrame, model: Classifier) -> list[str]:
    """Whether the metric spends at most what its formulas say (less where work is shared)."""
    value = METRICS.create(name).value
    facts = model.facts((3, 64, 64))
    gradient = METHODS.create("gradient").value.cost(facts)
    assert isinstance(value, Metric)
    own = value.cost(facts) + gradient * value.explains(facts)
    spent = rows.loc[rows["method"] == "gradient", "forwards"].max()
    if spent <= own.forwards + 1e-9:
        return []
    return [
        f"'{name}' spends {spent:g} forwards an image where its card says {own.forwards:g}; "
        "correct the formulas."
    ]


def _scored(name: str, chunk: int) -> pd.DataFrame:
    with tempfile.TemporaryDirectory() as folder:
        run = run_grid(
            Settings(
                methods=_BENCH,
                metrics=name,
                limit=SCENES,
                chunk=chunk,
                max_calls=None,
                out=Path(folder) / "run",
                command=["xbench", "check"],
            )
        )
        rows = run.records
    return rows[rows["metric"] == METRICS.create(name).label]


def _dataset(name: str, model: Classifier) -> list[str]:
    """Pixels, ids, labels, masks; the same twice; the limit kept."""
    chosen, found = DATASETS.create(name).value, []
    source = chosen.open(model.geometry, limit=3, seed=0)
    again = chosen.open(model.geometry, limit=3, seed=0)
    samples = source.read(range(len(source)))
    images = samples.images
    if len(source) > 3:
        found.append(f"'{name}' gives {len(source)} images where at most 3 were asked for.")
    if list(source.ids) != list(again.ids) or source.digest != again.digest:
        found.append(f"'{name}' gives other ids or another digest the second time.")
    if not source.digest:
        found.append(f"'{name}' has no digest; hash all that decides the content into it.")
    if len(set(source.ids)) != len(source):
        found.append(f"'{name}' gives two images the same id.")
    if images.dtype != torch.float32 or images.ndim != 4 or images.shape[1] not in (1, 3):
        found.append(f"'{name}' gives {images.dtype} of shape {tuple(images.shape)}; give float32 "
                     "(N, 3, H, W).")  # fmt: skip
    elif not bool(((images >= 0) & (images <= 1)).all()):
        found.append(f"'{name}' gives values outside [0, 1]; divide by 255, do not normalize.")
    wanted = Geometry() if model.geometry.crop is None else model.geometry
    if wanted.crop is not None and tuple(images.shape[-2:]) != tuple(wanted.crop):
        found.append(f"'{name}' gives {tuple(images.shape[-2:])} pixels where the model wants "
                     f"{tuple(wanted.crop)}; use `geometry`.")  # fmt: skip
    truth = samples.truth
    if truth is not None and (
        truth.dtype != torch.bool or truth.shape != (len(images), *images.shape[-2:])
    ):
        found.append(f"'{name}' gives masks {truth.dtype} {tuple(truth.shape)}; give bool "
                     "(N, H, W).")  # fmt: skip
    return found


def _board(name: str, model: Classifier) -> list[str]:
    """Gates and properties that exist, and something to rank by."""
    card, found = LEADERBOARDS.create(name).card, []
    for gate in (*card.gates, *card.required):
        if gate not in GATES:
            found.append(f"'{name}' names the gate '{gate}'; there are {', '.join(GATES)}.")
    for one in card.properties:
        if one not in PROPERTIES:
            found.append(f"'{name}' names the property '{one}'; there are {', '.join(PROPERTIES)}.")
    if not (card.properties or card.metrics):
        found.append(f"'{name}' names neither properties nor metrics; it would rank nothing.")
    return found


def _probe(name: str, model: Classifier) -> list[str]:
    """A question, an answer, the same numbers twice, the model left as found."""
    probe, found = make_probe(name).value, []
    if not probe.card.question.endswith("?"):
        found.append(f"The question of '{name}' is none; let it end with a question mark.")
    samples, guard = _samples(model, max(SCENES, probe.card.min_images)), Guard(model)
    try:
        first, again = (probe.run(model, samples, seed=0) for _ in range(2))
    except Exception as error:
        found.append(f"'{name}' fails on planted scenes ({type(error).__name__}: {error}).")
        return found
    finally:
        harm = guard.harm()
    if harm is not None:
        found.append(f"'{name}' {harm}; leave the model as found.")
    if not any(line.strip() for line in first.caption):
        found.append(f"'{name}' has no answer; say it in `caption`, a sentence a line.")
    if not (first.images or first.numbers):
        found.append(f"'{name}' shows nothing; give pictures or tables.")
    if {k: t.frame.to_csv() for k, t in first.numbers.items()} != {
        k: t.frame.to_csv() for k, t in again.numbers.items()
    }:
        found.append(f"'{name}' gives other numbers for the same seed; draw from `streams`.")
    return found


def _model(name: str, model: Classifier) -> list[str]:
    """It loads, takes images of its size, and says the same of them twice."""
    try:
        own = load_classifier(name, batch_size=SCENES)
        size = own.geometry.crop or (64, 64)
        images = torch.full((2, own.geometry.channels, *size), 0.5, device=own.device)
        first, again = own.logits(images), own.logits(images)
    except XbenchError as error:
        return [str(error)]
    if not bool(torch.isfinite(first).all()):
        return [f"The model '{name}' gives logits that are not finite on gray images."]
    if not torch.equal(first, again):
        return [f"The model '{name}' gives other logits for the same images; make it repeat."]
    return []


def texts(findings: dict[str, list[str]]) -> list[str]:
    """The findings as lines to print, one an entry where all is in order."""
    lines: list[Any] = []
    for entry, found in findings.items():
        lines += found or [f"{entry}: in order."]
    return lines
