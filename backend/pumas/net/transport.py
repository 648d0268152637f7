"""Sends one request to one host and gives back the answer with its body unread.

The only place that knows urllib3: pools, TLS, proxies, and the table that turns its errors into ours. `sending.py`
stands above it and decides what is sent where, how often, and what an answer means. Blocking and thread-safe.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pumas.errors import ConnectionFailed, InvalidReply, NetworkError
from pumas.net.address import Address
from pumas.net.options import Timeouts
from pumas.net.settings import DIRECT, masked

if TYPE_CHECKING:
    from urllib3 import HTTPResponse, PoolManager

    from pumas.net.connections import Watch

HOSTS = 64
"""Hosts whose idle connections are kept."""
CONNECTIONS = 64
"""Idle connections kept per host; more may be open at once."""


class Transport:
    """Connections by one way out: `proxy` and `ca_bundle` as in `NetworkSettings`."""

    def __init__(
        self, proxy: str | None = None, ca_bundle: str | None = None, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._proxy, self._ca_bundle = proxy, ca_bundle
        self._surroundings = _proxies_of(environment)
        self._lock = threading.Lock()
        self._managers: dict[tuple[str | None, str], PoolManager] = {}
        self._tls: ssl.SSLContext | None = None

    def send(
        self,
        method: str,
        address: Address,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: Timeouts,
        watch: Watch,
    ) -> HTTPResponse:
        """Raises ConnectionFailed, InvalidReply, and whatever `watch.check` raises."""
        from urllib3 import Timeout
        from urllib3.exceptions import HTTPError

        from pumas.net.connections import watched

        host = address.origin.netloc
        try:
            with watched(watch):
                answer: Any = self._manager(address).urlopen(
                    method,
                    address.url,
                    headers=headers,
                    body=body,
                    redirect=False,
                    retries=False,
                    timeout=Timeout(connect=timeouts.connect_s, read=timeouts.read_s),
                    preload_content=False,
                    decode_content=False,
                )
        except (HTTPError, OSError) as error:
            raise translate(error, host) from None
        except (ValueError, UnicodeError):
            # A header or address that cannot be put on the wire; its text may be secret.
            raise InvalidReply(host, "it led to a request that cannot be written") from None
        return answer

    def proxy_for(self, address: Address) -> str | None:
        """The URL of the proxy that a request goes through, None when it goes straight."""
        if address.origin.loopback or self._proxy == DIRECT:
            return None
        if self._proxy is None and not self._surroundings:
            return None
        from requests.utils import select_proxy, should_bypass_proxies

        if should_bypass_proxies(address.url, no_proxy=None):
            return None
        if self._proxy is not None:
            return self._proxy
        found = select_proxy(address.url, self._surroundings)
        return found if found is None or "://" in found else f"http://{found}"

    @property
    def usual_proxy(self) -> str | None:
        """What requests outside go through, unless `NO_PROXY` names their host; without a password."""
        if self._proxy is not None:
            return None if self._proxy == DIRECT else masked(self._proxy)
        found = self._surroundings.get("https") or self._surroundings.get("all") or self._surroundings.get("http")
        return masked(found) if found else None

    def close(self) -> None:
        """Close idle connections. Those in use end with their exchange."""
        with self._lock:
            managers, self._managers = list(self._managers.values()), {}
        for manager in managers:
            manager.clear()

    def _manager(self, address: Address) -> PoolManager:
        key = self.proxy_for(address), address.origin.scheme
        with self._lock:
            manager = self._managers.get(key)
            if manager is None:
                manager = self._managers[key] = self._build(*key)
            return manager

    def _build(self, proxy: str | None, scheme: str) -> PoolManager:
        from urllib3 import PoolManager, ProxyManager

        from pumas.net.connections import POOLS

        # Its lines hold addresses with their queries, which may be signed.
        logging.getLogger("urllib3").setLevel(logging.ERROR)
        options: dict[str, Any] = {"num_pools": HOSTS, "maxsize": CONNECTIONS, "block": False}
        if scheme == "https":
            options["ssl_context"] = self._context()
        if proxy is None:
            manager = PoolManager(**options)
        else:
            if proxy.startswith("https://"):
                options["proxy_ssl_context"] = self._context()
            manager = ProxyManager(bare_proxy(proxy), proxy_headers=_proxy_headers(proxy), **options)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context(self._ca_bundle)
        return self._tls


def tls_context(bundle: str | None) -> ssl.SSLContext:
    """The system's roots (or Mozilla's where the system has none) and those of `bundle`. Raises OSError."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or paths.capath or context.cert_store_stats()["x509_ca"]):
        from requests.utils import DEFAULT_CA_BUNDLE_PATH

        context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
    if bundle is not None:
        context.load_verify_locations(bundle)
    return context


