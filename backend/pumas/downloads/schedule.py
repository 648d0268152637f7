"""When bytes may be fetched: one schedule for all downloads together.

It may change while threads wait at the gate; they notice at once. Knows neither files nor the network.
"""

from __future__ import annotations

import asyncio
import datetime
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pumas.errors import InvalidInput

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_DAY = 24 * 60
_LOOK_AROUND_S = 0.1
# So long may it go unnoticed that somebody set the clock, or that the machine slept.
LOOK_S = 300.0


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
        return self._is_open(moment.hour * 60 + moment.minute, moment.weekday())

    def minutes_to_change(self, moment: datetime.datetime) -> int:
        """From the minute of this local time to that in which downloads begin or cease to be allowed, a week at most.

        By the clock on the wall: the hour that it skips or has twice a year is not counted.
        """
        now, today = moment.hour * 60 + moment.minute, moment.weekday()
        turns = (day * _DAY + _minutes(turn) for day in range(8) for turn in sorted((self.start, self.end)))
        return next(
            turn - now
            for turn in turns
            if turn > now and self._is_open(turn % _DAY, (today + turn // _DAY) % 7) != self.is_open(moment)
        )

    def _is_open(self, now: int, today: int) -> bool:
        """At a minute of the day, on a day of the week from Monday."""
        start, end = _minutes(self.start), _minutes(self.end)
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

    def outlook(self) -> tuple[bool, float | None]:
        """Whether it is open, and for how many seconds yet by the clock; None: until the schedule is another."""
        schedule, now = self._schedule, self._clock()
        if schedule is None:
            return True, None
        return schedule.is_open(now), schedule.minutes_to_change(now) * 60 - now.second - now.microsecond / 1e6

    def wait(self, check: Callable[[], None]) -> None:
        """Return once the gate is open; `check` is called while waiting and may raise to stop."""
        with self._changed:
            while not self.is_open():
                self._changed.wait(_LOOK_AROUND_S)
                check()


class Watch:
    """Notices that a gate opens or closes by the clock. For the event loop, which nothing wakes without a schedule."""

    def __init__(self, gate: Gate, changed: Callable[[bool], None], look_s: float = LOOK_S) -> None:
        """`changed(is_open)` is called each time. `look_s`: the longest time between two looks at the clock."""
        self._gate, self._changed, self._look_s = gate, changed, look_s
        self._known = True
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, known: bool) -> None:
        """Begin anew with the schedule that the gate has now; `known` is what everybody was told."""
        self._known = known
        self._look()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.stop()
        is_open, seconds = self._gate.outlook()
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(min(seconds, self._look_s), self._look)
        if is_open is not self._known:
            self._known = is_open
            self._changed(is_open)


def days_of(names: Sequence[str]) -> tuple[str, ...]:
    """In the order of the week, each once."""
    return tuple(day for day in WEEKDAYS if day in set(names)) + tuple(sorted(set(names) - set(WEEKDAYS)))
