"""The HTTP client of the sidecar: one place for time-outs, retries, rate limits, breakers, redirects, proxies, mirrors.

Every domain that asks a host outside gets this object. All calls block, so they are made from worker threads; they may
be made from many at once, and a host that hangs delays nobody who asks another. What the bytes mean is known to the
callers alone. The work is in `sending.py`, loaded at the first request: a sidecar that asks nobody stays small.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from pumas.net.options import USER_AGENT, OnWait, Sleeper, Stop, Timeouts
from pumas.net.settings import NetworkSettings

if TYPE_CHECKING:
    from pumas.net.hosts import Hosts
    from pumas.net.response import Response
    from pumas.net.sending import Sender

__all__ = ["USER_AGENT", "NetworkClient", "Timeouts"]


class NetworkClient:
    """Thread-safe. `changed` is called when offline mode or a host's circuit changes, from whichever thread saw it."""

    def __init__(
        self,
        settings: NetworkSettings | None = None,
        *,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """`clock`, `now` and `sleep` stand in for time in tests."""
        self._settings = settings or NetworkSettings()
        self._clock, self._now, self._changed = clock, now, changed
        self._sleeper = Sleeper(sleep)
        self._lock = threading.Lock()
        self._made: Sender | None = None

    @property
    def loaded(self) -> bool:
        """Whether looking at `hosts` and `proxy` costs nothing."""
        return self._made is not None

    @property
    def hosts(self) -> Hosts:
        """What is known about each host that was asked."""
        return self._sender().hosts

    @property
    def proxy(self) -> str | None:
        """The proxy of most requests, without its password; None when there is none."""
        return self._sender().usual_proxy

    def offline(self) -> bool:
        """Whether offline mode is on: then nothing is sent, not even to this machine."""
        return self._settings.offline

    def configure(self, settings: NetworkSettings) -> None:
        """Use other settings from the next request on. Raises InvalidInput for mirrors that are none."""
        sender = self._sender()
        with self._lock:
            before, self._settings = self._settings, settings
            try:
                sender.configure(settings)
            except BaseException:
                self._settings = before
                raise
        if before.offline != settings.offline:
            self._changed()

    def wait_for(self, url: str) -> float:
        """Seconds that the host's breaker or rate limit still asks to wait, 0.0 when it may be asked now.

        Raises:
            InvalidInput: no http(s) URL.
        """
        return self._sender().wait_for(url)

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        timeouts: Timeouts | None = None,
        retry: bool = True,
        check: bool = True,
        accept: Collection[int] = (),
        follow_redirects: bool = True,
        stop: Stop | None = None,
        on_wait: OnWait | None = None,
        patience_s: float = float("inf"),
        preload: int | None = None,
    ) -> Response:
        """One exchange; the answer's body is left to be read, and the answer to be closed.

        `Accept-Encoding` is `identity` unless the caller sets it, so that lengths and ranges are those of the file.

        Args:
            retry: try idempotent methods again, up to five attempts, and wait where the host asks for it. False is a
                single attempt that never waits.
            check: raise for statuses from 400 on that are not in `accept`.
            stop: called before each attempt and several times a second while waiting, also for the connection and for
                the head of the answer; ends all that by raising.
            on_wait: told the seconds and the reason before each wait.
            patience_s: the longest time to spend waiting between attempts, all waits together.
            preload: read a body of at most so many bytes at once, as a part of the attempt: one that breaks off is
                fetched again. `read` and `json` then find it there.

        Raises:
            InvalidInput: no http(s) URL, or headers that cannot be sent.
            Offline, CircuitOpen: nothing was sent.
            RateLimited: the host asks to wait longer than the caller does.
            ConnectionFailed, InvalidReply: no usable answer.
            HttpStatus: an answer that means failure.
            Interrupted: the client was closed.
        """
        response = self._sender().send(
            method,
            url,
            headers,
            body,
            timeouts=timeouts or Timeouts(),
            retry=retry,
            follow=follow_redirects,
            stop=stop,
            on_wait=on_wait,
            patience_s=patience_s,
            preload=preload,
        )
        if check and response.status >= 400 and response.status not in accept:
            response.drain()
            raise response.failure()
        return response

    def close(self) -> None:
        """End everything that is under way, waits and reads included."""
        self._sleeper.close()
        with self._lock:
            sender = self._made
        if sender is not None:
            sender.close()

    def _sender(self) -> Sender:
        with self._lock:
            if self._made is None:
                from pumas.net.sending import Sender

                self._made = Sender(self._settings, self._changed, self._clock, self._now, self._sleeper)
            return self._made
