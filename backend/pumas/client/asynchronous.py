"""The asynchronous client: the same as `sync.py` over aiohttp. Knows no method by name.

async with AsyncPumasClient() as client:
    async for event in client.events(["job"]): ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from pumas.client import discovery, sidecar, waiting, wire
from pumas.client.async_methods import AsyncMethods
from pumas.client.discovery import Endpoint
from pumas.client.errors import NotReachable, WaitTimedOut
from pumas.client.reconnect import Reconnect
from pumas.client.sse import READY, Event, EventParser, chosen

if TYPE_CHECKING:
    from pumas.client.types import JobInfo

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
EVENT_TIMEOUT_S = 60.0


class AsyncPumasClient(AsyncMethods):
    """Calls one sidecar; calls may run side by side. The sidecar is looked for by `async with`, or by the first call.

    Arguments and errors are those of `PumasClient`.
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
        self._named = discovery.at(url, token) if url is not None else None
        self._root = None if url is not None else Path(root).expanduser().absolute() if root else None
        self._start = start
        self._timeout = timeout
        self._own: sidecar.Sidecar | None = None
        self._endpoint: Endpoint | None = None
        self._session: aiohttp.ClientSession | None = None
        self._opening = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"AsyncPumasClient({self._endpoint.url if self._endpoint else 'not connected'!r})"

    @property
    def started_sidecar(self) -> bool:
        """Whether this client started the sidecar, which then ends with it."""
        return self._own is not None

    async def __aenter__(self) -> Self:
        await self._current()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close connections and stop the sidecar that this client started, if it did."""
        await self._close_session()
        if self._own is not None:
            await asyncio.to_thread(self._own.stop)

    async def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(RuntimeError):  # its loop is closed, and its connections with it
                await session.close()

    async def _current(self) -> Endpoint:
        """The endpoint; looked for at first use, and anew when the sidecar of our root was replaced by another one."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # another `asyncio.run`: what was made in the loop of the last one is of no use
            self._loop, self._opening = loop, asyncio.Lock()
            await self._close_session()
        endpoint = self._endpoint
        if endpoint is not None and endpoint.alive:
            return endpoint
        async with self._opening:
            if self._endpoint is None or not self._endpoint.alive:
                self._endpoint = self._named or await asyncio.to_thread(self._find_or_start)
            return self._endpoint

    def _find_or_start(self) -> Endpoint:
        root = self._root or discovery.default_root()
        found = discovery.find(root)
        if found is not None:
            return found
        if self._endpoint is not None:
            ended = self._own.ended() if self._own else None
            raise NotReachable(ended or "The sidecar has stopped. Start one (pumas serve) and make a new client.")
        if not self._start:
            raise discovery.not_running(root)
        started = sidecar.start(root)
        if isinstance(started, Endpoint):
            return started
        self._own = started
        return started.endpoint

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            # trust_env is off: proxies and .netrc of the environment are not for a program on this machine.
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
        return self._session

    # -- calls -------------------------------------------------------------------------------------------------------

    async def call(self, method: str, params: Mapping[str, Any] | None = None) -> Any:
        """Call a method by its name on the wire; the typed methods are made of this.

        Raises:
            CallFailed, NotReachable, Refused: as `PumasClient.call`.
        """
        body = wire.request(method, params)
        endpoint = await self._current()
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=self._timeout)
        try:
            async with self._http().post(
                f"{endpoint.url}/rpc",
                data=body,
                headers=wire.headers(endpoint.token),
                timeout=limits,
                allow_redirects=False,
            ) as reply:
                status, content = reply.status, await reply.read()
        except aiohttp.SocketTimeoutError:
            raise NotReachable(f"{endpoint.url} did not answer within {self._timeout:.0f} s.") from None
        except (aiohttp.ClientError, OSError):
            ended = await asyncio.to_thread(self._own.ended) if self._own else None
            raise NotReachable(ended or f"Nothing answers at {endpoint.url}. Start a sidecar: pumas serve") from None
        return wire.value(status, content)

    # -- events ------------------------------------------------------------------------------------------------------

    def events(self, topics: str | Iterable[str] = (), after: int | None = None) -> AsyncGenerator[Event]:
        """Follow the event stream; close it with `contextlib.aclosing` or `aclose`.

        A cut connection is opened again where it was cut. An event `resync` means that some were missed.

        Args:
            topics: one or several, whole or by their first words (`job`, `model.added`); none means all.
            after: the cursor of an event seen earlier, to get what came since.
        """
        return self._events(chosen(topics), after)

    async def _events(self, topics: tuple[str, ...], after: int | None) -> AsyncGenerator[Event]:
        async with aclosing(self._with_ready(topics, after)) as stream:
            async for event in stream:
                if event.topic != READY:
                    yield event

    async def _with_ready(self, topics: tuple[str, ...], after: int | None) -> AsyncGenerator[Event]:
        reconnect = Reconnect(after)
        while True:
            parser = EventParser()
            with suppress(aiohttp.ClientError, OSError):
                async with aclosing(self._one_connection(topics, reconnect, parser)) as stream:
                    async for event in stream:
                        yield event
            await asyncio.sleep(reconnect.next_pause(parser.retry_ms / 1000))

    async def _one_connection(
        self, topics: tuple[str, ...], reconnect: Reconnect, parser: EventParser
    ) -> AsyncGenerator[Event]:
        endpoint = await self._current()
        headers = {name: text for name, text in wire.headers(endpoint.token).items() if name == "Authorization"}
        if reconnect.cursor is not None:
            headers["Last-Event-ID"] = str(reconnect.cursor)
        async with self._http().get(
            f"{endpoint.url}/events",
            params={"topics": ",".join(topics)} if topics else None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=EVENT_TIMEOUT_S),
            allow_redirects=False,
        ) as reply:
            if reply.status != 200:
                wire.value(reply.status, await reply.read())
            while data := await reply.content.readany():
                for event in parser.feed(data):
                    reconnect.saw(event)
                    yield event

    async def wait_for_job(
        self,
        job_id: str,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the synchronous client's signature
        check: bool = True,
    ) -> JobInfo:
        """Wait until a job is completed, failed, cancelled or paused, and return it; see `PumasClient.wait_for_job`.

        Raises:
            CallFailed: the job did not complete; the class is that of its `error_code`, `details` is the job.
            WaitTimedOut: `timeout` is over; the job goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._job_at_rest(job_id, on_progress, check=check)
        except TimeoutError:
            raise WaitTimedOut(f"Job {job_id} did not end within {timeout} s; it goes on.") from None

    async def _job_at_rest(
        self, job_id: str, on_progress: Callable[[dict[str, Any]], None] | None, *, check: bool
    ) -> JobInfo:
        async with aclosing(self._with_ready(waiting.TOPICS, None)) as events:
            async for event in events:
                if waiting.is_progress(event, job_id):
                    if on_progress:
                        on_progress(event.data)
                elif waiting.must_look(event, job_id):
                    job = (await self.get_job(job_id))["job"]
                    if on_progress:
                        on_progress(waiting.snapshot(job))
                    if job["state"] in waiting.AT_REST:
                        return waiting.outcome(job, check=check)
        raise AssertionError("the event stream ends only by an exception")
