"""The HTTP server: `POST /rpc`, `GET /health`, `GET /events`, the page, and the order of checks before any of them.

Framing (aiohttp's strict parser) -> Host -> Origin -> token or user -> path -> content type and encoding -> length ->
body with a deadline -> JSON-RPC. Up to the length a refusal is an HTTP status; after it everything is a JSON-RPC
reply with HTTP 200. Two things need no token, since they are how a page in a browser gets it: the page's own files,
which hold no secret, and `POST /session`, which takes a code instead (`session.py`).
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

from aiohttp import hdrs, web
from multidict import CIMultiDict

from pumas.config import page_folder
from pumas.events.stream import EventStream
from pumas.rpc import access, peers
from pumas.rpc.connections import COMMON_HEADERS, Connection, ConnectionServer
from pumas.rpc.page import Page
from pumas.rpc.session import SessionCodes
from pumas.rpc.sse import serve_events
from pumas.rpc.uploads import Uploads

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_SESSION_BYTES = 1024
# All bodies that are being received at one time, so that many half-sent ones cannot fill the memory.
MAX_BUFFERED_BYTES = 96 * 1024 * 1024
BODY_DEADLINE_S = 20.0
BACKLOG = 2048
PORT_TRIES = 50
LARGE_REPLY_BYTES = 1024 * 1024
WRITE_BYTES = 256 * 1024
# A caller that takes nothing of a large reply for this long is gone.
WRITE_DEADLINE_S = 20.0

_READ = (hdrs.METH_GET, hdrs.METH_HEAD)
_WITH_QUERY = ("/events", "/uploads")
_HEALTH = b'{"status":"ok"}'
_JSON_HEADERS = CIMultiDict(COMMON_HEADERS | {"Content-Type": "application/json"})


class Replies(Protocol):
    async def reply(self, body: bytes) -> bytes | None: ...


Route = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpServer:
    """Listens, guards, and hands bodies to the dispatcher once that is ready.

    The port is open before the method table is built, so that a shell learns it at once; calls wait for `ready`.
    """

    def __init__(
        self,
        *,
        token: str | None,
        events: EventStream,
        page: Page | None = None,
        codes: SessionCodes | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        self._token = token
        self._events = events
        self._page = page or Page(page_folder())
        self._codes = codes or SessionCodes()
        self._uploads = uploads
        self._guard: access.Guard | None = None
        self._dispatcher: asyncio.Future[Replies] | None = None
        self._buffered = 0
        self._servers: list[asyncio.Server] = []
        self._connections: ConnectionServer | None = None
        self._stopping = asyncio.Event()
        self._routes: Mapping[str, tuple[str, Route]] = {
            "/rpc": (hdrs.METH_POST, self._rpc),
            "/health": (hdrs.METH_GET, self._health),
            "/events": (hdrs.METH_GET, self._event_stream),
            "/session": (hdrs.METH_POST, self._session),
            "/session/code": (hdrs.METH_POST, self._session_code),
            **({} if uploads is None else {"/uploads": (hdrs.METH_POST, self._upload)}),
        }

    async def listen(self, host: str, port: int) -> int:
        """Bind and return the port, the same for every address that `host` stands for.

        Raises OSError when it is taken, or no address of `host` is this machine's.
        """
        loop = asyncio.get_running_loop()
        self._dispatcher = loop.create_future()
        self._connections = ConnectionServer(self._handle)
        sockets = _bind(await _addresses(host, port), port)
        bound = cast(int, sockets[0].getsockname()[1])
        extra = [] if host in access.LOOPBACK_NAMES else _own_addresses(host)
        self._guard = access.Guard(bound, self._token, extra)
        for one in sockets:
            self._servers.append(await loop.create_server(self._connections, sock=one, backlog=BACKLOG))
        return bound

    def ready(self, dispatcher: Replies) -> None:
        assert self._dispatcher is not None
        self._dispatcher.set_result(dispatcher)

    async def close(self) -> None:
        """Stop listening, end event streams, give replies under way a moment."""
        self._stopping.set()
        for server in self._servers:
            server.close()
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
        guard, headers, path = self._guard, request.headers, request.raw_path
        assert guard is not None
        for_page = request.method in _READ and Page.has(path)
        without_token = for_page or (request.method == hdrs.METH_POST and path == "/session")
        sites = headers.getall("Sec-Fetch-Site", ())
        if (
            for_page
            and path == "/"
            and access.opens_a_page(headers.getall("Sec-Fetch-Mode", ()), headers.getall("Sec-Fetch-Dest", ()))
        ):
            sites = ()
        return (
            access.check_framing(request.version, headers.getall(hdrs.TRANSFER_ENCODING, ()))
            or guard.check_host(headers.getall(hdrs.HOST, ()))
            or guard.check_origin(headers.getall(hdrs.ORIGIN, ()), sites)
            or (None if without_token else guard.check_token(headers.getall(hdrs.AUTHORIZATION, ())))
            or (None if guard.needs_token else _check_user(connection))
        )

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        # As sent: a library's tidied form would let `/x/../rpc`, `/%72pc` and `http://other/rpc` pass for `/rpc`.
        path, question, _ = request.raw_path.partition("?")
        if not question and Page.has(path):
            return await self._page_file(request, path)
        method, route = self._routes.get(path, (None, None))
        if method is None or route is None or (question and path not in _WITH_QUERY):
            return _refuse(access.Refusal(404, "Not found."))
        if request.method == hdrs.METH_OPTIONS:
            # No CORS headers: pages of other origins were refused above, and our own need none.
            return web.Response(headers={**COMMON_HEADERS, "Allow": f"{method}, OPTIONS"})
        if request.method != method:
            return _wrong_method(path, method)
        return await route(request)

    async def _page_file(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        return await self._page.serve(request, path) if request.method in _READ else _wrong_method(path, *_READ)

    async def _health(self, _request: web.BaseRequest) -> web.StreamResponse:
        return _json(_HEALTH)

    async def _event_stream(self, request: web.BaseRequest) -> web.StreamResponse:
        return await serve_events(request, self._events, self._stopping, COMMON_HEADERS)

    async def _upload(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._uploads is not None
        answer = await self._uploads.receive(request)
        return _refuse(answer) if isinstance(answer, access.Refusal) else answer

    async def _session(self, request: web.BaseRequest) -> web.StreamResponse:
        """`{"code": …}` in, `{"token": …}` out; null where none is needed."""
        body = await self._json_body(request, MAX_SESSION_BYTES)
        if isinstance(body, access.Refusal):
            return _refuse(body)
        code = _code_in(body)
        if self._token is not None and (code is None or not self._codes.redeem(code)):
            return _refuse(access.Refusal(403, "Forbidden: this code was used, or is too old. Open the page anew."))
        return _json(json.dumps({"token": self._token}).encode())

    async def _session_code(self, request: web.BaseRequest) -> web.StreamResponse:
        """A new code, for who has the token: `{"code": …}`."""
        body = await self._json_body(request, MAX_SESSION_BYTES)
        if isinstance(body, access.Refusal):
            return _refuse(body)
        return _json(json.dumps({"code": self._codes.issue()}).encode())

    async def _rpc(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._json_body(request, MAX_BODY_BYTES)
        if isinstance(body, access.Refusal):
            return _refuse(body)
        assert self._dispatcher is not None
        dispatcher = self._dispatcher.result() if self._dispatcher.done() else await asyncio.shield(self._dispatcher)
        answer = await dispatcher.reply(body)
        if answer is None:
            return web.Response(status=204, headers=COMMON_HEADERS)
        return _json(answer) if len(answer) <= LARGE_REPLY_BYTES else await _send_large(request, answer)

    async def _json_body(self, request: web.BaseRequest, limit: int) -> bytes | access.Refusal:
        headers = request.headers
        refusal = access.check_content(
            headers.getall(hdrs.CONTENT_TYPE, ()), headers.getall(hdrs.CONTENT_ENCODING, ())
        ) or access.check_length(request.content_length, limit)
        return refusal or await self._body(request, limit)

    async def _body(self, request: web.BaseRequest, limit: int) -> bytes | access.Refusal:
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
                    if size > limit:
                        return access.check_length(size, limit) or b""
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


Addresses = Mapping[tuple[int, str | int], tuple[Any, ...]]


async def _addresses(host: str, port: int) -> Addresses:
    """Each address of a name once. Only names need a thread to be looked up in."""
    look_up, flags = socket.getaddrinfo, socket.AI_PASSIVE
    try:
        found = look_up(host or None, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        found = await asyncio.to_thread(look_up, host, port, type=socket.SOCK_STREAM, flags=flags)
    return {(family, address[0]): address for family, _, _, _, address in found}


def _bind(addresses: Addresses, port: int) -> list[socket.socket]:
    """One socket per address, all with one port; 0 means any that is free for all of them."""
    for tries_left in reversed(range(PORT_TRIES)):
        sockets: list[socket.socket] = []
        try:
            for (family, _), address in addresses.items():
                _bind_one(sockets, family, address, sockets[0].getsockname()[1] if sockets else port)
        except OSError as error:
            for one in sockets:
                one.close()
            # The port that the system chose for the first address is taken at another one.
            if port or error.errno != errno.EADDRINUSE or not tries_left:
                raise
        else:
            if sockets:
                return sockets
            break
    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))


def _bind_one(sockets: list[socket.socket], family: int, address: tuple[Any, ...], port: int) -> None:
    """Leaves out an address that this machine does not have, as `::1` where IPv6 is switched off."""
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return
    try:
        if os.name == "posix":  # elsewhere the option would let another program take the port
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address[0], port, *address[2:]))
    except OSError as error:
        one.close()
        if error.errno != errno.EADDRNOTAVAIL:
            raise
    else:
        sockets.append(one)


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


def _wrong_method(path: str, *methods: str) -> web.Response:
    response = _refuse(access.Refusal(405, f"Use {' or '.join(methods)} for {path}."))
    response.headers["Allow"] = ", ".join((*methods, hdrs.METH_OPTIONS))
    return response


def _code_in(body: bytes) -> str | None:
    try:
        message = json.loads(body)
    except ValueError:  # also what is not UTF-8
        return None
    code = cast(dict[str, object], message).get("code") if isinstance(message, dict) else None
    return code if isinstance(code, str) else None


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
