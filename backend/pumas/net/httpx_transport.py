"""Lets the official Hugging Face client send through `client.py`, so that its traffic follows the same rules.

Only what the library asks of a transport is here (https://www.python-httpx.org/advanced/transports/; the package is
called httpx2 now). Failures leave as the classes of `pumas.errors`, which the library lets pass: its own retries, whose
waits nobody can end, see only answers that are final. Imports huggingface_hub, so it is imported at first use.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import hf_request_event_hook

from pumas.net.address import parse
from pumas.net.client import NetworkClient
from pumas.net.options import USER_AGENT, OnWait, Stop, Timeouts
from pumas.net.response import MIB, Response
from pumas.net.sending import MAX_REDIRECTS, REDIRECTS, check_redirect

MAX_ANSWER = 64 * MIB
"""The longest answer of the hub's API, decoded."""
CHUNK = 256 * 1024
_OURS = frozenset({"accept-encoding", "connection", "content-length", "host", "transfer-encoding", "user-agent"})
"""Headers that `client.py` and urllib3 write."""
_OF_THE_WIRE = frozenset({"connection", "content-encoding", "content-length", "transfer-encoding"})
"""Headers that do not describe a body that has been read and decoded."""

_WHOLE = "pumas.whole"


@dataclass(frozen=True, slots=True)
class _Manner:
    stop: Stop | None = None
    on_wait: OnWait | None = None
    patience_s: float = float("inf")
    timeouts: Timeouts | None = None


_manner: ContextVar[_Manner | None] = ContextVar("manner", default=None)


@contextlib.contextmanager
def asking(
    *,
    stop: Stop | None = None,
    on_wait: OnWait | None = None,
    patience_s: float = float("inf"),
    timeouts: Timeouts | None = None,
) -> Generator[None]:
    """Say how the calls of the library inside are to be sent, as the arguments of `NetworkClient.send` do."""
    token = _manner.set(_Manner(stop, on_wait, patience_s, timeouts))
    try:
        yield
    finally:
        _manner.reset(token)


def use_for_huggingface_hub(client: NetworkClient) -> None:
    """Make the whole process's huggingface_hub send through `client`. The last call wins."""
    # Its lines hold addresses with their queries, which may be signed.
    logging.getLogger("httpx2").setLevel(logging.WARNING)

    def build() -> httpx2.Client:
        return httpx2.Client(
            transport=HubTransport(client),
            event_hooks={"request": [hf_request_event_hook]},
            follow_redirects=True,
            max_redirects=MAX_REDIRECTS,
            timeout=None,
            trust_env=False,  # proxies and .netrc are for `client.py` to decide
        )

    set_client_factory(build)


class HubTransport(httpx2.BaseTransport):
    """Sends each request of httpx2, redirects included, through a `NetworkClient`."""

    def __init__(self, client: NetworkClient) -> None:
        self._client = client

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises NetworkError for no answer and for 429 and 5xx after all attempts; other answers are the library's."""
        manner = _manner.get() or _Manner()
        whole = _is_api(request)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OURS}
        headers |= {"user-agent": USER_AGENT, "accept-encoding": "gzip, deflate" if whole else "identity"}
        response = self._client.send(
            request.method,
            str(request.url),
            headers=headers,
            body=request.read() or None,
            timeouts=manner.timeouts or _timeouts(request.extensions.get("timeout")),
            check=False,
            follow_redirects=False,
            stop=manner.stop,
            on_wait=manner.on_wait,
            patience_s=manner.patience_s,
            preload=MAX_ANSWER if whole else None,
        )
        if response.failed:
            response.drain()
            raise response.failure()
        if response.status in REDIRECTS and "location" in response.headers:
            with _closing_on_error(response):
                check_redirect(parse(response.url), response.headers["location"])
        return _answer(response, whole)


def _is_api(request: httpx2.Request) -> bool:
    """Whether the answer is a description, to be read at once, and not a file that may be large.

    httpx2 does not say whether its caller wants a stream, but hands the extensions of a request on to those that its
    redirects lead to. `/api/resolve-cache/` gives files, too.
    """
    path = request.url.path
    return bool(request.extensions.setdefault(_WHOLE, "/api/" in path and "/resolve" not in path))


def _answer(response: Response, whole: bool) -> httpx2.Response:
    headers = list(response.headers.items())
    if not whole:
        return httpx2.Response(response.status, headers=headers, stream=_Body(response))
    with response:
        body = response.read(MAX_ANSWER)
    kept = [(name, value) for name, value in headers if name.lower() not in _OF_THE_WIRE]
    return httpx2.Response(response.status, headers=kept, content=body)


class _Body(httpx2.SyncByteStream):
    """A body as it comes."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        buffer = memoryview(bytearray(CHUNK))
        while size := self._response.read_into(buffer):
            yield bytes(buffer[:size])

    def close(self) -> None:
        self._response.close()


@contextlib.contextmanager
def _closing_on_error(response: Response) -> Generator[None]:
    try:
        yield
    except BaseException:
        response.close()
        raise


def _timeouts(asked: Any) -> Timeouts:
    """httpx2's four time-outs, where None means that the library has no wish."""
    ours = Timeouts()
    if not isinstance(asked, dict):
        return ours
    connect, read = (asked.get(name) for name in ("connect", "read"))  # pyright: ignore
    return Timeouts(
        connect_s=float(connect) if isinstance(connect, int | float) else ours.connect_s,
        read_s=float(read) if isinstance(read, int | float) else ours.read_s,
    )
