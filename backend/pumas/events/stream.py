"""The event stream: services publish, readers follow with a cursor.

Cursors grow by one per event over all topics and never repeat across restarts (a run starts at its start time in
microseconds), so a reader that comes back with an old cursor is told to load anew (`resync`) instead of silently
missing something. Memory is bounded twice: the replay buffer by count and bytes, each reader's queue by count.
Nothing here knows about HTTP; `rpc/sse.py` writes the wire form.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Generator
from dataclasses import dataclass
from typing import Any

import orjson

REPLAY_EVENTS = 4096
REPLAY_BYTES = 4 * 1024 * 1024
QUEUE_EVENTS = 1024
RESYNC = "resync"


@dataclass(frozen=True, slots=True)
class Event:
    """`topic` is dotted (`job.progress`); `data` is a JSON object, already encoded once for all readers."""

    cursor: int
    topic: str
    data: bytes


class EventStream:
    """Publish from the event loop with `publish`, from any other thread with `publish_threadsafe`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._cursor = int(clock() * 1_000_000)
        self._buffer: deque[Event] = deque()
        self._buffered_bytes = 0
        self._readers: set[Subscription] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._joined = asyncio.Event()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that owns the stream; `publish_threadsafe` hands events to it."""
        self._loop = loop

    @property
    def cursor(self) -> int:
        """The cursor of the newest event."""
        return self._cursor

    def wanted(self, topic: str) -> bool:
        """Whether anybody follows this topic now; for events that are made only then."""
        return any(reader.wants(topic) for reader in self._readers)

    def publish(self, topic: str, data: dict[str, Any]) -> None:
        self._cursor += 1
        event = Event(self._cursor, topic, orjson.dumps(data))
        self._buffer.append(event)
        self._buffered_bytes += len(event.data)
        while len(self._buffer) > REPLAY_EVENTS or self._buffered_bytes > REPLAY_BYTES:
            self._buffered_bytes -= len(self._buffer.popleft().data)
        for reader in self._readers:
            reader.offer(event)

    def publish_passing(self, topic: str, data: dict[str, Any]) -> None:
        """Tell those who follow the topic by its name now. It takes no cursor of its own and is never replayed."""
        event = Event(self._cursor, topic, orjson.dumps(data))
        for reader in self._readers:
            if reader.named(topic):
                reader.offer(event)

    async def until_wanted(self, topic: str) -> None:
        """Return as soon as somebody follows this topic by its name."""
        while not any(reader.named(topic) for reader in self._readers):
            self._joined.clear()
            await self._joined.wait()

    def publish_threadsafe(self, topic: str, data: dict[str, Any]) -> None:
        if self._loop is None:
            return
        # The loop may close while a worker thread still reports.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.publish, topic, data)

    @contextlib.contextmanager
    def subscribe(self, topics: Collection[str] = (), after: int | None = None) -> Generator[Subscription]:
        """Follow the stream from `after` (a cursor seen earlier) or from now on.

        Args:
            topics: whole topics or their first words (`job` means `job.state` and `job.progress`); empty means all.
        """
        reader = Subscription(tuple(topics), start=self._cursor)
        if after is not None:
            self._replay(reader, after)
        self._readers.add(reader)
        self._joined.set()
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def _replay(self, reader: Subscription, after: int) -> None:
        oldest = self._buffer[0].cursor if self._buffer else self._cursor + 1
        if after > self._cursor or after < oldest - 1:
            reader.lose(self._cursor)
            return
        reader.start = after
        for event in self._buffer:
            if event.cursor > after:
                reader.offer(event)


class Subscription:
    """One reader: an async iterator over events. A reader that falls behind gets one `resync` and goes on from there.

    `start` is the cursor after which it follows.
    """

    def __init__(self, topics: tuple[str, ...], start: int) -> None:
        self.start = start
        self._topics = topics
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()

    def wants(self, topic: str) -> bool:
        return not self._topics or any(topic == t or topic.startswith(f"{t}.") for t in self._topics)

    def named(self, topic: str) -> bool:
        """As `wants`, but not for a reader that simply follows everything."""
        return bool(self._topics) and self.wants(topic)

    def offer(self, event: Event) -> None:
        if not self.wants(event.topic):
            return
        if len(self._queue) >= QUEUE_EVENTS:
            self.lose(event.cursor)
            return
        self._queue.append(event)
        self._wake.set()

    def lose(self, cursor: int) -> None:
        """Replace everything waiting by one `resync`: the reader must load the state anew."""
        self._queue.clear()
        self._queue.append(Event(cursor, RESYNC, orjson.dumps({"cursor": cursor})))
        self._wake.set()

    async def next(self) -> Event:
        while not self._queue:
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def pending(self) -> list[Event]:
        """All that waits now, taken out at once."""
        events = list(self._queue)
        self._queue.clear()
        return events

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            yield await self.next()
