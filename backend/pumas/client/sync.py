"""The synchronous client: calls and events over one `requests.Session`. Knows no method by name.

    with PumasClient() as client:
        for model in client.search_models_fts("llama")["models"]: ...

A session is not made for many threads at once: give each thread its own client.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import requests
import urllib3

from pumas.client import discovery, sidecar, waiting, wire
from pumas.client.discovery import Endpoint
from pumas.client.errors import NotReachable, WaitTimedOut
from pumas.client.reconnect import Reconnect
from pumas.client.sse import READY, Event, EventParser, chosen
from pumas.client.sync_methods import Methods

if TYPE_CHECKING:
    from pumas.client.types import JobInfo

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
# The server says something at least every 20 s.
EVENT_TIMEOUT_S = 60.0


class PumasClient(Methods):
    """Calls one sidecar. Use it as a context manager, or call `close`.

    Args:
        root: the launcher root whose sidecar is wanted; default: see `discovery.default_root`.
        start: start a sidecar when none runs for that root; it ends with `close` or with this process.
        url, token: call the sidecar at this address instead of looking for one.
        timeout: seconds to wait for the answer of one call.

    Raises:
        NotReachable: none runs and `start` is False, or it could not be started.
        ValueError: `url` is no plain http address.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        start: bool = False,
        url: str | None = None,
        token: str | None = None,
        timeout: float = READ_TIMEOUT_S,
    ) -> None:
        self._own: sidecar.Sidecar | None = None
        self._root = None if url is not None else Path(root).expanduser().absolute() if root else None
        self._timeout = timeout
        self._session = requests.Session()
        # Proxies and .netrc of the environment are not for a program on this machine.
        self._session.trust_env = False
        if url is not None:
            self._endpoint = discovery.at(url, token)
            return
        self._root = self._root or discovery.default_root()
        self._endpoint = self._find_or_start(self._root, start=start)

    def _find_or_start(self, root: Path, *, start: bool) -> Endpoint:
        found = discovery.find(root)
        if found is not None:
            return found
        if not start:
            raise discovery.not_running(root)
        started = sidecar.start(root)
        if isinstance(started, Endpoint):
            return started
        self._own = started
        return started.endpoint

    def __repr__(self) -> str:
        return f"PumasClient({self._endpoint.url!r})"

    @property
    def url(self) -> str:
        return self._endpoint.url

    @property
    def started_sidecar(self) -> bool:
        """Whether this client started the sidecar, which then ends with it."""
        return self._own is not None

    def close(self) -> None:
        """Close connections and stop the sidecar that this client started, if it did."""
        self._session.close()
        if self._own is not None:
            self._own.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- calls -------------------------------------------------------------------------------------------------------

    def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Call a method by its name on the wire; the typed methods are made of this.

        Raises:
            CallFailed: the sidecar answered with a failure; a subclass tells which.
            NotReachable: no answer.
            Refused: an answer that is no JSON-RPC, for example to a wrong token.
        """
        body = wire.request(method, params)
        endpoint = self._current()
        try:
            reply = self._session.post(
                f"{endpoint.url}/rpc",
                data=body,
                headers=wire.headers(endpoint.token),
                timeout=(CONNECT_TIMEOUT_S, self._timeout),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise self._unreachable(error) from None
        return wire.value(reply.status_code, reply.content)

    def _current(self) -> Endpoint:
        """The endpoint, found anew when the sidecar of our root was replaced by another one."""
        if not self._endpoint.alive:
            found = discovery.find(self._root) if self._root is not None else None
            if found is None:
                ended = self._own.ended() if self._own else None
                raise NotReachable(ended or "The sidecar has stopped. Start one (pumas serve) and make a new client.")
            self._endpoint = found
        return self._endpoint

    def _unreachable(self, error: Exception) -> NotReachable:
        if isinstance(error, requests.ReadTimeout):
            return NotReachable(f"{self._endpoint.url} did not answer within {self._timeout:.0f} s.")
        ended = self._own.ended() if self._own else None
        return NotReachable(ended or f"Nothing answers at {self._endpoint.url}. Start a sidecar: pumas serve")

    # -- events ------------------------------------------------------------------------------------------------------

    def events(self, topics: str | Iterable[str] = (), after: int | None = None) -> EventReader:
        """Follow the event stream: an iterator that blocks, to be closed with `close` (any thread) or by `with`.

        A cut connection is opened again where it was cut. An event `resync` means that some were missed.

        Args:
            topics: one or several, whole or by their first words (`job`, `model.added`); none means all.
            after: the cursor of an event seen earlier, to get what came since.
        """
        return EventReader(self._open_events, chosen(topics), after)

    def _open_events(self, topics: tuple[str, ...], after: int | None) -> requests.Response:
        endpoint = self._current()
        headers = {name: text for name, text in wire.headers(endpoint.token).items() if name == "Authorization"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        reply = self._session.get(
            f"{endpoint.url}/events",
            params={"topics": ",".join(topics)} if topics else None,
            headers=headers,
            timeout=(CONNECT_TIMEOUT_S, EVENT_TIMEOUT_S),
            stream=True,
            allow_redirects=False,
        )
        if reply.status_code != 200:
            wire.value(reply.status_code, reply.content)
        return reply

    def wait_for_job(
        self,
        job_id: str,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        *,
        timeout: float | None = None,
        check: bool = True,
    ) -> JobInfo:
        """Wait until a job is completed, failed, cancelled or paused, and return it. Listens; never polls.

        Args:
            on_progress: called with `{job_id, kind, stage, item, done, total, unit, progress}` a few times a second.
            timeout: seconds; None waits for ever.
            check: raise when the job did not complete.

        Raises:
            CallFailed: the job did not complete; the class is that of its `error_code`, `details` is the job.
            WaitTimedOut: `timeout` is over; the job goes on.
        """
        tell = on_progress or _ignore
        with self.events(waiting.TOPICS) as events, events.limited(timeout):
            for event in events.with_ready():
                if waiting.is_progress(event, job_id):
                    tell(event.data)
                elif waiting.must_look(event, job_id):
                    job = self.get_job(job_id)["job"]
                    tell(waiting.snapshot(job))
                    if job["state"] in waiting.AT_REST:
                        return waiting.outcome(job, check=check)
        raise WaitTimedOut(f"Job {job_id} did not end within {timeout} s; it goes on.")


def _ignore(_progress: dict[str, Any]) -> None:
    pass


class EventReader:
    """An open event stream: iterate over it; `close` ends the iteration, also from another thread."""

    def __init__(
        self,
        connect: Callable[[tuple[str, ...], int | None], requests.Response],
        topics: tuple[str, ...],
        after: int | None,
    ) -> None:
        self._connect = connect
        self._topics = topics
        self._reconnect = Reconnect(after)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self._stream = self._run()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = next(self._stream)
        while event.topic == READY:
            event = next(self._stream)
        return event

    def with_ready(self) -> Generator[Event]:
        """The events and, in front and after each reconnect, the `ready` by which the server says that it listens."""
        return self._stream

    def close(self) -> None:
        self._closed.set()
        with self._lock, contextlib.suppress(ValueError, RuntimeError, OSError):
            if self._response is not None:
                # Ends a read that another thread is blocked in; closing alone would wait for it.
                self._response.raw.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        self._stream.close()

    @contextlib.contextmanager
    def limited(self, timeout: float | None) -> Generator[None]:
        """Close by itself after `timeout` seconds."""
        if timeout is None:
            yield
            return
        timer = threading.Timer(timeout, self.close)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _run(self) -> Generator[Event]:
        while not self._closed.is_set():
            parser = EventParser()
            with contextlib.suppress(requests.RequestException, urllib3.exceptions.HTTPError, OSError):
                yield from self._one_connection(parser)
            pause = self._reconnect.next_pause(parser.retry_ms / 1000)
            self._closed.wait(pause)

    def _one_connection(self, parser: EventParser) -> Generator[Event]:
        response = self._connect(self._topics, self._reconnect.cursor)
        with self._lock:
            self._response = response
        try:
            while not self._closed.is_set():
                data = response.raw.read1(65536)
                if not data:
                    return
                for event in parser.feed(data):
                    self._reconnect.saw(event)
                    yield event
                    if self._closed.is_set():
                        return
        finally:
            with self._lock:
                self._response = None
            response.close()
