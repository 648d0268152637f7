"""Answers of the hub, kept: fresh ones cost nothing, old ones serve while the hub cannot be reached.

One question is asked once at a time, however many callers want it. A caller waits for a bounded time and then gets what
was known before, marked as stale; the answer is kept when it comes. What is asked, and how, is the caller's business.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from pumas.errors import NetworkError, TimedOut
from pumas.hub.store import HubStore

if TYPE_CHECKING:
    from cachetools import TTLCache

T = TypeVar("T")

CALL_S: Final = 9.0
"""No call takes longer than 10 s."""
WAIT_S: Final = 8.0
"""How long a caller waits for an answer that nobody had before."""
STALE_WAIT_S: Final = 4.0
"""The same when there is an old answer to fall back on."""
IN_MEMORY_BYTES: Final = 8 * 1024 * 1024
_MEMORY_TTL_S: Final = 3600.0
THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What was fetched at `fetched_at` (seconds since 1970), as JSON. `stale`: old, and no newer one was to be had."""

    body: bytes
    fetched_at: float
    stale: bool = False

    @property
    def value(self) -> Any:
        """A copy of its own for each reader: kept as text, an answer takes a fraction of the memory."""
        return orjson.loads(self.body)

    @property
    def fetched(self) -> str:
        """ISO-8601 UTC."""
        moment = datetime.datetime.fromtimestamp(self.fetched_at, datetime.UTC)
        return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class Deadline:
    """What is left of the time that one call may take."""

    def __init__(self, seconds: float = CALL_S) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + seconds

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - self._loop.time())


class Answers:
    """For the event loop. Questions run in threads of their own: a hub that hangs must not hold up the disk's."""

    def __init__(self, store: HubStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._memory: TTLCache[str, Answer] | None = None
        self._asking: dict[str, asyncio.Future[Answer]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def get(
        self,
        key: str,
        ttl_s: float,
        ask: Callable[[], Any],
        *,
        wait_s: float = WAIT_S,
        stale_wait_s: float = STALE_WAIT_S,
    ) -> Answer:
        """The kept answer when it is younger than `ttl_s`, else what `ask` returns; `ask` blocks and makes JSON values.

        Raises:
            PumasError: what `ask` raised, when there is no old answer, or when it was no matter of the network.
            TimedOut: there is no old answer, and none within `wait_s`.
        """
        kept = self.remembered(key)
        if kept is None:
            kept = await asyncio.to_thread(self._kept, key)
        if kept is not None and self._is_fresh(kept, ttl_s):
            self._remember(key, kept)
            return kept
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._ask(key, ask))
            asking.add_done_callback(lambda future: self._ended(key, future))
        try:
            return await asyncio.wait_for(asyncio.shield(asking), wait_s if kept is None else stale_wait_s)
        except TimeoutError:
            if kept is None:
                raise TimedOut("The hub has not answered yet; ask again in a moment.") from None
        except NetworkError:
            if kept is None:
                raise
        return Answer(kept.body, kept.fetched_at, stale=True)

    def remembered(self, key: str, ttl_s: float | None = None) -> Answer | None:
        """The answer when it is in memory (and younger than `ttl_s`); never waits."""
        kept = self._memory.get(key) if self._memory is not None else None
        return kept if kept is None or ttl_s is None or self._is_fresh(kept, ttl_s) else None

    def _is_fresh(self, answer: Answer, ttl_s: float) -> bool:
        # A clock that was set back makes answers from the future: those count as old.
        return 0 <= self._clock() - answer.fetched_at < ttl_s

    def _kept(self, key: str) -> Answer | None:
        row = self._store.answer(key)
        return None if row is None else Answer(row[1], row[0])

    async def _ask(self, key: str, ask: Callable[[], Any]) -> Answer:
        def work() -> Answer:
            answer = Answer(orjson.dumps(ask()), self._clock())
            self._store.keep(key, answer.fetched_at, answer.body)
            return answer

        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="hub")
        answer = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._remember(key, answer)
        return answer

    def _remember(self, key: str, answer: Answer) -> None:
        if self._memory is None:
            from cachetools import TTLCache

            self._memory = TTLCache(IN_MEMORY_BYTES, _MEMORY_TTL_S, getsizeof=lambda kept: len(kept.body))
        if len(answer.body) < IN_MEMORY_BYTES // 2:
            self._memory[key] = answer

    def _ended(self, key: str, asking: asyncio.Future[Answer]) -> None:
        self._asking.pop(key, None)
        if not asking.cancelled():
            asking.exception()  # seen: the callers that still wait have it, and nobody else needs to


async def gather(limit: int, work: list[Callable[[], Awaitable[T]]]) -> list[T]:
    """Do all, at most `limit` at a time, and return the results in order."""
    slots = asyncio.Semaphore(limit)

    async def one(each: Callable[[], Awaitable[T]]) -> T:
        async with slots:
            return await each()

    return await asyncio.gather(*(one(each) for each in work))