# Proxies


def _proxies_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Proxies by scheme; those of macOS' and Windows' settings only where the environment names none."""
    named = {
        name.lower().removesuffix("_proxy"): value
        for name, value in sorted(environment.items())  # lower case last: it wins, as everywhere
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy") and value
    }
    if "REQUEST_METHOD" in environment:
        # httpoxy (CVE-2016-5385): under CGI a caller's header becomes HTTP_PROXY.
        named.pop("http", None)
    if named or os.name != "nt":
        return named
    from urllib.request import getproxies

    return getproxies()


def bare_proxy(url: str) -> str:
    """The proxy's URL without user name and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _proxy_headers(url: str) -> dict[str, str]:
    from urllib3.util import make_headers

    user, found, _host = urlsplit(url).netloc.rpartition("@")
    return make_headers(proxy_basic_auth=unquote(user)) if found else {}


# Errors


def translate(error: BaseException, host: str) -> NetworkError:
    """What a user can understand of an error of urllib3, http.client, ssl or a socket. Never holds an address."""
    import http.client

    from urllib3 import exceptions as e

    chain = list(_chain(error))

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if has(e.ProxyError):
        wants = any(" 407" in str(one) for one in chain)
        reason = "wants a password" if wants else "did not let the request through, or is not there"
        return ConnectionFailed(host, f"cannot be reached: the proxy {reason}", "proxy")
    if has(e.LocationParseError, e.ProxySchemeUnknown, e.ProxySchemeUnsupported, e.URLSchemeUnknown):
        return ConnectionFailed(host, "cannot be reached: the address of it or of the proxy is not usable", "proxy")
    if has(e.NameResolutionError):
        return ConnectionFailed(host, "is not known: its name could not be looked up", "dns")
    if has(ssl.SSLCertVerificationError, e.SSLError, ssl.SSLError) and not has(ssl.SSLEOFError, TimeoutError):
        untrusted = has(ssl.SSLCertVerificationError)
        reason = "shows a certificate that is not trusted" if untrusted else "could not agree on a safe connection"
        return ConnectionFailed(host, reason, "tls")
    known = next((_ERRNO[number] for one in chain if (number := _errno(one)) in _ERRNO), None)
    if known is not None:
        return ConnectionFailed(host, *known)
    if has(e.ConnectTimeoutError):
        return ConnectionFailed(host, "did not accept a connection in time", "timeout")
    if has(e.TimeoutError, TimeoutError):
        return ConnectionFailed(host, "stopped sending: nothing came for too long", "timeout")
    if has(http.client.RemoteDisconnected):
        return ConnectionFailed(host, "ended the connection without an answer", "cut")
    if has(http.client.IncompleteRead, e.IncompleteRead, ssl.SSLEOFError, e.InvalidChunkLength):
        return ConnectionFailed(host, "ended the connection before everything was sent", "cut")
    if has(http.client.HTTPException, e.InvalidHeader, e.DecodeError):
        return InvalidReply(host, "it is not well-formed HTTP")
    return ConnectionFailed(host, "broke the connection", "cut")


_ERRNO = {
    errno.ECONNREFUSED: ("refused the connection", "refused"),
    errno.ECONNRESET: ("reset the connection", "reset"),
    errno.ECONNABORTED: ("reset the connection", "reset"),
    errno.EPIPE: ("reset the connection", "reset"),
    errno.ENETUNREACH: ("cannot be reached: this machine has no way there", "unreachable"),
    errno.EHOSTUNREACH: ("cannot be reached: this machine has no way there", "unreachable"),
    errno.ENETDOWN: ("cannot be reached: this machine has no way there", "unreachable"),
    errno.EADDRNOTAVAIL: ("cannot be reached: this machine has no way there", "unreachable"),
    errno.ETIMEDOUT: ("did not answer in time", "timeout"),
}


def _errno(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and what it was made from."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        with contextlib.suppress(AttributeError):
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
