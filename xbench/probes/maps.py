"""Maps of several methods on the same images, refusals kept as sentences; classes by name."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from xbench.classifier import Classifier
from xbench.contracts import Method, Samples
from xbench.errors import InvalidMapError, ParameterError, UnsupportedError
from xbench.explaining import explain_samples
from xbench.probes.contract import Tell, silent
from xbench.registry import METHODS, Chosen

DEFAULT_METHODS = "gradcam,integrated_gradients[n_steps=20],smoothgrad[n_samples=20],occlusion"


@dataclass(frozen=True)
class Maps:
    """Maps of several methods.

    Attributes:
        maps: float32 (N, H, W) on the CPU by method, methods in the order asked for.
        signed: whether a method's maps are signed.
        refused: the sentence why a method gave none.
    """

    maps: Mapping[str, Tensor]
    signed: Mapping[str, bool]
    refused: Mapping[str, str] = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """What was refused, for the caption."""
        return [f"{label} gave no maps: {reason}" for label, reason in self.refused.items()]


def choose(methods: str, least: int = 1) -> list[Chosen[Method]]:
    """The methods of a list of names.

    Raises:
        ParameterError: fewer than `least`.
    """
    chosen = METHODS.select(methods)
    if len(chosen) < least:
        raise ParameterError(f"This needs {least} methods or more; '{methods}' names one.")
    return chosen


def explain_all(
    model: Classifier,
    samples: Samples,
    methods: Sequence[Chosen[Method]],
    classes: Tensor,
    *,
    seed: int,
    tell: Tell = silent,
) -> Maps:
    """Maps of every method on the images for classes int64 (N,).

    Raises:
        UnsupportedError: no method at all can run here.
    """
    maps: dict[str, Tensor] = {}
    signed: dict[str, bool] = {}
    refused: dict[str, str] = {}
    for number, method in enumerate(methods):
        tell(number, len(methods), method.label)
        try:
            found = explain_samples(model, samples, method, classes.to(model.device), seed)
        except (UnsupportedError, InvalidMapError) as error:
            refused[method.label] = str(error)
            continue
        maps[method.label] = found.cpu()
        signed[method.label] = method.card.signed
    tell(len(methods), len(methods), "maps")
    if not maps:
        raise UnsupportedError(next(iter(refused.values()), "No method was asked for."))
    return Maps(maps, signed, refused)


def class_name(model: Classifier, index: int) -> str:
    """The name of a class, or its number."""
    if 0 <= index < len(model.class_names):
        return str(model.class_names[index])
    return f"class {index}"


def class_index(model: Classifier, samples: Samples, text: str) -> int:
    """The class of a number or a name.

    Raises:
        ParameterError: the model has no such class; the message offers the nearest names.
    """
    count = model.classes(samples.images[:1].to(model.device))
    if text.strip().lstrip("-").isdecimal():
        index = int(text)
        if 0 <= index < count:
            return index
        raise ParameterError(f"The model has {count} classes, 0 to {count - 1}; {index} is none.")
    names = [name.lower() for name in model.class_names]
    wanted = text.strip().lower()
    found = [i for i, name in enumerate(names) if wanted in (name, name.partition(",")[0])]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise ParameterError(
            f"Several classes are called '{text}': {', '.join(map(str, found))}; give the number."
        )
    near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ParameterError(
        f"The model has no class '{text}'.{hint} Give its name or a number from 0 to {count - 1}."
    )


def predicted(model: Classifier, samples: Samples) -> tuple[Tensor, Tensor]:
    """Most probable class int64 (N,) and its probability float32 (N,), on the CPU."""
    confidence, classes = model.probabilities(samples.images.to(model.device)).cpu().max(dim=1)
    return classes, confidence


def spread_of(samples: Samples, rows: int) -> Samples:
    """One image repeated, for several classes of it."""
    return Samples(
        images=samples.images[:1].expand(rows, -1, -1, -1),
        labels=samples.labels[:1].expand(rows),
        ids=[samples.ids[0]] * rows,
    )


def replaced(samples: Samples, images: Tensor) -> Samples:
    """The same image or images with other pixels; the identifiers (and so the draws) are kept."""
    ids = [samples.ids[min(row, len(samples) - 1)] for row in range(len(images))]
    return Samples(images=images, labels=torch.full((len(images),), -1), ids=ids)
