"""How long a download goes on trying while it gets no further.

Waits double from half a second to half a minute, with jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), or last as long as the server asks. Bytes
that bring the download further than it was begin the count anew; those that are lost again and again do not, or a
server that always breaks off would be asked for ever. One instance serves all connections of a job.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
PATIENCE_S = 300.0


class Patience:
    def __init__(self, limit_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        """`limit_s`: how long to try without getting further; waits that a server asks for come on top."""
        self._limit_s = limit_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0
        self._ends: float | None = None

    def progressed(self) -> None:
        """More is there than ever before."""
        if self._ends is not None:
            with self._lock:
                self._failures, self._ends = 0, None

    @property
    def waits(self) -> bool:
        """Whether the wait after the last failure is not over."""
        with self._lock:
            return self._ends is not None and self._clock() < self._until

    def after(self, error: Exception, *, told_s: float | None = None, asked_s: float | None = None) -> float:
        """Seconds to wait before the next try; raises `error` when it was tried for long enough.

        Args:
            told_s: nothing is sent before so many seconds are over (the circuit breaker).
            asked_s: the server asks for such a wait, or the user does (offline mode).
        """
        with self._lock:
            moment = self._clock()
            if self._ends is None:
                self._ends = moment + self._limit_s
            if asked_s is not None:
                self._ends += asked_s
                self._until = max(self._until, moment + asked_s)
            elif told_s is not None:
                self._until = max(self._until, moment + told_s)
            elif moment >= self._until:
                # Connections that fail together are one failure.
                self._failures += 1
                ceiling = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self._failures - 1, 16))
                self._until = moment + random.uniform(ceiling / 2, ceiling)
            if self._until > self._ends:
                raise error
            return self._until - moment
