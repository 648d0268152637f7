"""How long a download goes on trying while nothing arrives.

Waits double from half a second to half a minute, with full jitter
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), or last as long as the server asks. Any
bytes that arrive begin the count anew. One instance serves all connections of a job.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
# About five minutes without a byte.
MOST_TRIES = 14


class Patience:
    def __init__(self, tries: int = MOST_TRIES, clock: Callable[[], float] = time.monotonic) -> None:
        self._tries = tries
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0

    def progressed(self) -> None:
        """Bytes arrived."""
        if self._failures:
            with self._lock:
                self._failures = 0

    def after(self, error: Exception, asked_s: float | None) -> float:
        """Seconds to wait before the next try; raises `error` when there were enough.

        Args:
            asked_s: how long the server asked to wait, if it did. Such a wait is no failure of its own.
        """
        with self._lock:
            moment = self._clock()
            if asked_s is not None:
                self._until = max(self._until, moment + asked_s)
                return asked_s
            if moment < self._until:
                # Connections that fail together are one failure.
                return self._until - moment
            self._failures += 1
            if self._failures > self._tries:
                raise error
            ceiling = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (self._failures - 1))
            wait = random.uniform(ceiling / 2, ceiling)
            self._until = moment + wait
            return wait
