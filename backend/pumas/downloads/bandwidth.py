"""How fast bytes may be fetched: one limit for all downloads together.

It may change while threads wait in `take`; they notice at once. Knows neither files nor the network.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pumas.errors import InvalidInput

SLOWEST = 1024
_LARGEST_BITE = 1024 * 1024
# So small that bytes come every second at the slowest limit: else it would look like silence.
_SMALLEST_BITE = 1024
# A limit is kept over tenths of seconds: what was not used before that is lost.
_BURST_S = 0.1
_LOOK_AROUND_S = 0.1


class Bandwidth:
    """A limit in bytes per second over all threads that `take`; None means none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._rate: int | None = None
        self._granted = 0.0  # bytes that may have been taken by now
        self._taken = 0
        self._at = clock()

    @property
    def rate(self) -> int | None:
        return self._rate

    def limit(self, rate: int | None) -> None:
        """Raises InvalidInput as `check_rate`."""
        check_rate(rate)
        with self._changed:
            self._grant()
            self._rate = rate
            self._granted = float(self._taken)
            self._changed.notify_all()

    def bite(self) -> int:
        """How many bytes to fetch at a time, so that nobody waits long for the next."""
        rate = self._rate
        return _LARGEST_BITE if rate is None else max(_SMALLEST_BITE, min(_LARGEST_BITE, rate // 40))

    def take(self, count: int, check: Callable[[], None]) -> None:
        """Account for `count` bytes that were fetched, and wait until the limit has made up for them.

        `check` is called while waiting and may raise to stop.
        """
        if self._rate is None:
            return
        with self._changed:
            self._grant()
            self._taken += count
            mine = self._taken
            while (wait := self._wait_for(mine)) > 0:
                self._changed.wait(min(wait, _LOOK_AROUND_S))
                check()
                self._grant()

    def _wait_for(self, mine: int) -> float:
        """Seconds until `mine` bytes may have been taken."""
        return 0.0 if self._rate is None else max(0.0, mine - self._granted) / self._rate

    def _grant(self) -> None:
        moment = self._clock()
        if self._rate is not None:
            self._granted += max(0.0, moment - self._at) * self._rate
            self._granted = min(self._granted, self._taken + self._rate * _BURST_S)
        self._at = moment


def check_rate(rate: int | None) -> None:
    """Raises InvalidInput when `rate` is below one KiB per second."""
    if rate is not None and rate < SLOWEST:
        raise InvalidInput("bytes_per_second", f"must be at least {SLOWEST}; pause downloads to stop them")
