"""How fast and when bytes may be fetched: one limit and one schedule for all downloads together.

Both may change while threads wait in `take`; they notice at once. Knows neither files nor the network.
"""

from __future__ import annotations

import datetime
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pumas.errors import InvalidInput

SLOWEST = 1024
_LARGEST_BITE = 1024 * 1024
# So small that bytes come every second at the slowest limit: else it would look like silence.
_SMALLEST_BITE = 1024
# A limit is kept over tenths of seconds: what was not used before that is lost.
_BURST_S = 0.1
_LOOK_AROUND_S = 0.1

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


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


@dataclass(frozen=True, slots=True)
class Schedule:
    """The hours of local time in which downloads run, `start` to `end` as "HH:MM"; over midnight when `end` is earlier.

    `days` are those on which the window begins; empty means all.
    """

    start: str
    end: str
    days: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, value in (("start", self.start), ("end", self.end)):
            if not _CLOCK.fullmatch(value):
                raise InvalidInput(f"schedule.{field}", "must be a time of day such as 22:30")
        if self.start == self.end:
            raise InvalidInput("schedule", "start and end are the same; pass any_time to download at any time")
        if unknown := set(self.days) - set(WEEKDAYS):
            raise InvalidInput("schedule.days", f"{min(unknown)[:20]!r} is not one of {', '.join(WEEKDAYS)}")

    def is_open(self, moment: datetime.datetime) -> bool:
        """Whether downloads may run at this local time."""
        start, end, now = _minutes(self.start), _minutes(self.end), moment.hour * 60 + moment.minute
        today = moment.weekday()
        if start < end:
            return start <= now < end and self._begins_on(today)
        return (now >= start and self._begins_on(today)) or (now < end and self._begins_on((today - 1) % 7))

    def _begins_on(self, weekday: int) -> bool:
        return not self.days or WEEKDAYS[weekday] in self.days


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


class Gate:
    """Open while downloads may run; what waits at it goes on as soon as it opens."""

    def __init__(self, clock: Callable[[], datetime.datetime] = lambda: datetime.datetime.now().astimezone()) -> None:
        self._clock = clock
        self._schedule: Schedule | None = None
        self._changed = threading.Condition()

    @property
    def schedule(self) -> Schedule | None:
        return self._schedule

    def set(self, schedule: Schedule | None) -> None:
        with self._changed:
            self._schedule = schedule
            self._changed.notify_all()

    def is_open(self) -> bool:
        return self._schedule is None or self._schedule.is_open(self._clock())

    def wait(self, check: Callable[[], None]) -> None:
        """Return once the gate is open; `check` is called while waiting and may raise to stop."""
        with self._changed:
            while not self.is_open():
                self._changed.wait(_LOOK_AROUND_S)
                check()


def days_of(names: Sequence[str]) -> tuple[str, ...]:
    """In the order of the week, each once."""
    return tuple(day for day in WEEKDAYS if day in set(names)) + tuple(sorted(set(names) - set(WEEKDAYS)))
