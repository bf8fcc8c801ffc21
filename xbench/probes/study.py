"""Studies: several probes declared in one file, written as one report."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbench.classifier import Classifier
from xbench.contracts import Samples
from xbench.errors import ParameterError, XbenchError
from xbench.explaining import read_images
from xbench.probes.contract import Probe, Tell, first, make_probe, silent
from xbench.probes.page import Part
from xbench.registry import Chosen

_KEYS = {"title", "question", "model", "images", "limit", "seed", "part"}
_PART_KEYS = {"probe", "title", "why", "limit", "with"}


@dataclass(frozen=True)
class Step:
    """One part of a study.

    Attributes:
        probe: with its parameters.
        title: heading, "" for the exhibit's own.
        why: a sentence before it.
        limit: look at so many of the study's images, None for all.
    """

    probe: Chosen[Probe]
    title: str = ""
    why: str = ""
    limit: int | None = None


@dataclass(frozen=True)
class Study:
    """A declared study.

    Attributes:
        title: of the report.
        question: what it asks, a paragraph each.
        steps: the parts in order.
        model: as after --model, where the command line says none.
        images: files or one data set.
        limit: of a data set's images.
        seed: of everything random.
    """

    title: str
    question: tuple[str, ...]
    steps: tuple[Step, ...]
    model: str = "reference"
    images: tuple[str, ...] = ("planted",)
    limit: int = 4
    seed: int = 0


def read_study(path: Path) -> Study:
    """A study from its file.

    Raises:
        ParameterError: the file cannot be read, or says something that no study has.
    """
    try:
        content = tomllib.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(
            f"The study {path} cannot be read ({error.strerror or error})."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ParameterError(f"The study {path} is not valid TOML: {error}.") from error
    _known(content, _KEYS, f"The study {path}")
    parts = content.get("part", [])
    if not isinstance(parts, list) or not parts or not all(isinstance(p, dict) for p in parts):
        raise ParameterError(f"The study {path} has no [[part]]; each names a probe.")
    question = content.get("question", [])
    if not isinstance(question, str | list):
        raise ParameterError(f"The study {path}: question is a text, or a list of them.")
    return Study(
        title=_text(content, "title", path.stem.replace("_", " ")),
        question=tuple([question] if isinstance(question, str) else map(str, question)),
        steps=tuple(_step(part, number, path) for number, part in enumerate(parts, start=1)),
        model=_text(content, "model", "reference"),
        images=_images(content.get("images", "planted")),
        limit=_count(content, "limit", 4, str(path)),
        seed=_count(content, "seed", 0, str(path), least=0),
    )


def _step(part: Mapping[str, Any], number: int, path: Path) -> Step:
    where = f"Part {number} of {path}"
    _known(part, _PART_KEYS, where)
    if not isinstance(part.get("probe"), str):
        raise ParameterError(f'{where} names no probe; write probe = "agree", for example.')
    values = part.get("with", {})
    if not isinstance(values, dict):
        raise ParameterError(f"{where}: `with` is a table of the probe's parameters.")
    try:
        probe = make_probe(part["probe"], **values)
    except XbenchError as error:
        raise ParameterError(f"{where}: {error}") from error
    limit = None if "limit" not in part else _count(part, "limit", 1, where)
    return Step(probe, _text(part, "title", ""), _text(part, "why", ""), limit)


def run_study(
    study: Study, model: Classifier, samples: Samples, *, tell: Tell = silent
) -> list[Part]:
    """Run every part on the study's images."""
    parts = []
    for number, step in enumerate(study.steps):
        name = step.probe.card.name
        tell(number, len(study.steps), step.title or name)
        shown = samples if step.limit is None else first(samples, step.limit)
        heading = step.title or name

        def told(done: int, total: int, what: str, heading: str = heading) -> None:
            tell(done, total, f"{heading}: {what}")

        exhibit = step.probe.value.run(model, shown, seed=study.seed, tell=told)
        parts.append(Part(exhibit, step.title, step.why, f"{number + 1}_{name}_"))
    tell(len(study.steps), len(study.steps), "written")
    return parts


def study_images(study: Study, model: Classifier) -> Samples:
    """The images of a study."""
    return read_images(study.images, model, limit=study.limit, seed=study.seed)


def _known(content: Mapping[str, Any], keys: set[str], where: str) -> None:
    for key in content:
        if key not in keys:
            raise ParameterError(f"{where} has no '{key}'; it has {', '.join(sorted(keys))}.")


def _text(content: Mapping[str, Any], key: str, default: str) -> str:
    return str(content.get(key, default))


def _images(value: object) -> tuple[str, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(str, value))
    return (str(value),)


def _count(content: Mapping[str, Any], key: str, default: int, where: str, least: int = 1) -> int:
    value = content.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ParameterError(f"{where}: {key} is a whole number of at least {least}.")
    return value
