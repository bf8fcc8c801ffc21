"""Libraries that not everybody has, and libraries that draw from global random state."""

import hashlib
import importlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

from xbench.errors import UnsupportedError


class Optional:
    """A module imported at first use; where that fails, only what needs it is refused.

    Attributes:
        name: the module's dotted name.
        hint: what to install.
    """

    def __init__(self, name: str, hint: str) -> None:
        self.name = name
        self.hint = hint
        self._module: ModuleType | None = None
        self._reason: str | None = None

    @property
    def reason(self) -> str | None:
        """None if the module is there, else one sentence why it is not and what to do."""
        self._load()
        return self._reason

    def _load(self) -> None:
        if self._module is not None or self._reason is not None:
            return
        try:
            self._module = importlib.import_module(self.name)
        except Exception as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            self._reason = f"{self.name} cannot be imported ({first}); {self.hint}."

    def __getattr__(self, attribute: str) -> Any:
        self._load()
        if self._module is None:
            raise UnsupportedError(self._reason or f"{self.name} is missing.")
        return getattr(self._module, attribute)


def optional(name: str, hint: str = "") -> Optional:
    """A handle on a module that may be missing.

    Args:
        name: dotted module name, for example "captum.attr".
        hint: what to do where it is missing, default `pip install <top-level name>`.
    """
    return Optional(name, hint or f"install it with `pip install {name.partition('.')[0]}`")


def random_state() -> str:
    """A hash of the global random state of python, numpy and torch, to see who draws from it."""
    state = (random.getstate(), np.random.get_state(), torch.get_rng_state().tolist())  # noqa: NPY002
    return hashlib.sha256(repr(state).encode()).hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators for a library that uses them, and restore their state after."""
    python, numpy_state, torch_state = (
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002
        torch.get_rng_state(),
    )
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
