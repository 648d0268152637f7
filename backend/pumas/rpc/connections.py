"""Deadlines for connections, so that a thousand idle, slow or half-open ones cost the others nothing.

aiohttp closes connections that idle between requests; it waits for ever for the first byte and for a header that
trickles in. Here a connection without a request under way has a deadline, whatever it sends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import BadHttpMessage

from pumas.rpc import access
from pumas.storage.paths import display_name

log = logging.getLogger(__name__)

HEADER_DEADLINE_S = 10.0
KEEPALIVE_S = 25.0
MAX_HEADER_BYTES = 16 * 1024
COMMON_HEADERS = {"Server": "pumas", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Connection(web.RequestHandler):
    """One client connection. Its timer does not move with each request: when it goes off it looks at `_cut_at`.

    `peer_checked` remembers the answer of the user check for its life; `malformed` says that the body under way broke
    the rules of HTTP. Its timer is not moved with each request: when it goes off it looks at `_cut_at`, which only ever
    grows.
    """

    __slots__ = ("_cut_at", "_timer", "malformed", "peer_checked")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cut_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.peer_checked: bool | None = None
        self.malformed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._arm(HEADER_DEADLINE_S)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._cut_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The parser queues its complaint behind the request whose body it was reading, and that would wait for ever.
        request, queued = self._current_request, self._messages
        if request is not None and queued and not isinstance(queued[-1][0], RawRequestMessage):
            self.malformed = True
            request.content.feed_eof()

    def request_started(self) -> None:
        """A whole header has arrived; from here on the handler's own deadlines hold."""
        self._cut_at = None

    def request_finished(self) -> None:
        if self.transport is not None:
            self._arm(KEEPALIVE_S)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - the library's text, which we do not pass on
    ) -> web.StreamResponse:
        """Answer broken HTTP with a fixed sentence: the library's own would quote what the client sent."""
        if isinstance(exc, ConnectionError):
            raise exc  # the caller left; the library ends the connection without a word
        if status >= 500:
            log.error("request failed by a bug", exc_info=exc)
        else:
            log.info("refused a malformed request: %s", display_name(type(exc).__name__))
        if request.writer.output_size > 0:
            raise ConnectionError("the reply is already under way")
        refusal = _INTERNAL if status >= 500 else _refusal(exc)
        response = web.Response(status=refusal.status, text=refusal.message, headers=COMMON_HEADERS)
        response.force_close()
        return response

    def _arm(self, seconds: float) -> None:
        self._cut_at = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._cut_at, self._look_at_deadline)

    def _look_at_deadline(self) -> None:
        self._timer = None
        if self._cut_at is None:
            return
        if self._loop.time() < self._cut_at:
            self._timer = self._loop.call_at(self._cut_at, self._look_at_deadline)
            return
        self._cut_at = None
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()


_INTERNAL = access.Refusal(500, "Internal error; the log has the details.")
_NOT_ONE_HOST = ("missing 'host' header in request.", "duplicate 'host' header found.")


def _refusal(exc: BaseException | None) -> access.Refusal:
    """The parser lets no request without exactly one Host through, and that is the guard's to answer."""
    not_one = isinstance(exc, BadHttpMessage) and exc.message.lower() in _NOT_ONE_HOST
    return access.MISDIRECTED if not_one else access.MALFORMED


class ConnectionServer(web.Server):
    """Makes a `Connection` per client."""

    def __call__(self) -> web.RequestHandler:
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=KEEPALIVE_S,
            access_log=None,
            lingering_time=2.0,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            auto_decompress=False,
        )
