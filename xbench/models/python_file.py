"""A user's own network: a function in a Python file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from xbench.classifier import Normalization
from xbench.contracts import Geometry
from xbench.errors import ModelError, XbenchError
from xbench.models.built import Built, nearest
from xbench.models.checkpoints import fit_weights, read_checkpoint
from xbench.user_files import import_file, importable

KEYS = ("mean", "std", "crop", "resize", "interpolation", "channels", "class_names", "layers")
"""What a function may say of its network, in the dictionary that it returns beside it."""


def build_python(path: Path, function: str, weights: Path | None) -> Built:
    """Call a function of a Python file that takes nothing and returns a network.

    The function (or class) returns an `nn.Module` that maps normalized images to logits, or a pair
    of it and a dictionary with any of `KEYS`: mean and std of the normalization, crop (height and
    width, or one number), resize (the short side before cropping), interpolation, channels,
    class_names (list) and layers (layer names by role).

    Args:
        path: the file; its folder is importable while it runs.
        function: the function's name.
        weights: a file of weights to load into the network, None to take it as returned.

    Raises:
        ModelError: no such file or function, or it fails, or returns something else.
    """
    module = import_file(path, ModelError)
    call = getattr(module, function, None)
    if not callable(call):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ModelError(f"'{path}' has no function '{function}'.{nearest(function, public)}")
    with importable(path.parent):
        return build_called(call, f"{function}() in '{path}'", weights, f"{path.name}:{function}")


def build_called(call: Callable[[], Any], where: str, weights: Path | None, name: str) -> Built:
    """What a function that takes nothing builds; see `build_python`.

    Args:
        call: the function.
        where: it stands, for sentences.
        weights: a file of weights, None to take the network as returned.
        name: of the model, for sentences about weights.

    Raises:
        ModelError: it fails, or returns something else than a network.
    """
    try:
        result = call()
    except XbenchError:
        raise
    except Exception as error:
        raise ModelError(
            f"{where} fails with {type(error).__name__}: {error}; it is called without arguments."
        ) from error
    network, facts = result if isinstance(result, tuple) and len(result) == 2 else (result, {})
    if not isinstance(network, nn.Module) or not isinstance(facts, Mapping):
        raise ModelError(
            f"{where} returns a {type(result).__name__}; it must return an nn.Module, or an "
            "nn.Module and a dictionary."
        )
    built = _describe(network, facts, where)
    if weights is not None:
        tensors, notes = read_checkpoint(weights)
        built.notes += notes + fit_weights(network, tensors, weights, name)
    return built


def _describe(network: nn.Module, facts: Mapping[str, Any], where: str) -> Built:
    unknown = [str(key) for key in facts if key not in KEYS]
    if unknown:
        raise ModelError(
            f"{where} says '{unknown[0]}' of its network.{nearest(unknown[0], KEYS)} "
            f"It may say {', '.join(KEYS)}."
        )
    built = Built(network, own=False)
    try:
        if "mean" in facts or "std" in facts:
            built.normalization = Normalization(_floats(facts["mean"]), _floats(facts["std"]))
        else:
            built.notes.append(
                "No normalization was declared: the network gets pixels in [0, 1] as they are."
            )
        built.geometry = _geometry(facts)
        built.class_names = [str(name) for name in facts.get("class_names", ())]
        built.layers = {str(role): str(name) for role, name in facts.get("layers", {}).items()}
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{where} describes its network wrongly ({error}); write for example mean=(0.5, 0.5, "
            "0.5), std=(0.5, 0.5, 0.5), crop=(224, 224), resize=256."
        ) from error
    return built


def _floats(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)


def _geometry(facts: Mapping[str, Any]) -> Geometry:
    crop = facts.get("crop")
    side = (crop, crop) if isinstance(crop, int) else crop
    interpolation = str(facts.get("interpolation", "bilinear"))
    if interpolation not in ("bilinear", "bicubic", "nearest"):
        raise ValueError(f"interpolation '{interpolation}'")
    return Geometry(
        crop=None if side is None else (int(side[0]), int(side[1])),
        resize=None if facts.get("resize") is None else int(facts["resize"]),
        interpolation=interpolation,
        channels=int(facts.get("channels", 3)),
    )
