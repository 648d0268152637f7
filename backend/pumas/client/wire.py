"""JSON-RPC as values: a call to bytes, a reply to its value or to the exception that it means. No input or output here.

Both clients use it, so that they cannot differ. See https://www.jsonrpc.org/specification.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any, cast

from pumas.client import errors
from pumas.client.errors import CallFailed, Refused

_PROTOCOL = (errors.InvalidParams, errors.MethodNotFound, errors.InvalidRequest, errors.InternalError)
_ids = itertools.count(1)


def headers(token: str | None) -> dict[str, str]:
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})


def request(method: str, params: Mapping[str, Any] | None) -> bytes:
    """Parameters that are None are left out: for every method that means the default.

    Raises:
        InvalidParams: a value cannot be written as JSON.
    """
    given = {name: value for name, value in (params or {}).items() if value is not None}
    message = {"jsonrpc": "2.0", "method": method, "params": given, "id": next(_ids)}
    try:
        return json.dumps(message, allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise errors.InvalidParams(f"{method}: a parameter cannot be written as JSON: {error}.") from None


def _plain(value: object) -> Any:
    """Paths and other values with a natural text or list form, so that callers need not convert them."""
    if hasattr(value, "__fspath__"):
        return str(value)
    if isinstance(value, Mapping):
        return dict(cast(Mapping[str, Any], value))
    if isinstance(value, (set, frozenset, tuple)):
        return list(cast("tuple[Any, ...]", value))
    raise TypeError(f"{type(value).__name__} is no JSON value")


def value(status: int, body: bytes) -> Any:
    """The result that a reply carries.

    Raises:
        Refused: the reply is not JSON-RPC.
        CallFailed: the reply says that the call failed; the class tells how.
    """
    if status != 200:
        raise _refusal(status, body)
    try:
        reply = json.loads(body)
    except ValueError:
        reply = None
    if not isinstance(reply, dict):
        raise Refused("The answer is not JSON; is this a Pumas sidecar?", status)
    reply = cast(dict[str, Any], reply)
    if "error" in reply:
        raise _rpc_failure(reply["error"])
    if "result" not in reply:
        raise Refused("The answer is not a JSON-RPC reply; is this a Pumas sidecar?", status)
    return _checked(reply["result"])


def _refusal(status: int, body: bytes) -> Refused:
    text = body[:300].decode("utf-8", "replace").strip().partition("\n")[0]
    readable = "".join(c for c in text if c.isprintable())
    return Refused(f"HTTP {status}: {readable or 'no reason given'}", status)


def _rpc_failure(error: Any) -> CallFailed:
    if not isinstance(error, dict):
        return CallFailed(str(error)[:500])
    error = cast(dict[str, Any], error)
    data = cast(dict[str, Any], error["data"]) if isinstance(error.get("data"), dict) else {}
    code = error.get("code")
    return failure(
        str(data.get("kind", "")), str(error.get("message", "")), code if isinstance(code, int) else None, data
    )


def _checked(result: Any) -> Any:
    """A result with `success: false` and an `error_code` is a failure. Without a code it is an answer of its own, such
    as a batch in which some items failed."""
    if isinstance(result, dict):
        reply = cast(dict[str, Any], result)
        if reply.get("success") is False and isinstance(reply.get("error_code"), str):
            raise failure(reply["error_code"], str(reply.get("error", "")), None, reply)
    return cast(Any, result)


def failure(kind: str, message: str, code: int | None = None, details: Mapping[str, Any] | None = None) -> CallFailed:
    """The exception for a failure of this kind; a kind that this client does not know is a plain `CallFailed`."""
    from pumas.client.failures import BY_KIND

    table = BY_KIND | {known.kind: known for known in _PROTOCOL}
    return table.get(kind, CallFailed)(message or "The call failed.", code, details)
