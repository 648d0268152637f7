"""What happens to a request: offline mode, mirrors, gates, breakers, attempts, redirects, in this order.

`client.py` is the door to it and loads it at the first request. `transport.py` sends a single request; `retry.py`,
`ratelimit.py` and `breaker.py` each hold one rule; this module puts them in order.

A request carries its token to the host it was meant for and to no other: not to a redirect's target, not to a mirror.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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
from pumas.net.options import USER_AGENT, OnWait, Sleeper, Stop, Timeouts
from pumas.net.ratelimit import quota_of, told
from pumas.net.response import Response
from pumas.net.retry import IDEMPOTENT, Patience, attempts, spread
from pumas.net.settings import NetworkSettings
from pumas.net.transport import Transport

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

    from pumas.net.connections import Watch

MAX_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
STALE = 3
"""Connections that a host may have closed while they lay idle, before a silent end counts as a failure."""

_SECRET = ("authorization", "cookie", "proxy-authorization")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSENDABLE = re.compile(r"[\r\n\0]")


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
    at: Host | None = None
    """The host that was asked last, with or without a redirect."""
    down: bool = False
    """Whether that host failed. One that asks to come back later did not."""
    was_trial: bool = False


@dataclass(frozen=True, slots=True)
class _Hop:
    """One exchange with one host: what goes where."""

    method: str
    address: Address
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


class Sender:
    """Thread-safe. Built for one set of settings; `configure` gives it others."""

    def __init__(
        self,
        settings: NetworkSettings,
        hosts_changed: Callable[[], None],
        clock: Callable[[], float],
        now: Callable[[], float],
        sleeper: Sleeper,
    ) -> None:
        """Raises InvalidInput for mirrors that are none."""
        self._clock, self._now, self._sleeper = clock, now, sleeper
        self.hosts = Hosts(clock, hosts_changed)
        self._open: weakref.WeakSet[Response] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._settings = settings
        self._mirrors = Mirrors(settings.mirrors)
        self._transport = Transport(settings.proxy, settings.ca_bundle)

    def configure(self, settings: NetworkSettings) -> None:
        """Use other settings from the next request on. Raises InvalidInput."""
        mirrors = Mirrors(settings.mirrors)
        with self._lock:
            before, self._settings, self._mirrors, old = self._settings, settings, mirrors, self._transport
            if (before.proxy, before.ca_bundle) != (settings.proxy, settings.ca_bundle):
                self._transport = Transport(settings.proxy, settings.ca_bundle)
        if old is not self._transport:
            old.close()

    @property
    def usual_proxy(self) -> str | None:
        return self._transport.usual_proxy

    def wait_for(self, url: str) -> float:
        address = self._mirrors.apply(parse(url))
        host = self.hosts[address.origin]
        return max(host.breaker.wait(), host.gates.wait(quota_of(address), self._clock()))

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: bytes | None,
        *,
        timeouts: Timeouts,
        retry: bool,
        follow: bool,
        stop: Stop | None,
        on_wait: OnWait | None,
        patience_s: float,
        preload: int | None,
    ) -> Response:
        """See `NetworkClient.send`; the answer comes back whatever its status."""
        request = _Request(
            method=_method(method),
            address=parse(url),
            headers=_headers(headers or {}),
            body=body,
            timeouts=timeouts,
            follow=follow,
            retry=retry,
            patience=Patience(patience_s),
            preload=preload,
            stop=stop,
            on_wait=on_wait,
        )
        return self._counted(request)

    def close(self) -> None:
        """Close what is open. `Sleeper.close` has ended the waits."""
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
        if request.at is not None:
            request.at.blame(error)
            if request.down:
                request.at.breaker.failed()

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
        if self._settings.offline:
            raise Offline(asked.origin.netloc)
        headers = hop.headers if asked.origin == hop.address.origin else _without_secrets(hop.headers)
        host = self.hosts[asked.origin]
        request.at, request.down = host, False
        self._pass_gate(request, host, asked)
        trial = host.breaker.admit()
        request.was_trial = trial
        settled = False
        try:
            response = self._exchange(request, replace(hop, address=asked, headers=headers), host)
            settled = True
        except NetworkError:
            settled = True
            request.down = True
            raise
        finally:
            if trial and not settled:
                host.breaker.abandoned()
        if response.status >= 500 and response.wait_s is None:
            request.down = True
        else:
            host.breaker.succeeded()
        return response, asked

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
        if self._sleeper.closed:  # `close` may have looked before this one was there
            response.close()
            self._sleeper.check(None)
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
