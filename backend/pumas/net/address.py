"""Addresses: what may be asked, what counts as one host, and where a mirror stands in for another.

Used by `sending.py` for every hop of a request. A URL is taken apart once and put together again from checked parts, so
that no two parsers can read a different host out of it. Nothing here resolves a name or opens a connection.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urljoin, urlsplit

from pumas.errors import InvalidInput

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_URL = 16_384

_UNUSABLE = re.compile(r"[\x00-\x20\x7f\\]")
# RFC 3986 3.2.2 allows more in a registered name; no host that can be looked up has it.
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]+(\.[a-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Origin:
    """What counts as one host: scheme, name in lower case, port (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def label(self) -> str:
        """How it is shown: without `https://`, which is what everybody expects."""
        return self.netloc if self.scheme == "https" else f"{self.scheme}://{self.netloc}"

    @property
    def loopback(self) -> bool:
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Address:
    """A checked http(s) URL. `target` is path and query as they go on the wire; a fragment is not kept."""

    origin: Origin
    target: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"{self.origin.scheme}://{self.origin.netloc}{self.target}"

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def join(self, reference: str) -> Address:
        """Resolve a `Location`. Raises InvalidInput."""
        try:
            joined = urljoin(self.url, reference)
        except ValueError:
            raise InvalidInput("url", "it cannot be read") from None
        return parse(joined)


def parse(url: str, field: str = "url") -> Address:
    """Take a URL apart.

    Raises:
        InvalidInput: not http(s), no host, a user name or password in it, or characters that no URL has. The message
            holds nothing of the URL.
    """
    if len(url) > MAX_URL or _UNUSABLE.search(url):
        raise InvalidInput(field, "it is too long or has characters that no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput(field, "it cannot be read") from None
    if parts.scheme not in DEFAULT_PORTS:
        raise InvalidInput(field, "only http and https are possible")
    if "@" in parts.netloc:
        raise InvalidInput(field, "it must not hold a user name or password")
    if port == 0:
        raise InvalidInput(field, "port 0 is none")
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return Address(Origin(parts.scheme, _host(parts, field), port or DEFAULT_PORTS[parts.scheme]), target)


def _host(parts: SplitResult, field: str) -> str:
    host = (parts.hostname or "").removesuffix(".")
    if not host.isascii():
        host = _ascii(host, field)
    # A zone (fe80::1%eth0) names an interface of this machine; no host outside needs one.
    if ":" in host and "%" not in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise InvalidInput(field, "its host is not an address") from None
    if not _HOST.fullmatch(host):
        raise InvalidInput(field, "it has no usable host")
    return host


def _ascii(host: str, field: str) -> str:
    try:
        return host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise InvalidInput(field, "it has no usable host") from None


class Mirrors:
    """Rewrites addresses: `{host or base URL: base URL}`. The longest base that fits wins; one step, never a chain."""

    def __init__(self, mirrors: Mapping[str, str]) -> None:
        """Raises InvalidInput for a key or value that is neither a host nor an http(s) URL without a query."""
        rules = [(_source(key), base(value, "mirrors")) for key, value in mirrors.items()]
        self._rules = sorted(rules, key=lambda rule: len(rule[0].path), reverse=True)

    def apply(self, address: Address) -> Address:
        """Where the request really goes; the address itself when no rule fits."""
        for source, mirror in self._rules:
            rest = source.rest(address)
            if rest is not None:
                target = mirror.target.rstrip("/") + rest
                return Address(mirror.origin, target if target.startswith("/") else f"/{target}")
        return address


@dataclass(frozen=True, slots=True)
class _Source:
    """What a rule is for. `scheme` "" means both, each on its default port unless `port` is given."""

    scheme: str
    host: str
    port: int | None
    path: str

    def rest(self, address: Address) -> str | None:
        """The part of the address behind this base, None when it lies elsewhere."""
        origin = address.origin
        port = self.port or DEFAULT_PORTS[origin.scheme]
        if (self.scheme or origin.scheme, self.host, port) != (origin.scheme, origin.host, origin.port):
            return None
        rest = address.target.removeprefix(self.path)
        inside = address.target.startswith(self.path) and (not rest or rest[0] in "/?")
        return rest if inside else None


def _source(key: str) -> _Source:
    if "://" in key:
        address = base(key, "mirrors")
        return _Source(address.origin.scheme, address.origin.host, address.origin.port, address.target.rstrip("/"))
    address = base(f"http://{key}", "mirrors")
    if address.target != "/":
        raise InvalidInput("mirrors", "a key is a host or a whole URL")
    return _Source("", address.origin.host, urlsplit(f"http://{key}").port, "")


def base(url: str, field: str) -> Address:
    """A URL that others can be built on. Raises InvalidInput."""
    address = parse(url, field)
    if "?" in address.target or "#" in url:
        raise InvalidInput(field, "a base URL has no query and no fragment")
    return address
