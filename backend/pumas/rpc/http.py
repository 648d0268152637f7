"""The HTTP server: `POST /rpc`, `GET /health`, `GET /events`, and the order of checks before any of them.

Framing (aiohttp's strict parser) -> Host -> Origin -> token or user -> path -> content type and encoding -> length ->
body with a deadline -> JSON-RPC. Up to the length a refusal is an HTTP status; after it everything is a JSON-RPC
reply with HTTP 200.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, cast

from aiohttp import hdrs, web
from multidict import CIMultiDict

from pumas.events.stream import EventStream
from pumas.rpc import access, peers
from pumas.rpc.connections import COMMON_HEADERS, Connection, ConnectionServer
from pumas.rpc.sse import serve_events

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024
# All bodies that are being received at one time, so that many half-sent ones cannot fill the memory.
MAX_BUFFERED_BYTES = 96 * 1024 * 1024
BODY_DEADLINE_S = 20.0
BACKLOG = 2048
LARGE_REPLY_BYTES = 1024 * 1024
WRITE_BYTES = 256 * 1024
# A caller that takes nothing of a large reply for this long is gone.
WRITE_DEADLINE_S = 20.0

_HEALTH = b'{"status":"ok"}'
_JSON_HEADERS = CIMultiDict(COMMON_HEADERS | {"Content-Type": "application/json"})


class Replies(Protocol):
    async def reply(self, body: bytes) -> bytes | None: ...


Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpServer:
    """Listens, guards, and hands bodies to the dispatcher once that is ready.

    The port is open before the method table is built, so that a shell learns it at once; calls wait for `ready`.
    """

    def __init__(self, *, token: str | None, events: EventStream) -> None:
        self._token = token
        self._events = events
        self._guard: access.Guard | None = None
        self._dispatcher: asyncio.Future[Replies] | None = None
        self._buffered = 0
        self._server: asyncio.Server | None = None
        self._connections: ConnectionServer | None = None
        self._stopping = asyncio.Event()
        self._routes: Mapping[str, tuple[str, Route]] = {
            "/rpc": (hdrs.METH_POST, self._rpc),
            "/health": (hdrs.METH_GET, self._health),
            "/events": (hdrs.METH_GET, self._event_stream),
        }

    async def listen(self, host: str, port: int) -> int:
        """Bind and return the port. Raises OSError when it is taken."""
        loop = asyncio.get_running_loop()
        self._dispatcher = loop.create_future()
        self._connections = ConnectionServer(self._handle)
        self._server = await loop.create_server(
            self._connections, host, port, backlog=BACKLOG, reuse_address=True, start_serving=False
        )
        bound = cast(int, self._server.sockets[0].getsockname()[1])
        extra = [] if host in access.LOOPBACK_NAMES else _own_addresses(host)
        self._guard = access.Guard(bound, self._token, extra)
        await self._server.start_serving()
        return bound

    def ready(self, dispatcher: Replies) -> None:
        assert self._dispatcher is not None
        self._dispatcher.set_result(dispatcher)

    async def close(self) -> None:
        """Stop listening, end event streams, give replies under way a moment."""
        self._stopping.set()
        if self._server is not None:
            self._server.close()
        if self._connections is not None:
            self._connections.pre_shutdown()
            await self._connections.shutdown(0.1)

    # -- one request -------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.request_started()
        try:
            refusal = self._access(request, connection)
            if refusal is not None:
                return _refuse(refusal)
            return await self._route(request)
        finally:
            connection.request_finished()

    def _access(self, request: web.BaseRequest, connection: Connection) -> access.Refusal | None:
        guard, headers = self._guard, request.headers
        assert guard is not None
        return (
            access.check_framing(request.version, headers.getall(hdrs.TRANSFER_ENCODING, ()))
            or guard.check_host(headers.getall(hdrs.HOST, ()))
            or guard.check_origin(headers.getall(hdrs.ORIGIN, ()), headers.getall("Sec-Fetch-Site", ()))
            or guard.check_token(headers.getall(hdrs.AUTHORIZATION, ()))
            or (None if guard.needs_token else _check_user(connection))
        )

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        # As sent: a library's tidied form would let `/x/../rpc`, `/%72pc` and `http://other/rpc` pass for `/rpc`.
        path, question, _ = request.raw_path.partition("?")
        method, route = self._routes.get(path, (None, None))
        if method is None or route is None or (question and path != "/events"):
            return _refuse(access.Refusal(404, "Not found."))
        if request.method == hdrs.METH_OPTIONS:
            # No CORS headers: pages of other origins were refused above, and our own need none.
            return web.Response(headers={**COMMON_HEADERS, "Allow": f"{method}, OPTIONS"})
        if request.method != method:
            response = _refuse(access.Refusal(405, f"Use {method} for {path}."))
            response.headers["Allow"] = f"{method}, OPTIONS"
            return response
        return await route(request)

    async def _health(self, _request: web.BaseRequest) -> web.StreamResponse:
        return _json(_HEALTH)

    async def _event_stream(self, request: web.BaseRequest) -> web.StreamResponse:
        return await serve_events(request, self._events, self._stopping, COMMON_HEADERS)

    async def _rpc(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = request.headers
        refusal = access.check_content(
            headers.getall(hdrs.CONTENT_TYPE, ()), headers.getall(hdrs.CONTENT_ENCODING, ())
        ) or access.check_length(request.content_length, MAX_BODY_BYTES)
        if refusal is not None:
            return _refuse(refusal)
        body = await self._body(request)
        if isinstance(body, access.Refusal):
            return _refuse(body)
        assert self._dispatcher is not None
        dispatcher = self._dispatcher.result() if self._dispatcher.done() else await asyncio.shield(self._dispatcher)
        answer = await dispatcher.reply(body)
        if answer is None:
            return web.Response(status=204, headers=COMMON_HEADERS)
        return _json(answer) if len(answer) <= LARGE_REPLY_BYTES else await _send_large(request, answer)

    async def _body(self, request: web.BaseRequest) -> bytes | access.Refusal:
        if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        content = request.content
        if content.is_eof():
            # All of it came with the header, as most bodies do: nothing to wait for.
            return content.read_nowait()
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_DEADLINE_S):
                while chunk := await content.readany():
                    size += len(chunk)
                    self._buffered += len(chunk)
                    if size > MAX_BODY_BYTES:
                        return access.check_length(size, MAX_BODY_BYTES) or b""
                    if self._buffered > MAX_BUFFERED_BYTES:
                        return access.Refusal(503, "Too many large requests at once; try again in a moment.")
                    chunks.append(chunk)
        except TimeoutError:
            return access.Refusal(408, f"The request body did not arrive within {BODY_DEADLINE_S:.0f} s.")
        finally:
            self._buffered -= size
        if cast(Connection, request.protocol).malformed:
            return access.MALFORMED
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, headers=_JSON_HEADERS)


async def _send_large(request: web.BaseRequest, body: bytes) -> web.StreamResponse:
    """Write a reply piece by piece: one that is handed over whole is copied, and kept until the next request."""
    response = web.StreamResponse(headers=_JSON_HEADERS)
    response.content_length = len(body)
    await response.prepare(request)
    view = memoryview(body)
    for start in range(0, len(view), WRITE_BYTES):
        try:
            async with asyncio.timeout(WRITE_DEADLINE_S):
                await response.write(view[start : start + WRITE_BYTES])
        except TimeoutError:
            raise ConnectionError("the caller stopped reading") from None
    return response


def _refuse(refusal: access.Refusal) -> web.Response:
    """A refused request may have a body that nobody reads, so its connection ends."""
    response = web.Response(status=refusal.status, text=refusal.message, headers=COMMON_HEADERS)
    if refusal.status == 401:
        response.headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    response.force_close()
    return response


def _check_user(connection: Connection) -> access.Refusal | None:
    """Once per connection: only programs of our own user may call without a token."""
    if connection.peer_checked is None:
        transport = connection.transport
        peer = transport.get_extra_info("peername") if transport else None
        local = transport.get_extra_info("sockname") if transport else None
        connection.peer_checked = bool(peer and local and peers.peer_is_us(peer[:2], local[:2]))
    if connection.peer_checked:
        return None
    return access.Refusal(403, "Forbidden: this server answers only programs of the user who started it.")


def _own_addresses(host: str) -> list[str]:
    """The IP literals under which a server that listens on `host` can be reached. Names are not among them: a foreign
    name that resolves to us is exactly what DNS rebinding uses."""
    if host not in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return [host.lower()]
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    return sorted(str(address).lower() for address in found)
