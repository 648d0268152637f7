"""The circuit breaker of one host: after several failures in a row it is left alone for a while, then tried once.

`sending.py` asks before each attempt and reports how each request ended. Nothing here knows what a failure is.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable

from pumas.errors import CircuitOpen

FAILURES = 3
RECOVERY_S = 60.0
TRIAL_S = 1.0
"""What others are told to wait while the one trial is under way."""


class Circuit(enum.Enum):
    """`OPEN`: nobody is let through. `HALF_OPEN`: the time is over, one trial may go or is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Thread-safe. `changed` is called with the new state, outside the lock; `clock` is monotonic."""

    def __init__(self, host: str, clock: Callable[[], float], changed: Callable[[Circuit], None]) -> None:
        self._host, self._clock, self._changed = host, clock, changed
        self._lock = threading.Lock()
        self._failures = 0
        self._opened: float | None = None
        self._trial = False

    @property
    def state(self) -> Circuit:
        with self._lock:
            return self._state()

    @property
    def failures(self) -> int:
        """Failed requests since the last that succeeded."""
        with self._lock:
            return self._failures

    def wait(self) -> float:
        """Seconds until a request would be let through, 0.0 when it would be now."""
        with self._lock:
            return self._wait()

    def admit(self) -> bool:
        """Let a request through, and say whether it is the one trial. Who was let through reports how it ended.

        Raises:
            CircuitOpen: not now.
        """
        with self._lock:
            wait = self._wait()
            if wait > 0:
                raise CircuitOpen(self._host, wait)
            if self._opened is None:
                return False
            self._trial = True
        self._changed(Circuit.HALF_OPEN)
        return True

    def succeeded(self) -> None:
        with self._lock:
            closes = self._opened is not None
            self._failures, self._opened, self._trial = 0, None, False
        if closes:
            self._changed(Circuit.CLOSED)

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            opens = self._trial or (self._opened is None and self._failures >= FAILURES)
            if opens:
                self._opened, self._trial = self._clock(), False
        if opens:
            self._changed(Circuit.OPEN)

    def abandoned(self) -> None:
        """The trial ended without telling anything about the host; somebody else may try."""
        with self._lock:
            self._trial = False

    def _state(self) -> Circuit:
        if self._opened is None:
            return Circuit.CLOSED
        return Circuit.OPEN if self._clock() < self._opened + RECOVERY_S else Circuit.HALF_OPEN

    def _wait(self) -> float:
        if self._opened is None:
            return 0.0
        if self._trial:
            return TRIAL_S
        return max(0.0, self._opened + RECOVERY_S - self._clock())
