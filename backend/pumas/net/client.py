"""The HTTP client of the sidecar: one place for time-outs, retries, rate limits, breakers, redirects, proxies, mirrors.

`transport.py` sends a single request; `retry.py`, `ratelimit.py` and `breaker.py` each hold one rule; this module puts
them in order. All calls block, so they are made from worker threads; they may be made from many at once, and a host
that hangs delays nobody who asks another. What the bytes mean is known to the callers alone.

A request carries its token to the host it was meant for and to no other: not to a redirect's target, not to a mirror.
"""

from __future__ import annotations

import re
import threading
import time
import weakref
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pumas import __version__
from pumas.errors import (
    CircuitOpen,
    ConnectionFailed,
    InvalidInput,
    InvalidReply,
    NetworkError,
    Offline,
    RateLimited,
)
from pumas.net.address import Address, Mirrors, parse
from pumas.net.hosts import Host, Hosts
from pumas.net.ratelimit import quota_of, told
from pumas.net.response import Response
from pumas.net.retry import IDEMPOTENT, OnWait, Patience, Sleeper, Stop, attempts, spread
from pumas.net.transport import Route, Timeouts, Transport

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

    from pumas.net.connections import Watch

__all__ = ["USER_AGENT", "Configuration", "NetworkClient", "Response", "Timeouts"]

USER_AGENT = f"pumas/{__version__}"
MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
STALE = 3
"""Connections that a host may have closed while they lay idle, before a silent end counts as a failure."""

