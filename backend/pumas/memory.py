"""Keeps the process small: C's allocator shares one arena between threads and gives back what start-up no longer needs.

Only glibc has these two doors (mallopt(3), malloc_trim(3)); elsewhere nothing happens, and nothing depends on it.
"""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8


def share_one_arena() -> None:
    """Call before the first thread starts. Without this each worker thread takes memory of its own from the system
    while what the main thread has freed lies idle."""
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def settle() -> None:
    """Call once when start-up is over: what it leaves behind is freed, what stays is never looked at again by gc."""
    gc.collect()
    gc.freeze()
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> ctypes._NamedFuncPointer | None:  # pyright: ignore[reportPrivateUsage]
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):
        return None
