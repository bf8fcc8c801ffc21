"""Loops over arrays, compiled at first use (numba)."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile loops over arrays: without the interpreter's lock, kept on disk for the next process.

    Sums may be taken in another order than written, so that they are vectorized.
    """
    compiled = numba.njit(nogil=True, cache=True, fastmath=True, error_model="numpy")(function)
    return cast(Function, compiled)
