"""The Python client of a Pumas sidecar: `PumasClient` and `AsyncPumasClient`, their errors and events.

The two clients are imported when they are first named, so that neither pays for the other's HTTP library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pumas.client.discovery import default_root
from pumas.client.errors import (
    CallFailed,
    InternalError,
    InvalidParams,
    InvalidRequest,
    MethodNotFound,
    NotReachable,
    PumasError,
    Refused,
    WaitTimedOut,
)
from pumas.client.sse import Event

if TYPE_CHECKING:
    from pumas.client.asynchronous import AsyncPumasClient
    from pumas.client.sync import PumasClient

__all__ = [
    "AsyncPumasClient",
    "CallFailed",
    "Event",
    "InternalError",
    "InvalidParams",
    "InvalidRequest",
    "MethodNotFound",
    "NotReachable",
    "PumasClient",
    "PumasError",
    "Refused",
    "WaitTimedOut",
    "default_root",
]


def __getattr__(name: str) -> Any:
    if name == "PumasClient":
        from pumas.client.sync import PumasClient

        return PumasClient
    if name == "AsyncPumasClient":
        from pumas.client.asynchronous import AsyncPumasClient

        return AsyncPumasClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
