"""Freed main memory is kept for the next batch instead of going back to the system.

Every model call allocates and frees activations of many megabytes. The C library of Linux asks the
system for each of them anew, and the system clears every page again; on MobileNetV2 at 224x224 that
took up to half of the time of a batch of 32.
"""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of glibc's mallopt
KEPT = 2**30  # bytes of freed memory that a process may hold at most
PAD = 2**26  # bytes by which the heap grows


def keep_freed_memory() -> bool:
    """Ask the C library to keep up to 1 GiB of freed memory; False where it is not glibc.

    It concerns the whole process, so the command line asks for it and importing xbench does not.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl and others decide for themselves
        return False
    pairs = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, KEPT), (_TOP_PAD, PAD))
    return all(bool(mallopt(name, value)) for name, value in pairs)
