"""Keeps the process small, its start short and its answers prompt: no certificates, a small heap, the rest of
start-up given back, long work behind short calls.

Only glibc has the two doors used here (mallopt(3), malloc_trim(3)); elsewhere nothing happens, and nothing depends on
it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import sys
import threading
import types

_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3
_LARGE_BYTES = 256 * 1024
# Of -20 (first) to 19 (last): enough to wait for the others, not so much as to starve.
_BEHIND = 5

# Where OpenSSL looks for root certificates when its caller names no place: SSL_CTX_set_default_verify_paths(3).
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def import_server() -> None:
    """Import aiohttp with no root certificates, for a process that serves on loopback. Call before any other import.

    aiohttp reads all of them twice when it is imported, a fifth of the start. What makes its own TLS context later, as
    requests does, has them as always; aiohttp's client in this process would trust nobody.
    """
    if "aiohttp" in sys.modules:
        return
    before = {name: os.environ.get(name) for name in _CERTIFICATE_VARIABLES}
    os.environ.update(dict.fromkeys(_CERTIFICATE_VARIABLES, os.devnull))
    try:
        importlib.import_module("aiohttp.web")
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def import_jsonrpcserver() -> None:
    """Import jsonrpcserver without the library that its default check of requests needs: ours is another
    (`rpc/dispatch.py`), and jsonschema with what it needs is 2 MB."""
    if "jsonrpcserver" in sys.modules or "jsonschema" in sys.modules:
        return
    names = ("jsonschema", "jsonschema.validators")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    vars(sys.modules["jsonschema.validators"])["validator_for"] = _validator_for
    try:
        importlib.import_module("jsonrpcserver")
    finally:
        for name in names:
            del sys.modules[name]


def _validator_for(_schema: object) -> type[_NoCheck]:
    return _NoCheck


class _NoCheck:
    """What jsonrpcserver makes its default check of. Whoever used that would hear of it."""

    def __init__(self, _schema: object) -> None:
        pass

    @classmethod
    def check_schema(cls, _schema: object) -> None:
        return

    def validate(self, _request: object) -> None:
        raise NotImplementedError("requests are checked by rpc/dispatch.py")


def keep_heap_small() -> None:
    """Call before the first thread starts.

    Without this each worker thread takes memory of its own from the system while what the main thread has freed lies
    idle; and once a large reply was freed, the next ones come from the heap, which keeps their room.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def give_way() -> None:
    """Call in a thread that works for long: threads that answer calls come first when there are too few processors.

    Only Linux gives each thread a priority of its own (sched(7)); threads that it starts inherit it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # Behind the main thread, whose number is the process's: a sidecar may have been started behind others.
            before = os.getpriority(os.PRIO_PROCESS, os.getpid())
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), before + _BEHIND)


def settle() -> None:
    """Call once when start-up is over: what it leaves behind is freed, what stays is never looked at again by gc."""
    gc.collect()
    gc.freeze()
    give_back()


def give_back() -> None:
    """Call from a worker thread after work that needed much memory for a moment; takes some milliseconds."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> ctypes._NamedFuncPointer | None:  # pyright: ignore[reportPrivateUsage]
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):
        return None
