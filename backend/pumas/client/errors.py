"""What a call of the client can raise. The classes for failures named by the contract are generated (`failures.py`).

`PumasError` is the base of all; `NotReachable` says that no sidecar answered, `CallFailed` and its subclasses that one
answered with a failure. No message holds a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class PumasError(Exception):
    """Base of everything that the client raises on purpose."""

    kind: ClassVar[str] = "client_error"


class NotReachable(PumasError):
    """No sidecar answers: none runs, it could not be started, or it went away. The message says what to do."""

    kind = "not_reachable"


class Refused(PumasError):
    """Something answered, but not with JSON-RPC: a wrong token, or a program that is no Pumas sidecar.

    `status` is the HTTP status.
    """

    kind = "refused"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class WaitTimedOut(PumasError):
    """`wait_for_job` reached its time limit; the job goes on."""

    kind = "wait_timed_out"


class CallFailed(PumasError):
    """The sidecar answered that the call failed.

    `code` is the JSON-RPC error code, or None for a reply with `success: false`; `details` is the rest of what it said
    (`data` of the error, or the whole reply).
    """

    kind = "operation_failed"

    def __init__(self, message: str, code: int | None = None, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.details: Mapping[str, Any] = details or {}


class InvalidParams(CallFailed):
    """A parameter is missing, unknown, or of the wrong type; the message names it."""

    kind = "invalid_params"


class MethodNotFound(CallFailed):
    """The sidecar has no such method; it may be older than this client."""

    kind = "method_not_found"


class InvalidRequest(CallFailed):
    """The sidecar could not read the request."""

    kind = "invalid_request"


class InternalError(CallFailed):
    """A bug in the sidecar; its log (launcher-data/logs/launcher.log) has the details."""

    kind = "internal_error"
