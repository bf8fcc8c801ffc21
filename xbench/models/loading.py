"""From what a user writes after --model to a classifier."""

from collections.abc import Mapping
from pathlib import Path

import torch

from xbench import names
from xbench.classifier import Classifier, Normalization
from xbench.contracts import Geometry
from xbench.errors import ModelError, ParameterError, XbenchError
from xbench.models.built import Built, nearest
from xbench.models.devices import resolve_device
from xbench.models.exact import STRUCTURES, build_exact
from xbench.models.hub import build_hub
from xbench.models.own import own_models
from xbench.models.programs import SUFFIXES, build_program
from xbench.models.python_file import build_python
from xbench.models.reference import SIBLINGS, VARIANTS, build_reference
from xbench.models.zoo import build_timm, build_torchvision, torchvision_names
from xbench.optional import seeded

KINDS = {
    "reference": "the shipped classifier of planted scenes; also " + ", ".join(SIBLINGS),
    "exact:NAME": "a closed-form network with known attribution: " + ", ".join(STRUCTURES),
    "torchvision:NAME": "a torchvision classifier, for example torchvision:resnet50",
    "timm:NAME": "a timm classifier (needs timm), for example timm:convnext_tiny",
    "hf:NAME": "an image classifier of the Hugging Face hub (needs transformers), or its folder",
    "PATH.py:FUNCTION": "a function of a Python file that returns an nn.Module",
    "NAME": "models/NAME.py of a catalogue of your own, or an entry point `xbench.models`",
    "PATH.pt2": "an exported program, or a TorchScript archive (.pt, .ts)",
}
"""What can be written after --model, with a sentence each."""


def load_classifier(
    spec: str,
    *,
    weights: Path | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    layers: Mapping[str, str] | None = None,
    normalization: Normalization | None = None,
    geometry: Geometry | None = None,
) -> Classifier:
    """The classifier of a specification; `Classifier.notes` tells what was assumed or repaired.

    Args:
        spec: see `KINDS`.
        weights: a file of weights (safetensors, or a state dict), None for the model's own.
        device: auto, cpu, cuda or cuda:0.
        batch_size: rows a model call, None measures the fastest.
        layers: layer names by role, before those that the model brings.
        normalization: instead of the model's own.
        geometry: instead of the model's own.

    Raises:
        ModelError: unknown model, missing or misfitting weights.
        ParameterError: a device that is not there, or a parameter that the model does not take.
    """
    where = resolve_device(device)
    if batch_size is not None and batch_size < 1:
        raise ParameterError("A batch has at least 1 image; give auto or a positive number.")
    with seeded(0):  # layers are drawn before weights are loaded, and by some never replaced
        built = build(spec.strip(), Path(weights).expanduser() if weights is not None else None)
    normalization = normalization or built.normalization
    geometry = geometry or built.geometry or Geometry()
    _check_channels(normalization, geometry)
    classifier = Classifier(
        built.module,
        name=spec.strip(),
        normalization=normalization,
        geometry=geometry,
        class_names=built.class_names,
        device=where,
        batch_size=batch_size,
        layers={**built.layers, **(layers or {})},
        own=built.own,
    )
    classifier.notes = list(built.notes)
    classifier.masked_training = built.masked_training
    _probe(classifier)
    return classifier


def _probe(classifier: Classifier) -> None:
    """One black image through the network, so that misfits are a sentence and not a traceback."""
    geometry, names_of = classifier.geometry, classifier.class_names
    if geometry.crop is None:
        return
    shape = (geometry.channels, *geometry.crop)
    try:
        classes = classifier.classes(torch.zeros(1, *shape, device=classifier.device))
    except XbenchError:
        raise
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"The model cannot take an image of {' x '.join(map(str, shape))} ({first}); give its "
            "input size and channels."
        ) from error
    if names_of and len(names_of) != classes:
        raise ModelError(
            f"'{classifier.name}' names {len(names_of)} classes, but the model returns {classes} "
            "logits."
        )


def build(spec: str, weights: Path | None) -> Built:
    """The network of a specification, on the CPU.

    Raises:
        ModelError: see `load_classifier`.
    """
    path, _, function = spec.rpartition(":")
    if path.endswith(".py"):
        return build_python(Path(path).expanduser(), function, weights)
    if spec.endswith(".py"):
        raise ModelError(f"Say which function of '{spec}' builds the model: {spec}:FUNCTION.")
    if spec.endswith(SUFFIXES) and ":" not in spec:
        if weights is not None:
            raise ModelError(f"'{spec}' carries its own weights; leave out --weights.")
        return build_program(Path(spec).expanduser())
    return _by_name(spec, weights)


def _by_name(spec: str, weights: Path | None) -> Built:
    try:
        head, argument, parameters = names.parse(spec)
    except ParameterError:
        raise ModelError(_unknown(spec)) from None
    if head in VARIANTS and argument is None and not parameters:
        return build_reference(head, weights)
    if head == "exact" and argument and not parameters and weights is None:
        return build_exact(argument)
    if head == "torchvision" and argument:
        return build_torchvision(argument, weights, parameters)
    if head == "hf" and argument and not parameters:
        return build_hub(argument, weights)
    if head == "timm" and argument:
        if parameters:
            raise ParameterError(f"timm:{argument} takes no parameters in brackets.")
        return build_timm(argument, weights)
    if not argument and not parameters and (own := own_models().get(head)) is not None:
        return own(weights)
    raise ModelError(_unknown(spec))


def _unknown(spec: str) -> str:
    hint = nearest(spec, (*VARIANTS, *own_models())) or nearest(
        spec, torchvision_names(), "torchvision:"
    )
    return f"There is no model '{spec}'.{hint} Write {', '.join(KINDS)}."


def _check_channels(normalization: Normalization | None, geometry: Geometry) -> None:
    if normalization is None:
        return
    for values in (normalization.mean, normalization.std):
        if len(values) not in (1, geometry.channels):
            raise ParameterError(
                f"The normalization has {len(values)} channels, the input {geometry.channels}."
            )
    if any(value <= 0 for value in normalization.std):
        raise ParameterError("The standard deviations of a normalization are positive.")
