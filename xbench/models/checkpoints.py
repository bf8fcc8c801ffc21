"""Weights from files: read without running code, names brought in line, misfits explained."""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from xbench.errors import ModelError

CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
)
"""Keys under which training scripts put the weights beside optimizer and epoch."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "state_dict.")
"""What wrappers (DataParallel, torch.compile, Lightning ...) put before the names of weights."""

_NESTED = 3  # wrappers around wrappers
_IGNORED = ("num_batches_tracked", "total_ops", "total_params")


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a weights file, by name.

    A pickle is read by a loader that makes tensors and plain containers only, so a file with code
    in it is refused and does not run.

    Args:
        path: safetensors, or a state dict that torch.save wrote (alone or inside a checkpoint).

    Returns:
        The tensors, and what was unwrapped, one sentence each.

    Raises:
        ModelError: no such file, unreadable, or more than tensors in it.
    """
    if not path.is_file():
        raise ModelError(f"There is no weights file '{path}'.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    notes: list[str] = []
    for _ in range(3):
        if not isinstance(content, Mapping):
            break
        inner = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
        notes.append(f"The weights were taken from '{inner}' of the checkpoint.")
    if not isinstance(content, Mapping):
        raise ModelError(
            f"'{path}' holds a {type(content).__name__}, not a state dict; save the weights with "
            "torch.save(model.state_dict(), FILE)."
        )
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ModelError(
            f"'{path}' holds no tensors by name (its keys: {_some(map(str, content))}); save the "
            "weights with torch.save(model.state_dict(), FILE)."
        )
    broken = [key for key, value in tensors.items() if not _finite(value)]
    if broken:
        raise ModelError(f"The weights in '{path}' are not finite ({_some(broken)}).")
    return tensors, notes


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except Exception as error:
        raise ModelError(f"'{path}' is no readable safetensors file ({error}).") from error


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"'{path}' holds more than tensors, which could run code, so it was not loaded; save "
            "the weights alone with torch.save(model.state_dict(), FILE), or as safetensors."
        ) from error
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"'{path}' cannot be read as weights ({first}).") from error


def fit_weights(
    module: nn.Module, tensors: Mapping[str, Tensor], path: Path, name: str
) -> list[str]:
    """Load tensors into a module: wrappers' prefixes dropped, half precision cast.

    Args:
        module: receives the weights.
        tensors: from `read_checkpoint`.
        path: the file, for messages.
        name: the model, for messages.

    Returns:
        What was repaired, one sentence each.

    Raises:
        ModelError: names or shapes do not fit; the message says which.
    """
    wanted = module.state_dict()
    renamed, notes = rename(tensors, wanted)
    missing = [key for key in wanted if key not in renamed and not _ignored(key)]
    strange = [key for key in renamed if key not in wanted and not _ignored(key)]
    shapes = mismatches(renamed, wanted)
    if missing or strange or shapes:
        raise ModelError(_misfit(path, name, missing, strange, shapes))
    casts = {
        str(value.dtype).removeprefix("torch.")
        for key, value in renamed.items()
        if key in wanted and value.is_floating_point() and value.dtype != wanted[key].dtype
    }
    if casts:
        notes.append(f"The weights were cast from {' and '.join(sorted(casts))} to float32.")
    module.load_state_dict(
        {key: value for key, value in renamed.items() if key in wanted}, strict=False
    )
    return notes


def rename(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Any]
) -> tuple[dict[str, Tensor], list[str]]:
    """Drop (or add) the prefixes of wrappers where more names fit with than without.

    Returns:
        The tensors under their new names, and what was done, one sentence each.
    """
    best: tuple[dict[str, Tensor], list[str]] = (dict(tensors), [])
    frontier = [best]
    for _ in range(_NESTED):
        frontier = [step for named, notes in frontier for step in _steps(named, notes)]
        best = max([best, *frontier], key=lambda found: _hits(found[0], wanted))
    return best


def _steps(
    named: dict[str, Tensor], notes: list[str]
) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
    for prefix in PREFIXES:
        dropped = {key.removeprefix(prefix): value for key, value in named.items()}
        if dropped.keys() != named.keys() and len(dropped) == len(named):
            yield dropped, [*notes, f"The prefix '{prefix}' was dropped from the weights' names."]
        if not notes:
            added = {prefix + key: value for key, value in named.items()}
            yield added, [f"The prefix '{prefix}' was put before the weights' names."]


def mismatches(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """The names that both have with different shapes."""
    return [
        key for key, value in tensors.items() if key in wanted and value.shape != wanted[key].shape
    ]


def _hits(tensors: Mapping[str, Any], wanted: Mapping[str, Any]) -> int:
    return sum(key in wanted for key in tensors)


def _misfit(
    path: Path, name: str, missing: list[str], strange: list[str], shapes: list[str]
) -> str:
    parts = [
        f"{len(keys)} {what} ({_some(keys)})"
        for keys, what in (
            (missing, "missing"),
            (strange, "unexpected"),
            (shapes, "of another shape"),
        )
        if keys
    ]
    return (
        f"The weights in '{path}' are not of {name}: {', '.join(parts)}; give the architecture "
        "that they were trained with."
    )


def _some(keys: Any) -> str:
    names = list(keys)
    return ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")


def _ignored(key: str) -> bool:
    return key.rpartition(".")[2] in _IGNORED


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())
