"""The content of one file at the hub: where it is, how a span of it is asked for, and whether the answer is that span.

The hub sends large files' requests on to another host with a signed address that is good for a while; it is kept, so
that each span costs one request. The rules of ranges are those of RFC 9110 §13.1.5 and §14. Who writes the bytes, and
what a failure leads to, is decided in `large.py` and `small.py`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self
from urllib.parse import urlsplit

from pumas.downloads.part import Span
from pumas.downloads.wanted import WantedFile
from pumas.errors import GatedRepo, HttpStatus, InvalidReply, PumasError, RateLimited

# So few digits that reading the number can be no attack.
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_REFUSED = frozenset({401, 403, 404, 410})


class Reply(Protocol):
    """What is used of `net.client.Response`."""

    @property
    def status(self) -> int: ...
    @property
    def url(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def wait_s(self) -> float | None: ...
    def read_into(self, target: memoryview, /) -> int: ...
    def read(self, limit: int) -> bytes: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Changed(PumasError):
    """What the server has now is not what the blocks on disk are of: the file begins anew."""

    def __init__(self, reason: str, *, ranges: bool = True) -> None:
        super().__init__(reason)
        self.ranges = ranges


Send = Callable[[str, Mapping[str, str]], Reply]


class Content:
    """Calls block and may come from several threads at once."""

    def __init__(self, wanted: WantedFile, repo_id: str, page: str, url: str, send: Send) -> None:
        """
        Args:
            page: where a person accepts the repository's terms.
            send: makes one GET of an address with these headers, adding what the address's host may see of us.
        """
        self.wanted = wanted
        self._repo_id = repo_id
        self._page = page
        self._url = url
        self._send = send
        self._lock = threading.Lock()
        self._signed: str | None = None

    def open(self, span: Span | None, etag: str = "") -> Reply:
        """Ask for a span of the file, or with None for all of it.

        Args:
            etag: the content that a span must be of; "" while that is unknown.

        Raises:
            Changed: the server has another content, or gives no spans.
            InvalidReply: the answer is none of this file.
            GatedRepo, RateLimited, NetworkError: refused, told to come back later, or not reached.
        """
        headers = {"Accept-Encoding": "identity"}
        if span:
            headers["Range"] = f"bytes={span.start}-{span.stop - 1}"
            # Only a strong validator may guard a range (RFC 9110 §13.1.5).
            if etag and not etag.startswith("W/"):
                headers["If-Range"] = etag
        reply = self._reply(headers)
        try:
            self._check(reply, span, etag)
        except BaseException:
            reply.close()
            raise
        return reply

    def _reply(self, headers: Mapping[str, str]) -> Reply:
        signed = self._signed
        if signed is not None:
            reply = self._send(signed, headers)
            if reply.status not in _REFUSED:
                return reply
            reply.close()  # the signature ran out; the hub gives a new one
            with self._lock:
                if self._signed == signed:
                    self._signed = None
        reply = self._send(self._url, headers)
        if reply.status < 400 and reply.url != self._url:
            with self._lock:
                self._signed = reply.url
        return reply

    def _check(self, reply: Reply, span: Span | None, etag: str) -> None:
        name = self.wanted.path
        if reply.status in (401, 403) and reply.headers.get("X-Error-Code") == "GatedRepo":
            raise GatedRepo(self._repo_id, self._page)
        if reply.status >= 400 and reply.wait_s is not None:
            raise RateLimited(host_of(reply), reply.wait_s)
        if reply.status in _REFUSED and host_of(reply) != urlsplit(self._url).netloc:
            raise invalid(reply, f"it refuses the signed address of {name} (HTTP {reply.status})")
        if reply.status == 416:
            raise invalid(reply, f"{name} is shorter there than the hub lists")
        if reply.status not in (200, 206):
            raise HttpStatus(reply.status, host_of(reply))
        if reply.status == 200:
            if "Content-Encoding" not in reply.headers:
                self._check_length(reply, self.wanted.size)
            if span is not None:
                other = self._is_other(reply, etag)
                raise Changed("it has changed on the server" if other else "the server gives no parts", ranges=other)
            return
        if span is None:
            raise invalid(reply, f"a part of {name}, although all of it was asked for")
        if self._is_other(reply, etag):
            raise Changed("it has changed on the server")
        self._check_range(reply, span)

    def _check_range(self, reply: Reply, span: Span) -> None:
        name = self.wanted.path
        found = _RANGE.fullmatch(reply.headers.get("Content-Range", "").strip())
        if not found:
            raise invalid(reply, f"it does not say which part of {name} it is")
        first, last, size = found.groups()
        if size != "*" and int(size) != self.wanted.size:
            raise invalid(reply, f"{name} has {int(size):,} bytes there, and {self.wanted.size:,} as the hub lists it")
        if (int(first), int(last) + 1) != (span.start, span.stop):
            raise Changed("the server sent another part than was asked for")
        self._check_length(reply, span.size)

    def _check_length(self, reply: Reply, size: int) -> None:
        said = reply.headers.get("Content-Length")
        if said is not None and (not said.isascii() or not said.isdecimal() or int(said[:20]) != size):
            page = "html" in reply.headers.get("Content-Type", "")
            what = "a web page (is a sign-in to this network needed?)" if page else f"{said[:20]} bytes"
            raise invalid(reply, f"{what} instead of {size:,} bytes of {self.wanted.path}")

    @staticmethod
    def _is_other(reply: Reply, etag: str) -> bool:
        return bool(etag) and reply.headers.get("ETag", etag) != etag


def host_of(reply: Reply) -> str:
    return urlsplit(reply.url).netloc


def invalid(reply: Reply, reason: str) -> InvalidReply:
    return InvalidReply(host_of(reply), reason)
