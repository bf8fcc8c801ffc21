"""Saved programs: TorchScript archives and exported programs, as opaque networks."""

import os
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from xbench.errors import ModelError
from xbench.models.built import Built

SUFFIXES = (".pt", ".pth", ".ts", ".pt2")
_LOCK = threading.Lock()
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class Program(nn.Module):
    """A saved program: logits and gradients, but no layers to look into.

    The modules inside such a program run without Python, so hooks on them would be refused or
    never called; they are therefore not shown as children, and methods that need layers say so.

    Args:
        program: a loaded ScriptModule or the module of an exported program.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        for parameter in program.parameters():
            parameter.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Whatever the program returns."""
        result: Tensor = self.program(images)
        return result

    def children(self) -> Iterator[nn.Module]:
        """None."""
        return iter(())

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """The program as one."""
        yield prefix, self

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """The weights of the program."""
        return self.program.named_parameters(prefix, recurse, remove_duplicate)

    def train(self, mode: bool = True) -> Self:
        """Exported programs keep the mode they were exported in; scripts follow."""
        self.training = mode
        if isinstance(self.program, torch.jit.ScriptModule):
            self.program.train(mode)
        return self

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self.program._apply(fn)
        return self


def build_program(path: Path) -> Built:
    """A TorchScript archive or an exported program.

    Raises:
        ModelError: no such file, a mere state dict, or not loadable.
    """
    if not path.is_file():
        raise ModelError(f"There is no file '{path}'.")
    load = _load_exported if path.suffix == ".pt2" else _load_script
    if path.suffix != ".pt2" and not _is_script(path):
        raise ModelError(
            f"'{path}' holds no program; a file of weights goes with its architecture: "
            f"--model torchvision:NAME or PATH.py:FUNCTION, with --weights {path}."
        )
    try:
        program = load(path)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"'{path}' cannot be loaded as a program ({first}).") from error
    notes = [
        "A saved program has no layers to look into: methods that need them are refused.",
        "No normalization was declared: the network gets pixels in [0, 1] as they are.",
    ]
    return Built(Program(program), notes=notes)


def _is_script(path: Path) -> bool:
    """Whether an archive holds TorchScript code, decided by its table of contents alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _load_script(path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.jit.load(path, map_location="cpu")
    assert isinstance(program, nn.Module)
    return program.eval()


def _load_exported(path: Path) -> nn.Module:
    with _weights_only(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path).module()
    assert isinstance(module, nn.Module)
    return module


@contextmanager
def _weights_only() -> Iterator[None]:
    """Every torch.load inside refuses code, also where a library asks for an unrestricted one.

    torch.export.load falls back to an unrestricted unpickling; this switch is torch's own.
    """
    with _LOCK:
        before = os.environ.get(_FORCE)
        os.environ[_FORCE] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[_FORCE]
            else:
                os.environ[_FORCE] = before
