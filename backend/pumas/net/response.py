"""An answer whose body has not been read yet. Made by `sending.py`, read by whoever asked.

Knows how a body ends and how it is encoded, and nothing of what it means.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pumas import json_text
from pumas.errors import ConnectionFailed, HttpStatus, InvalidReply, NetworkError, RateLimited
from pumas.net.hosts import Host
from pumas.net.transport import translate

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

MIB = 1024 * 1024
CHUNK = 64 * 1024
WHOLE_BODY_S = 300.0
"""A body that is wanted whole is given up after this long, however steadily it trickles."""
FILL = 256 * 1024
"""Bytes that are asked for at once; more makes the copy slower than the socket."""
DRAIN = 64 * 1024
"""A rest that is cheaper to read than a new connection."""


class Response:
    """A context manager. One thread reads, by `read_into` or by `read` and `json`; `close` may come from any.

    `url` is where the answer came from, after redirects and mirrors. `headers` ignore case; several of one name are
    joined by ", ".
    """

    def __init__(self, raw: HTTPResponse, url: str, host: Host) -> None:
        self.status: int = raw.status
        self.url = url
        self.headers: Mapping[str, str] = raw.headers
        self.wait_s: float | None = None
        """Seconds that the answer asks to wait before the next request."""
        from pumas.net.connections import plain_answer

        self._raw, self._counters, self._host = raw, host, host.origin.netloc
        self._answer = plain_answer(raw)
        self._reading = threading.Lock()
        self._body: bytes | None = None
        self._closed = False
        self._failed = False

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Response {self.status} from {self._host}>"

    def read_into(self, target: memoryview) -> int:
        """Put what has arrived into `target` and say how many bytes; 0 at the end. The encoding is left as it is.

        Raises:
            ConnectionFailed: silence for too long, cut before the announced length, or closed by another thread.
        """
        with self._reading:
            return self._guarded(lambda: self._fill(target))

    def read(self, limit: int) -> bytes:
        """The whole body, decoded.

        Raises:
            InvalidReply: more than `limit` bytes, or not encoded as it says.
            ConnectionFailed: as for `read_into`, or not complete within five minutes.
        """
        if self._body is not None:
            if len(self._body) > limit:
                raise self._too_long(limit)
            return self._body
        parts: list[bytes] = []
        size, ends = 0, time.monotonic() + WHOLE_BODY_S
        with self._reading:
            while data := self._guarded(lambda: self._decoded(limit)):
                parts.append(data)
                size += len(data)
                if size > limit:
                    self._end()
                    raise self._too_long(limit)
                if time.monotonic() > ends:
                    self._end()
                    raise ConnectionFailed(self._host, "sends too slowly", "timeout")
        return b"".join(parts)

    def json(self, limit: int = 32 * MIB) -> Any:
        """The body as JSON. Raises as `read`, and InvalidReply when it is something else."""
        data = self.read(limit)
        try:
            return json_text.loads(data)
        except ValueError:
            raise InvalidReply(self._host, _looks_like(data)) from None

    def preload(self, limit: int) -> Response:
        """Read the body now and end the exchange; it can then be read any number of times. Raises as `read`."""
        with self:
            self._body = self.read(limit)
        return self

    def drain(self) -> None:
        """Read a short rest and close, so that the connection can be used again."""
        target = memoryview(bytearray(DRAIN))
        with self, contextlib.suppress(ConnectionFailed, InvalidReply):
            left = DRAIN
            while left > 0 and (size := self.read_into(target[:left])):
                left -= size

    @property
    def failed(self) -> bool:
        """Whether the host did not do its part: 5xx, or a request to come back later. Other refusals are answers."""
        return self.status >= 500 or isinstance(self.failure(), RateLimited)

    def failure(self) -> NetworkError:
        """What a status from 400 on means."""
        if self.status == 429 or (self.wait_s is not None and self.status in (403, 503)):
            return RateLimited(self._host, self.wait_s or 0.0)
        return HttpStatus(self.status, self._host)

    def close(self) -> None:
        """End the exchange. A read that waits in another thread ends with ConnectionFailed."""
        if self._closed:
            return
        self._closed = True
        if not self._reading.acquire(blocking=False):
            # Closing under a reader would wait for it; without the socket's reading end it stops by itself.
            with contextlib.suppress(Exception):
                self._raw.shutdown()
            self._reading.acquire()
        try:
            self._end()
        finally:
            self._reading.release()

    def _guarded(self, read: Callable[[], Any]) -> Any:
        from http.client import HTTPException

        from urllib3.exceptions import HTTPError

        if self._failed or self._closed:
            raise self._closed_early()
        try:
            got = read()
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            self._end()
            self._failed = True
            if self._closed:
                raise self._closed_early() from None
            self._counters.count(interrupted=1)
            raise translate(error, self._host) from None
        if self._closed:
            raise self._closed_early()
        return got

    def _too_long(self, limit: int) -> InvalidReply:
        return InvalidReply(self._host, f"it is longer than {limit:,} bytes")

    def _closed_early(self) -> ConnectionFailed:
        return ConnectionFailed(self._host, "was not read to the end: the connection was closed here", "cut")

    def _fill(self, target: memoryview) -> int:
        if self._answer is not None:
            size = self._answer.receive(target[:FILL])
            self._counters.receive(size)
            if self._answer.isclosed():
                self._raw.release_conn()
            return size
        data = self._raw.read1(min(len(target), FILL), decode_content=False) or b""
        target[: len(data)] = data
        self._counters.receive(len(data))
        return len(data)

    def _decoded(self, limit: int) -> bytes:
        before = self._raw.tell()
        data = self._raw.read1(min(CHUNK, limit + 1), decode_content=True) or b""
        self._counters.receive(self._raw.tell() - before)
        return data

    def _end(self) -> None:
        """A connection whose answer was read to the end is back in its pool by now; any other cannot be used again."""
        with contextlib.suppress(Exception):
            self._raw.close()


def _looks_like(data: bytes) -> str:
    start = data[:256].lstrip().lower()
    if not start:
        return "it is empty where JSON was expected"
    page = start.startswith((b"<!doctype", b"<html", b"<"))
    return "a web page came where JSON was expected (is there a login page of this network?)" if page else "no JSON"
