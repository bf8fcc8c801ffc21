"""Calls of the network in half precision, and compiled; both are off unless asked for."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xbench.classifier.batching import is_out_of_memory
from xbench.errors import ParameterError

if TYPE_CHECKING:
    from xbench.classifier.classifier import Classifier

PRECISIONS: dict[str, torch.dtype | None] = {
    "float32": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def check_precision(name: str) -> None:
    """Refuse a precision that is none.

    Raises:
        ParameterError: the message lists them.
    """
    if name not in PRECISIONS:
        raise ParameterError(f"--precision takes {', '.join(PRECISIONS)}, not '{name}'.")


def casting(name: str, device: str) -> AbstractContextManager[Any]:
    """Where operations that gain by it run in a precision; weights and inputs stay float32."""
    dtype = PRECISIONS[name]
    return nullcontext() if dtype is None else torch.autocast(device, dtype=dtype)


def widened(values: Tensor) -> Tensor:
    """Half precision as float32, anything else as it is."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


class Compiled:
    """Compiled forms of a network, for passes that nobody watches and nobody differentiates.

    What cannot be compiled is said once, and runs as it is from then on.
    """

    def __init__(self) -> None:
        self.failed = False
        self._known: dict[int, tuple[nn.Module, Any]] = {}

    def __call__(self, network: nn.Module, normalized: Tensor) -> Any:
        """What the network returns."""
        if self.failed or (torch.is_grad_enabled() and normalized.requires_grad):
            return network(normalized)
        _, compiled = self._known.setdefault(
            id(network), (network, torch.compile(network, dynamic=True))
        )
        try:
            return compiled(normalized)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            self.failed = True
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warnings.warn(
                f"The model cannot be compiled ({first[:200]}); it runs without --compile.",
                stacklevel=2,
            )
            return network(normalized)


def set_precision(model: "Classifier", precision: str, *, compiled: bool = False) -> None:
    """Let a classifier run its calls in a precision, and compile what can be compiled.

    The precision becomes part of `weights_hash`, so records and maps of two are never mixed.

    Args:
        model: changed in place.
        precision: float32, bf16 or fp16.
        compiled: whether plain forward passes are compiled.

    Raises:
        ParameterError: an unknown precision.
    """
    check_precision(precision)
    model.network.precision = precision
    model.network.compiled = Compiled() if compiled else None
    model._hash = None
