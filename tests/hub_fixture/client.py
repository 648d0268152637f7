"""The plainest HTTP client: one request per connection, no retries, and all that arrived even when it ended badly."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit


@dataclass
class Answer:
    """`error` is what ended the answer early: an exception, or fewer bytes than were announced."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    error: Exception | None


def ask(
    url: str,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    *,
    body: bytes | None = None,
    timeout_s: float = 10.0,
    at_most: int = 1 << 30,
) -> Answer:
    """Raises what http.client raises when not even a head comes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(method, url.removeprefix(f"{parts.scheme}://{parts.netloc}"), body, dict(headers or {}))
        reply = connection.getresponse()
        got, error = bytearray(), None
        try:
            while len(got) < at_most and (piece := reply.read1(1 << 16)):
                got += piece
        except (OSError, http.client.HTTPException) as ended:
            error = ended
        if error is None and reply.length and len(got) < at_most:
            error = http.client.IncompleteRead(bytes(got), reply.length)
        return Answer(reply.status, reply.headers, bytes(got), error)
    finally:
        connection.close()


def fetch(url: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Follow redirects, as every download must."""
    for _ in range(5):
        answer = ask(url, headers=headers)
        if "Location" not in answer.headers:
            return answer
        url = urljoin(url, answer.headers["Location"])
    raise AssertionError("too many redirects")
