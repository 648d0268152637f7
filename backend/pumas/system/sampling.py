"""Blocking readings of the machine, made on a thread of their own and shared by everybody who asks.

Role: the one place where the `system` domain leaves the event loop. `resources.py` samples with it while somebody
watches; `service.py` keeps slow-changing facts with it. It does not know what is read, and never blocks the loop: the
lock below is held to swap pointers and to start a thread, never while something is read.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from pumas.errors import Interrupted, TimedOut

T = TypeVar("T")

Source = Callable[[], AbstractContextManager[Callable[[], T]]]
"""Opened on the sampling thread when reading starts and closed when it stops; in between it gives readings."""

_CLOSE_WITHIN = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a source is read; all in seconds.

    A reading is given out until it is `max_age` old. The first call after that starts the reading, which goes on every
    `interval` until nobody has asked for `park_after`; with zero there is one reading per start. `window` passes
    between opening the source and its first reading, for numbers that are differences. A caller waits for
    `answer_within` at most: a driver or a network disk that hangs must not hang those who ask.
    """

    max_age: float
    interval: float = 0.0
    park_after: float = 0.0
    window: float = 0.0
    answer_within: float = 2.0


class Sampler(Generic[T]):
    """The latest reading of one source.

    Reading happens on one thread, which opens the source, and closes it and ends when nobody asks any more: a source
    that nobody watches costs nothing at all. There is never a second thread, so a reading that hangs costs one, and its
    callers get `TimedOut`. It is a daemon, because hanging in a driver must not keep the process from ending.
    `clock` (monotonic seconds) and `wait` (sleep that ends early, with True, when the event is set) are for tests.
    """

    def __init__(
        self,
        name: str,
        source: Source[T],
        pace: Pace,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self.name = name
        self._source = source
        self._pace = pace
        self._clock, self._wait = clock, wait
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._asked_at = 0.0
        self._read_at = 0.0
        self._last: Future[T] | None = None
        self._next: Future[T] | None = None

    @property
    def awake(self) -> bool:
        """Whether a thread exists for this source."""
        return self._thread is not None

    async def latest(self) -> T:
        """The newest reading; at once when there is a fresh one.

        Raises what the reading raised, `TimedOut` when it takes too long, `Interrupted` after `close`.
        """
        reading = self.wake()
        if reading.done():
            return reading.result()
        try:
            async with asyncio.timeout(self._pace.answer_within):
                return await asyncio.wrap_future(reading)
        except TimeoutError:
            raise TimedOut(f"Reading the {self.name} takes longer than {self._pace.answer_within:g} s.") from None

    async def recent(self, within: float = 10.0) -> T:
        """Like `latest`, but gives out a reading up to `within` seconds old at once while a newer one is made.

        For callers that ask again soon and must not wait even for a fast reading.
        """
        self.wake()
        with self._lock:
            last, age = self._last, self._clock() - self._read_at
        if last is not None and age <= within:
            return last.result()
        return await self.latest()

    def wake(self) -> Future[T]:
        """Say that somebody wants readings; returns the one to wait for, without waiting. Raises Interrupted."""
        with self._lock:
            if self._stop.is_set():
                raise Interrupted("The sidecar is stopping.")
            now = self._asked_at = self._clock()
            if self._last is not None and now - self._read_at <= self._pace.max_age:
                return self._last
            if self._next is None:
                self._next = Future()
                # A running future cannot be cancelled: a caller that gives up must not take it from the others.
                self._next.set_running_or_notify_cancel()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=f"sample {self.name}", daemon=True)
                thread.start()
                self._thread = thread
            return self._next

    async def close(self) -> None:
        """Stop reading; waits briefly for the source to be closed. Callers still waiting get `Interrupted`."""
        self._stop.set()
        with self._lock:
            thread, waiting, self._next = self._thread, self._next, None
        if waiting is not None:
            waiting.set_exception(Interrupted("The sidecar is stopping."))
        if thread is not None:
            await asyncio.to_thread(thread.join, _CLOSE_WITHIN)

    def _run(self) -> None:
        try:
            with self._source() as read:
                going = not self._wait(self._stop, self._pace.window)
                while going:
                    self._publish(_outcome(read))
                    going = not self._park() and not self._wait(self._stop, self._pace.interval)
        except Exception as error:  # the source cannot be opened: the callers hear of it
            failed: Future[T] = Future()
            failed.set_exception(error)
            self._publish(failed)
        finally:
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _park(self) -> bool:
        """Make room for a later thread, unless somebody waits; decided under the lock, so that no caller is lost."""
        with self._lock:
            idle = self._next is None and self._clock() - self._asked_at >= self._pace.park_after
            if idle:
                self._thread = None
            return idle

    def _publish(self, outcome: Future[T]) -> None:
        with self._lock:
            waiting, self._next = self._next, None
            self._last, self._read_at = outcome, self._clock()
        if waiting is None:
            return
        error = outcome.exception()
        if error is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(outcome.result())


def _outcome(read: Callable[[], T]) -> Future[T]:
    outcome: Future[T] = Future()
    try:
        outcome.set_result(read())
    except Exception as error:  # handed to the callers, with its traceback
        outcome.set_exception(error)
    return outcome


def when_asked(name: str, read: Callable[[], T], *, max_age: float) -> Sampler[T]:
    """A reading without a source to open, made only when somebody asks and the last one is older than `max_age`."""
    return Sampler(name, lambda: nullcontext(read), Pace(max_age))
