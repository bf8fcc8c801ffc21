"""`PATH.py:NAME`: what a user's file has under that name, as a method."""

import difflib
from pathlib import Path
from types import ModuleType
from typing import Any

from xbench.classifier import Classifier
from xbench.contracts import Method
from xbench.errors import ParameterError, XbenchError
from xbench.plugins.foreign import foreign_method
from xbench.plugins.functions import FunctionMethod, is_function, measured, method_class, register
from xbench.registry import METHODS, Chosen
from xbench.running.guard import Guard
from xbench.user_files import import_file


def load_method(text: str) -> type[Method]:
    """The method class that `PATH.py:NAME` means; a function becomes one.

    Args:
        text: the file, a colon, and a function, a class, or a captum or grad-cam object; the name
            may be left out where the file has only one function or method.

    Raises:
        XbenchError: no such file or name, it fails, or it is no method; one sentence.
    """
    path, name = split_spec(text)
    module = import_file(path)
    found = getattr(module, name, None) if name else _only(module, path)
    if found is None:
        near = difflib.get_close_matches(name, _public(module), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise XbenchError(f"'{path}' has no '{name}'.{hint} It has {_listed(_public(module))}.")
    return as_class(found, name)


def as_class(found: Any, name: str = "") -> type[Method]:
    """The method class of a class, a function or another library's object.

    Raises:
        XbenchError: it is none of these.
    """
    if isinstance(found, type) and issubclass(found, Method):
        return found
    foreign = foreign_method(found, name)
    if foreign is not None:
        return foreign
    if is_function(found):
        return method_class(found)
    raise XbenchError(
        f"'{name or found}' is a {type(found).__name__} and no saliency method; write a function "
        "`(model, images, targets)` that returns maps, or a class of `xbench.contracts.Method`."
    )


def enter(kind: type[Method], model: Classifier, images: Any) -> Chosen[Method]:
    """Register a method class, a function's with what a trial on these images shows.

    Raises:
        XbenchError: its name is taken, it has no card, or the function fails.
    """
    if issubclass(kind, FunctionMethod):
        guard = Guard(model)
        try:
            kind = measured(kind, model, images)
        finally:
            guard.harm()  # puts the model right again; `xbench.conformance` is who reports it
    return METHODS.create(register(kind, replacing=True))


def anew(text: str, known: Method) -> Method:
    """The method of `PATH.py:NAME` from a fresh import, without the state that its file may keep.

    Args:
        text: as in `load_method`.
        known: the method as it was entered.
    """
    kind = load_method(text)
    if isinstance(known, FunctionMethod) and issubclass(kind, FunctionMethod):
        kind = kind.variant(alone=type(known).alone)
    return kind()


def split_spec(text: str) -> tuple[Path, str]:
    """The file and the name of `PATH.py:NAME`; the name is empty where there is none.

    Raises:
        ParameterError: it is not of that form.
    """
    path, colon, name = text.rpartition(":")
    if not colon:
        path, name = text, ""
    if not path.endswith(".py") or (name and not name.isidentifier()):
        raise ParameterError(
            f"'{text}' is not of the form PATH.py:NAME; write for example mine.py:my_method."
        )
    return Path(path), name


def _only(module: ModuleType, path: Path) -> Any:
    own = {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        if (isinstance(value, type) and issubclass(value, Method)) or is_function(value)
    }
    if len(own) != 1:
        raise XbenchError(
            f"'{path}' has {len(own)} functions and methods; say which one: {path}:NAME."
        )
    return next(iter(own.values()))


def _public(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(names)) or "no function or class of its own"
