"""Work spread over the cores that torch uses."""

import ctypes
import itertools
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Work = Callable[[slice], None]


def over_cores(work: Work, count: int) -> None:
    """Call work that lets go of the interpreter's lock on slices of `count` rows, one a core.

    On the threads of torch itself where they can be had: for milliseconds after an operation they
    keep their cores busy waiting for the next one, and threads of ours would get half of a core.
    """
    workers = min(torch.get_num_threads(), count)
    if workers < 2:
        work(slice(0, count))
        return
    ends = np.linspace(0, count, min(4 * workers, count) + 1).round().astype(int).tolist()
    parts = [slice(a, b) for a, b in itertools.pairwise(ends)]
    team = _team()
    if team is None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, parts))
        return
    errors: list[Exception] = []
    left = iter(parts)

    def member(_: Any) -> None:
        for part in left:
            try:
                work(part)
            except Exception as error:
                errors.append(error)

    team(_MEMBER(member), None, workers, 0)
    if errors:
        raise errors[0]


def fill_rows(loops: Callable[..., None], found: Tensor, *given: Tensor) -> Tensor:
    """Let compiled loops fill a tensor on the CPU, with rows of others given, on all cores.

    Args:
        loops: called as loops(*rows of the given, rows to fill), numpy arrays.
        found: (N, ...), contiguous.
        given: (N, ...) each.
    """
    arrays = [one.detach().contiguous().numpy() for one in (*given, found)]
    over_cores(lambda part: loops(*(array[part] for array in arrays)), len(found))
    return found


_MEMBER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _team() -> Callable[..., None] | None:
    """GNU OpenMP's call of a function by all threads of a team, of the library that torch loads."""
    if not sys.platform.startswith("linux"):
        return None
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        try:
            call: Callable[..., None] = ctypes.CDLL(str(path)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        call.argtypes = [_MEMBER, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]  # type: ignore[attr-defined]
        call.restype = None  # type: ignore[attr-defined]
        return call
    return None
