"""Who may call: the guards of every request, as functions over plain values. One table of cases tests them.

Order (each step tells nothing of what the next would say): framing 400, Host 421, Origin and Sec-Fetch-Site 403, token
or user 401 or 403, then content type and encoding 415, length 413.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass

LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Refusal:
    """An HTTP status and one sentence for the person who reads the reply."""

    status: int
    message: str


class Guard:
    """The access rules of one listening server.

    Args:
        port: the port that the server listens on.
        token: the secret that every request must carry; None means that callers are told apart by user id.
        extra_hosts: IP addresses, besides loopback, under which the server was told to listen.
    """

    def __init__(self, port: int, token: str | None, extra_hosts: Sequence[str] = ()) -> None:
        names = [f"[{name}]" if ":" in name else name for name in (*LOOPBACK_NAMES, *extra_hosts)]
        self._hosts = {f"{name}:{port}" for name in names}
        # As browsers write them: https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
        self._origins = {f"http://{host}" for host in self._hosts}
        self._token = None if token is None else token.encode("utf-8")

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def check_host(self, values: Sequence[str]) -> Refusal | None:
        """Exactly one Host header, equal to a name of ours with our port: stops DNS rebinding."""
        # Whole texts are compared: what is never taken apart cannot be taken apart wrongly.
        if len(values) == 1 and values[0].lower() in self._hosts:
            return None
        return MISDIRECTED

    def check_origin(self, origins: Sequence[str], fetch_sites: Sequence[str]) -> Refusal | None:
        """A browser names the page that sends the request; only pages of this server may."""
        if any(site.strip().lower() not in ("none", "same-origin") for site in fetch_sites) or len(origins) > 1:
            return _FOREIGN
        if origins and origins[0] not in self._origins:
            return _FOREIGN
        return None

    def check_token(self, values: Sequence[str]) -> Refusal | None:
        """`Authorization: Bearer TOKEN`, compared in constant time."""
        if self._token is None:
            return None
        scheme, _, given = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        # Bytes: compare_digest raises on text that is not ASCII. Header bytes that are not UTF-8 arrive as surrogates.
        given_bytes = given.strip(" ").encode("utf-8", "surrogatepass")
        if hmac.compare_digest(given_bytes, self._token) and scheme.lower() == "bearer":
            return None
        return Refusal(401, "Unauthorized: send the token of launcher-data/rpc.json as 'Authorization: Bearer TOKEN'.")


def opens_a_page(modes: Sequence[str], destinations: Sequence[str]) -> bool:
    """Whether a browser asks for what it will show as a whole tab, whoever led it there: a link, a file, the user.

    Such a request may name another site in `Sec-Fetch-Site`; who sent it learns nothing of the answer.
    https://www.w3.org/TR/fetch-metadata/
    """
    return [m.lower() for m in modes] == ["navigate"] and [d.lower() for d in destinations] == ["document"]


MISDIRECTED = Refusal(421, "Misdirected request: the Host header must be this server's loopback address and port.")
_FOREIGN = Refusal(403, "Forbidden: requests from web pages of other origins are not answered.")
MALFORMED = Refusal(400, "Malformed HTTP request.")


def check_framing(version: tuple[int, int], transfer_encodings: Sequence[str]) -> Refusal | None:
    """What the HTTP parser lets through although only we or only a proxy would read it that way."""
    if version not in ((1, 0), (1, 1)) or [t.strip().lower() for t in transfer_encodings] not in ([], ["chunked"]):
        return MALFORMED
    return None


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
