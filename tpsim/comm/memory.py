"""Keeping the memory that a rank was given."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_NEVER = 1 << 30  # bytes


def keep_memory() -> bool:
    """Let the C library keep memory that is freed, for the next step to use; tell whether it does.

    By default glibc gives large arrays back to the system as soon as they are freed. A training step frees
    its activations, and the next one gets as many new pages, each by a fault and filled with zeros: that
    takes as long as a pass over them or several. Up to 1 GiB of what is free stays with the process.
    Elsewhere than on Linux with glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _NEVER) and mallopt(_M_TRIM_THRESHOLD, _NEVER))
