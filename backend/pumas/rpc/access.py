"""Who may call: the guards of every request, as functions over plain values. One table of cases tests them.

Order (each step tells nothing of what the next would say): Host 421, Origin and Sec-Fetch-Site 403, token or user 401
or 403, then content type and encoding 415, length 413.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Refusal:
    """An HTTP status and one sentence for the person who reads the reply."""

    status: int
    message: str


def split_host(text: str) -> tuple[str, int] | None:
    """Parse a Host header ('name:port', '[v6]:port') into (lower-case name, port), None when it is anything else."""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            return None
        port_text = rest[1:]
    else:
        name, colon, port_text = text.partition(":")
        if not colon:
            return None
    # isdecimal alone would let digits of other scripts through.
    if not name or not port_text.isascii() or not port_text.isdecimal() or len(port_text) > 5:
        return None
    return name.lower(), int(port_text)


class Guard:
    """The access rules of one listening server.

    Args:
        port: the port that the server listens on.
        token: the secret that every request must carry; None means that callers are told apart by user id.
        extra_hosts: IP addresses, besides loopback, under which the server was told to listen.
    """

    def __init__(self, port: int, token: str | None, extra_hosts: Sequence[str] = ()) -> None:
        self._hosts = {(name, port) for name in (*LOOPBACK_NAMES, *extra_hosts)}
        self._origins = {("http", name, port) for name in (*LOOPBACK_NAMES, *extra_hosts)}
        self._token = None if token is None else token.encode("utf-8")

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def check_host(self, values: Sequence[str]) -> Refusal | None:
        """Exactly one Host header, equal to a name of ours with our port: stops DNS rebinding."""
        if len(values) == 1 and split_host(values[0]) in self._hosts:
            return None
        return Refusal(421, "Misdirected request: the Host header must be this server's loopback address and port.")

    def check_origin(self, origins: Sequence[str], fetch_sites: Sequence[str]) -> Refusal | None:
        """A browser names the page that sends the request; only pages of this server may."""
        if any(site.strip().lower() not in ("none", "same-origin") for site in fetch_sites) or len(origins) > 1:
            return _FOREIGN
        if origins and _origin(origins[0]) not in self._origins:
            return _FOREIGN
        return None

    def check_token(self, values: Sequence[str]) -> Refusal | None:
        """`Authorization: Bearer TOKEN`, compared in constant time."""
        if self._token is None:
            return None
        scheme, _, given = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        # Bytes: compare_digest raises on text that is not ASCII. Surrogate escapes are how raw header bytes arrive.
        given_bytes = given.strip().encode("utf-8", "surrogateescape")
        if hmac.compare_digest(given_bytes, self._token) and scheme.lower() == "bearer":
            return None
        return Refusal(401, "Unauthorized: send the token of launcher-data/rpc.json as 'Authorization: Bearer TOKEN'.")


_FOREIGN = Refusal(403, "Forbidden: requests from web pages of other origins are not answered.")


def _origin(text: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if f"{parts.scheme}://{parts.netloc}" != text or "@" in parts.netloc or parts.hostname is None or port is None:
        return None
    return parts.scheme, parts.hostname, port


def check_content(content_types: Sequence[str], encodings: Sequence[str]) -> Refusal | None:
    """Only plain JSON bodies: a form or a text body can be sent by any web page without asking."""
    if encodings:
        return Refusal(415, "Unsupported: compressed request bodies are not accepted.")
    media, _, parameters = content_types[0].partition(";") if len(content_types) == 1 else ("", "", "")
    charset = parameters.strip().lower().replace(" ", "").replace('"', "")
    if media.strip().lower() != "application/json" or charset not in ("", "charset=utf-8", "charset=utf8"):
        return Refusal(415, "Unsupported media type: send 'Content-Type: application/json'.")
    return None


def check_length(length: int | None, limit: int) -> Refusal | None:
    if length is not None and length > limit:
        return Refusal(413, f"Too large: a request body may have at most {limit} bytes.")
    return None


def peer_is_us(peer: tuple[str, int], local: tuple[str, int]) -> bool:
    """Whether the other end of a loopback connection belongs to our own user (Linux: the kernel's TCP table).

    Where the kernel offers no such table the answer is True: the socket is bound to loopback and nothing better exists.
    """
    uid = _socket_uid(peer, local)
    return uid is None or uid == os.getuid()


def _socket_uid(peer: tuple[str, int], local: tuple[str, int]) -> int | None:
    """The uid that owns the peer's socket; -1 when the table has no such row."""
    tables = ("/proc/net/tcp", "/proc/net/tcp6")
    wanted = {(_kernel_form(a), _kernel_form(b)) for a, b in _forms(peer, local)}
    seen = False
    for table in tables:
        try:
            with open(table, encoding="ascii") as lines:
                next(lines, None)
                seen = True
                for line in lines:
                    fields = line.split()
                    if (fields[1], fields[2]) in wanted:
                        return int(fields[7])
        except OSError:
            continue
    return -1 if seen else None


Address = tuple[str, int]


def _forms(peer: Address, local: Address) -> list[tuple[Address, Address]]:
    """The pair as given, and with IPv4 mapped into IPv6, as a dual-stack client's row shows it."""
    mapped = [(f"::ffff:{host}" if "." in host and ":" not in host else host, port) for host, port in (peer, local)]
    return [(peer, local), (mapped[0], mapped[1])]


def _kernel_form(address: Address) -> str:
    """/proc/net/tcp shows each 32-bit word of an address in host byte order."""
    packed = ipaddress.ip_address(address[0]).packed
    words = [int.from_bytes(packed[i : i + 4], "little") for i in range(0, len(packed), 4)]
    return f"{''.join(f'{word:08X}' for word in words)}:{address[1]:04X}"
