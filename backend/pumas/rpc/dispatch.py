"""One JSON-RPC message in, one reply out (https://www.jsonrpc.org/specification). Knows nothing of HTTP.

jsonrpcserver reads a call, runs its method and shapes the response. Envelope checks, batches and error texts are ours:
the library validates with a slow JSON schema and answers a batch of junk with one error. Parameters are the row's to
check; the library's own look at the function's signature would say less and cost more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, cast

from jsonrpcserver import Success
from jsonrpcserver.async_dispatcher import call as call_method
from jsonrpcserver.dispatcher import create_request, to_response
from jsonrpcserver.exceptions import JsonRpcError
from jsonrpcserver.response import to_serializable
from jsonrpcserver.result import Result
from jsonrpcserver.sentinels import NOCONTEXT, NOID

from pumas.rpc import errors as wire
from pumas.rpc.jsontext import JsonRefused, NumberTooLarge, decode, encode
from pumas.rpc.registry import Methods, Row, RpcFailure
from pumas.rpc.wrap import is_builtin

log = logging.getLogger(__name__)

MAX_BATCH = 100
MAX_IN_FLIGHT = 64
# A call that has not answered by then is answered for; the work behind it goes on. Long work is a job, so this is
# only met by a bug or a dead disk.
CALL_TIMEOUT_S = 30.0
LARGE_BODY = 64 * 1024

Json = dict[str, Any]
Bound = Callable[..., Awaitable["Result"]]


class Dispatcher:
    """Answers messages with the rows of a `Methods` table."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self._bound: dict[str, Bound] = {}
        self._in_flight = 0

    async def reply(self, body: bytes) -> bytes | None:
        """The reply's bytes, or None when there is nothing to say (notifications)."""
        try:
            # A large text takes long to read; in a thread it does so beside the other calls.
            message = decode(body) if len(body) <= LARGE_BODY else await asyncio.to_thread(decode, body)
        except NumberTooLarge as error:
            return encode(_error(wire.invalid_params([("", str(error))]), _usable_id(error.without_numbers)))
        except JsonRefused as error:
            return encode(_error(wire.parse_error(str(error)), None))
        answer = await (self._batch(cast(list[Any], message)) if isinstance(message, list) else self._one(message))
        return None if answer is None else _encoded(answer)

    async def _batch(self, messages: list[Any]) -> list[Json] | Json | None:
        if not messages:
            return _error(wire.invalid_request("the batch is empty"), None)
        if len(messages) > MAX_BATCH:
            return _error(wire.invalid_request(f"a batch may hold at most {MAX_BATCH} calls"), None)
        answers = [answer for message in messages if (answer := await self._one(message)) is not None]
        return answers or None

    async def _one(self, message: Any) -> Json | None:
        problem = _envelope_problem(message)
        if problem is not None:
            return _error(problem, _usable_id(message))
        params = message.get("params")
        if params is not None and not isinstance(params, dict):
            named = wire.invalid_params([("", "parameters are named: params must be an object")])
            return _error(named, message["id"]) if "id" in message else None
        name: str = message["method"]
        if self._in_flight >= MAX_IN_FLIGHT and not is_builtin(name):
            refused = wire.busy(f"{MAX_IN_FLIGHT} calls are in flight; try again in a moment")
            return _error(refused, message["id"]) if "id" in message else None
        self._in_flight += 1
        try:
            # One positional argument: as keywords, names such as `self` would collide with Python's own.
            request = create_request({**message, "params": [params or {}]})
            method = self._bound.get(name) or await self._bind(name)
            result = await call_method(request, NOCONTEXT, method)  # pyright: ignore[reportArgumentType] - it awaits
            return _to_wire(to_response(request, result)) if request.id is not NOID else None
        finally:
            self._in_flight -= 1

    async def _bind(self, name: str) -> Bound:
        if not self._methods.is_loaded(name):
            await asyncio.to_thread(self._methods.load, name)
        row = self._methods.get(name)
        if row is None:
            return _refusal(wire.method_not_found(name))
        bound = self._bound[name] = _bind(row)
        return bound


def _refusal(error: wire.WireError) -> Bound:
    async def refuse(_params: Json) -> Result:
        raise JsonRpcError(error.code, error.message, error.data)

    return refuse


def _bind(row: Row) -> Bound:
    async def call(params: Json) -> Result:
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return Success(await row(params))
        except RpcFailure as failure:
            raise JsonRpcError(failure.error.code, failure.error.message, failure.error.data) from failure
        except TimeoutError:
            error = wire.busy(f"{row.name} took longer than {CALL_TIMEOUT_S:.0f} s")
            log.error("%s gave no answer in %.0f s", row.name, CALL_TIMEOUT_S)
            raise JsonRpcError(error.code, error.message, error.data) from None

    async def builtin(_params: Json) -> Result:
        return Success(await row({}))

    return builtin if row.wrapper.kind == "builtin" else call


def _envelope_problem(message: Any) -> wire.WireError | None:
    if not isinstance(message, dict):
        return wire.invalid_request("a call is a JSON object")
    message = cast(Json, message)
    # Older clients leave the version out; a wrong one is a different protocol.
    if message.get("jsonrpc", "2.0") != "2.0":
        return wire.invalid_request('jsonrpc must be "2.0"')
    method = message.get("method")
    if not isinstance(method, str) or not method:
        return wire.invalid_request("method must be a non-empty string")
    if not _is_id(message.get("id")):
        return wire.invalid_request("id must be a string, a number or null")
    return None


def _is_id(value: Any) -> bool:
    return value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool))


def _usable_id(message: Any) -> Any:
    value = cast(Json, message).get("id") if isinstance(message, dict) else None
    return value if _is_id(value) else None


def _error(error: wire.WireError, request_id: Any) -> Json:
    return {"jsonrpc": "2.0", "error": error.to_object(), "id": request_id}


def _encoded(answer: Json | list[Json]) -> bytes:
    """A result that has no JSON form is a bug of its method, and an internal error for that call alone."""
    try:
        return encode(answer)
    except TypeError:
        if isinstance(answer, list):
            return b"[%s]" % b",".join(_encoded(one) for one in answer)
        log.exception("a result has no JSON form")
        return encode(_error(wire.internal_error(), answer["id"]))


def _to_wire(response: Any) -> Json:
    answer = cast(Json, to_serializable(response))
    error = answer.get("error")
    if error is not None and not isinstance(error.get("data"), dict):
        # Only the library's own words arrive here without data.kind; its texts may quote internals.
        log.error("jsonrpcserver failed: %s", error.get("message"))
        answer["error"] = wire.internal_error().to_object()
    return answer
