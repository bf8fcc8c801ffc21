"""What the C library does with freed memory while peers run as their users run them."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from xbench.allocator import keep_freed_memory

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4  # names of mallopt
_USUAL = (
    (_MMAP_THRESHOLD, 2**25),  # where glibc's own adjustment ends up in a program like this
    (_TRIM_THRESHOLD, 2**26),
    (_TOP_PAD, 2**17),
    (_MMAP_MAX, 65536),
)


@contextmanager
def usual_memory() -> Iterator[None]:
    """Large blocks go back to the system when they are freed, as in any Python program."""
    if sys.platform.startswith("linux"):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for name, value in _USUAL:
            mallopt(name, value)
    try:
        yield
    finally:
        keep_freed_memory()