_SECRET = ("authorization", "cookie", "proxy-authorization")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSENDABLE = re.compile(r"[\r\n\0]")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a user can choose. `mirrors` as `address.Mirrors` understands them."""

    offline: bool = False
    route: Route = field(default_factory=Route)
    mirrors: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True, kw_only=True)
class _Request:
    """One call of `send`, over all its attempts."""

    method: str
    address: Address
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeouts: Timeouts
    follow: bool
    retry: bool
    patience: Patience
    preload: int | None
    stop: Stop | None
    on_wait: OnWait | None
    failed_at: Host | None = None
    """The host whose failure ended the last attempt."""
    was_trial: bool = False


@dataclass(frozen=True, slots=True)
class _Hop:
    """One exchange with one host: what goes where."""

    method: str
    address: Address
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


class NetworkClient:
    """Thread-safe. `changed` is called when offline mode or a host's circuit changes, from whichever thread saw it."""

    def __init__(
        self,
        configuration: Configuration | None = None,
        *,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """`clock`, `now` and `sleep` stand in for time in tests. Raises InvalidInput for mirrors that are none."""
        self._clock, self._now, self._changed = clock, now, changed
        self._sleeper = Sleeper(sleep)
        self.hosts = Hosts(clock, changed)
        self._open: weakref.WeakSet[Response] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._configuration = configuration or Configuration()
        self._mirrors = Mirrors(self._configuration.mirrors)
        self._transport = Transport(self._configuration.route)

    def configure(self, configuration: Configuration) -> None:
        """Use other settings from the next request on. Raises InvalidInput."""
        mirrors = Mirrors(configuration.mirrors)
        with self._lock:
            before, self._configuration = self._configuration, configuration
            self._mirrors = mirrors
            old = self._transport
            if before.route != configuration.route:
                self._transport = Transport(configuration.route)
        if old is not self._transport:
            old.close()
        if before.offline != configuration.offline:
            self._changed()

    def offline(self) -> bool:
        """Whether offline mode is on: then nothing is sent, not even to this machine."""
        return self._configuration.offline

    @property
    def proxy(self) -> str | None:
        """The proxy of most requests, without its password; None when there is none."""
        return self._transport.usual_proxy

    def wait_for(self, url: str) -> float:
        """Seconds that the host's breaker or rate limit still asks to wait, 0.0 when it may be asked now.

        Raises:
            InvalidInput: no http(s) URL.
        """
        address = self._mirrors.apply(parse(url))
        host = self.hosts[address.origin]
        return max(host.breaker.wait(), host.gates.wait(quota_of(address), self._clock()))

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
        request = _Request(
            method=_method(method),
            address=parse(url),
            headers=_headers(headers or {}),
            body=body,
            timeouts=timeouts or Timeouts(),
            follow=follow_redirects,
            retry=retry,
            patience=Patience(patience_s),
            preload=preload,
            stop=stop,
            on_wait=on_wait,
        )
        response = self._counted(request)
        if check and response.status >= 400 and response.status not in accept:
            response.drain()
            raise response.failure()
        return response

    def close(self) -> None:
        """End everything that is under way, waits and reads included."""
        self._sleeper.close()
        with self._lock:
            open_ = list(self._open)
        for response in open_:
            response.close()
        self._transport.close()

    # One request

    def _counted(self, request: _Request) -> Response:
        """Send it, and tell the breaker and the counters how it ended: once, after all attempts."""
        asked = self.hosts[self._mirrors.apply(request.address).origin]
        try:
            response = self._repeated(request)
        except CircuitOpen:
            asked.count(rejected=1)
            raise
        except (Offline, RateLimited):
            asked.count(withheld=1)
            raise
        except NetworkError as error:
            self._blame(request, error)
            asked.count(failed=1)
            raise
        if response.failed:
            self._blame(request, response.failure())
            asked.count(failed=1)
        else:
            asked.count(succeeded=1)
        return response

    def _blame(self, request: _Request, error: NetworkError) -> None:
        host = request.failed_at
        if host is not None:
            host.blame(error)
            host.breaker.failed()

    def _repeated(self, request: _Request) -> Response:
        if not (request.retry and request.method in IDEMPOTENT):
            return self._attempt(request)
        asked = self.hosts[self._mirrors.apply(request.address).origin]
        return attempts(
            lambda: self._attempt(request),
            may_repeat=lambda: not request.was_trial,
            patience=request.patience,
            pause=lambda seconds, reason: self._pause(request, seconds, reason),
            retried=lambda: asked.count(retries=1),
        )

    def _attempt(self, request: _Request) -> Response:
        """Follow the redirects of one attempt to its answer."""
        hop = _Hop(request.method, request.address, request.headers, request.body)
        for _ in range(MAX_REDIRECTS + 1):
            response, asked = self._hop(request, hop)
            location = response.headers.get("location")
            if not request.follow or response.status not in REDIRECTS or not location:
                return response if request.preload is None or response.failed else response.preload(request.preload)
            response.drain()
            hop = _next(hop, asked, response.status, location)
        raise InvalidReply(hop.address.origin.netloc, "it redirects too often")

    def _hop(self, request: _Request, hop: _Hop) -> tuple[Response, Address]:
        """Ask one host once; also returns the address that was really asked."""
        self._sleeper.check(request.stop)
        asked = self._mirrors.apply(hop.address)
        if self._configuration.offline:
            raise Offline(asked.origin.netloc)
        headers = hop.headers if asked.origin == hop.address.origin else _without_secrets(hop.headers)
        host = self.hosts[asked.origin]
        request.failed_at = None
        self._pass_gate(request, host, asked)
        trial = host.breaker.admit()
        request.was_trial = trial
        settled = False
        try:
            response = self._exchange(request, replace(hop, address=asked, headers=headers), host)
            settled = True
        except NetworkError:
            settled = True
            self._failed(request, host)
            raise
        finally:
            if trial and not settled:
                host.breaker.abandoned()
        if response.status >= 500 and response.wait_s is None:
            self._failed(request, host)
        else:
            host.breaker.succeeded()
        return response, asked

    def _failed(self, request: _Request, host: Host) -> None:
        request.failed_at = host

    def _pass_gate(self, request: _Request, host: Host, address: Address) -> None:
        while (wait := host.gates.wait(quota_of(address), self._clock())) > 0:
            if not (request.retry and request.patience.allows(wait)):
                raise RateLimited(host.origin.netloc, wait)
            self._pause(request, spread(wait), f"{host.origin.netloc} allows no more requests now")

    def _pause(self, request: _Request, seconds: float, reason: str) -> None:
        request.patience.spend(seconds)
        if request.on_wait is not None:
            request.on_wait(seconds, reason)
        self._sleeper.wait(seconds, request.stop)

    def _exchange(self, request: _Request, hop: _Hop, host: Host) -> Response:
        from pumas.net.connections import Watch

        raw = self._sent(request, hop, Watch(lambda: self._sleeper.check(request.stop)))
        response = Response(raw, hop.address.url, host)
        response.wait_s = told(response.status, response.headers, self._now())
        if response.wait_s is not None:
            host.gates.shut(quota_of(hop.address), self._clock() + response.wait_s)
        with self._lock:
            self._open.add(response)
        return response

    def _sent(self, request: _Request, hop: _Hop, watch: Watch) -> HTTPResponse:
        def send() -> HTTPResponse:
            return self._transport.send(hop.method, hop.address, hop.headers, hop.body, request.timeouts, watch)

        for _ in range(STALE):
            try:
                return send()
            except ConnectionFailed as error:
                # A host may close an idle connection at the moment we use it (RFC 9112 9.3.1).
                if not (watch.reused and error.cause in ("cut", "reset") and hop.method in IDEMPOTENT):
                    raise
        return send()


def _method(method: str) -> str:
    if not _TOKEN.fullmatch(method):
        raise InvalidInput("method", "it is no HTTP method")
    return method.upper()


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    """The caller's headers in lower case, and ours where they say nothing."""
    headers = {"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"}
    for name, value in given.items():
        # The value may be a token, so that only the name is shown.
        if not _TOKEN.fullmatch(name) or _UNSENDABLE.search(value) or not value.isascii():
            raise InvalidInput("headers", f"{name[:40]!r} cannot be sent")
        headers[name.lower()] = value.strip()
    return headers


def _without_secrets(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _SECRET}


def check_redirect(asked: Address, location: str) -> Address:
    """Where an answer of `asked` redirects to. Raises InvalidReply for a place where we do not go."""
    host = asked.origin.netloc
    try:
        address = asked.join(location.strip())
    except InvalidInput as error:
        raise InvalidReply(host, f"it redirects to an address that cannot be used ({error})") from None
    if asked.origin.scheme == "https" and address.origin.scheme == "http":
        raise InvalidReply(host, "it redirects to a place without encryption")
    if address.origin.loopback and not asked.origin.loopback:
        raise InvalidReply(host, "it redirects into this machine")
    return address


def _next(hop: _Hop, asked: Address, status: int, location: str) -> _Hop:
    """The hop that a redirect asks for. Raises InvalidReply."""
    address = check_redirect(asked, location)
    headers = hop.headers if address.origin == hop.address.origin == asked.origin else _without_secrets(hop.headers)
    # RFC 9110 15.4: 303 always, 301 and 302 by long habit for POST.
    if (status == 303 and hop.method != "HEAD") or (status in (301, 302) and hop.method == "POST"):
        headers = {name: value for name, value in headers.items() if not name.startswith("content-")}
        return _Hop("GET", address, headers, None)
    return _Hop(hop.method, address, headers, hop.body)
