"""urllib3's connections, made to give up when told to.

`transport.py` builds its pools from these classes. What they add: looking a name up and connecting can be given up (the
system's resolver knows no time limit), waiting for the head of an answer asks `stop` several times a second, and a
head that trickles in byte by byte does not hold a thread for ever. Imports urllib3, so it is imported at first use.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError
from urllib3.response import HTTPResponse
from urllib3.util.wait import wait_for_read

SLICE_S = 0.1
"""How often somebody who waits is asked whether to go on."""
ADDRESSES = 3
"""Addresses of one name that get a full connect time-out each; more only as long as they refuse quickly."""


@dataclass(slots=True)
class Watch:
    """One exchange, seen from the thread that waits for it. `check` raises to end the waiting."""

    check: Callable[[], None]
    reused: bool = False
    """Whether the request went over a connection that had answered before, so that its silent end proves nothing."""


class _Current(threading.local):
    watch: Watch | None = None


_current = _Current()


@contextlib.contextmanager
def watched(watch: Watch) -> Generator[None]:
    """Let `watch` see the connections that this thread uses inside."""
    _current.watch = watch
    try:
        yield
    finally:
        _current.watch = None


class _Wire(io.RawIOBase):
    """The socket's reading end. While the head is awaited it waits in slices, up to the deadline for all of it."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, watch: Watch | None) -> None:
        self._raw, self._sock, self._watch = raw, sock, watch
        self._ends = time.monotonic() + (sock.gettimeout() or 0.0)
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if self._watch is None:
            return self._raw.readinto(buffer)
        self._await(self._watch)
        size = self._raw.readinto(buffer)
        if size == 0 and self._begun:
            # http.client takes the end of the connection for the end of the head, and then of a body without length.
            raise http.client.IncompleteRead(b"")
        self._begun = True
        return size

    def _await(self, watch: Watch) -> None:
        while not _pending(self._sock):
            left = self._ends - time.monotonic()
            if left <= 0:
                raise TimeoutError("the head of the answer did not come in time")
            if wait_for_read(self._sock, min(SLICE_S, left)):
                return
            watch.check()

    def head_is_read(self) -> None:
        """From now on the socket's own time-out counts: the longest silence."""
        self._watch = None

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


def _pending(sock: socket.socket) -> bool:
    """Bytes that TLS has decrypted already; no poll on the socket would show them."""
    ask: Callable[[], int] | None = getattr(sock, "pending", None)
    return ask is not None and ask() > 0


class _Answer(http.client.HTTPResponse):
    """http.client's parser on top of a `_Wire`."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._wire: _Wire | None = None
        # TLS inside TLS keeps bytes where neither poll nor `pending` shows them; there the socket's time-out must do.
        if isinstance(sock, socket.socket):  # pyright: ignore[reportUnnecessaryIsInstance] - an SSLTransport is none
            self.fp.close()
            self._wire = _Wire(sock.makefile("rb", buffering=0), sock, _current.watch)
            self.fp = io.BufferedReader(self._wire)

    def begin(self) -> None:
        super().begin()
        if self._wire is not None:
            self._wire.head_is_read()

    @property
    def plain(self) -> bool:
        """Whether the body is as long as was said, so that `receive` can read it."""
        return not self.chunked and self.length is not None

    def receive(self, target: memoryview) -> int:
        """One read of what has arrived, straight into `target`; 0 at the end. Nothing is copied, and the interpreter is
        free meanwhile: `read1` makes a gigabyte cost twice the processor time.

        Raises:
            http.client.IncompleteRead: the connection ended before.
        """
        if not self.length:
            self.close()  # a body of no bytes, as redirects have, ends the exchange too
            return 0
        if not len(target):
            return 0
        size: int = self.fp.readinto1(target[: self.length])
        if not size:
            left = self.length
            self.close()
            raise http.client.IncompleteRead(b"", left)
        self.length -= size
        if not self.length:
            self.close()
        return size


def plain_answer(raw: HTTPResponse) -> _Answer | None:
    """What `raw` reads from, when its body can be read from there directly."""
    answer: object = getattr(raw, "_original_response", None)
    return answer if isinstance(answer, _Answer) and answer.plain else None


class _Watched(HTTPConnection):
    """What both kinds of connections add."""

    response_class = _Answer
    _answers = 0

    def _new_conn(self) -> socket.socket:
        self._answers = 0
        watch = _current.watch
        if watch is None:
            return super()._new_conn()
        limit = (self.timeout or 60.0) * ADDRESSES
        return _abandonable(super()._new_conn, watch, limit, ConnectTimeoutError(self, "took too long"))

    def request(self, *args: Any, **options: Any) -> None:
        if _current.watch is not None:
            _current.watch.reused = self._answers > 0
        super().request(*args, **options)

    def getresponse(self) -> Any:
        answer = super().getresponse()
        self._answers += 1
        return answer


def _abandonable(
    connect: Callable[[], socket.socket], watch: Watch, limit: float, late: ConnectTimeoutError
) -> socket.socket:
    """Connect in a thread of its own, which closes what it got when nobody waits for it any more."""
    outcome: Future[socket.socket] = Future()

    def run() -> None:
        try:
            sock = connect()
        except BaseException as error:
            if outcome.set_running_or_notify_cancel():
                outcome.set_exception(error)
            return
        if outcome.set_running_or_notify_cancel():
            outcome.set_result(sock)
        else:
            sock.close()

    threading.Thread(target=run, name="connect", daemon=True).start()
    ends = time.monotonic() + limit
    try:
        while not wait([outcome], SLICE_S).done:
            watch.check()
            if time.monotonic() > ends:
                raise late
    except BaseException:
        if not outcome.cancel():
            outcome.result().close()
        raise
    return outcome.result()


class Connection(_Watched):
    """Plain HTTP."""


class SecureConnection(_Watched, HTTPSConnection):
    """HTTP over TLS."""


class Pool(HTTPConnectionPool):
    ConnectionCls = Connection  # pyright: ignore[reportAssignmentType] - the protocol's fields are too narrow


class SecurePool(HTTPSConnectionPool):
    ConnectionCls = SecureConnection  # pyright: ignore[reportAssignmentType] - as above


POOLS: dict[str, type[HTTPConnectionPool]] = {"http": Pool, "https": SecurePool}
