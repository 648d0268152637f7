"""The hours in which downloads run. Time is what a test says it is, except where the loop waits for it."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pumas.downloads import schedule as under_test
from pumas.downloads.schedule import LOOK_S, WEEKDAYS, Gate, Schedule, Watch, days_of
from pumas.errors import Interrupted, InvalidInput


class _Condition(threading.Condition):
    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None and timeout > 0, "a wait has an end"
        return False


@pytest.fixture(autouse=True, scope="module")
def no_real_waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(under_test, "threading", SimpleNamespace(Condition=_Condition))
        yield


def at(text: str) -> datetime.datetime:
    """2026-06-01 is a Monday."""
    return datetime.datetime.fromisoformat(f"2026-06-{text}").astimezone(datetime.UTC)


@pytest.mark.parametrize(
    ("schedule", "moment", "is_open"),
    [
        (Schedule("09:00", "17:00"), "01T09:00+00:00", True),
        (Schedule("09:00", "17:00"), "01T08:59:59+00:00", False),
        (Schedule("09:00", "17:00"), "01T16:59:59+00:00", True),
        (Schedule("09:00", "17:00"), "01T17:00+00:00", False),
        (Schedule("22:30", "06:15"), "01T22:30+00:00", True),
        (Schedule("22:30", "06:15"), "02T06:14:59+00:00", True),
        (Schedule("22:30", "06:15"), "02T06:15+00:00", False),
        (Schedule("22:30", "06:15"), "02T12:00+00:00", False),
        (Schedule("22:00", "06:00", ("mon",)), "02T05:00+00:00", True),  # Monday's window, on Tuesday
        (Schedule("22:00", "06:00", ("mon",)), "02T23:00+00:00", False),
        (Schedule("22:00", "06:00", ("mon",)), "01T05:00+00:00", False),  # Sunday's
        (Schedule("22:00", "06:00", ("sun",)), "01T05:00+00:00", True),
        (Schedule("00:00", "23:59"), "01T00:00+00:00", True),
        (Schedule("23:59", "00:00"), "01T23:59:30+00:00", True),
        (Schedule("23:59", "00:00"), "02T00:00+00:00", False),
    ],
)
def test_hours(schedule: Schedule, moment: str, is_open: bool) -> None:
    assert schedule.is_open(at(moment)) is is_open


_CLOCKS = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
_SCHEDULES = (
    st.tuples(_CLOCKS, _CLOCKS, st.lists(st.sampled_from(WEEKDAYS), max_size=7))
    .filter(lambda given: given[0] != given[1])
    .map(lambda given: Schedule(given[0], given[1], days_of(given[2])))
)
_ZONES = st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"])
_MOMENTS = st.integers(0, 3 * 365 * 24 * 3600).map(lambda s: at("01T00:00+00:00") + datetime.timedelta(seconds=s))


def windows(schedule: Schedule, day: datetime.date) -> tuple[datetime.datetime, datetime.datetime]:
    """From when to when the window that begins on `day` lasts, as a clock on the wall shows it."""
    start = datetime.datetime.combine(day, datetime.time.fromisoformat(schedule.start))
    end = datetime.datetime.combine(day, datetime.time.fromisoformat(schedule.end))
    return start, end if end > start else end + datetime.timedelta(days=1)


@given(_SCHEDULES, _MOMENTS, _ZONES)
def test_open_is_what_the_clock_on_the_wall_says(schedule: Schedule, moment: datetime.datetime, zone: str) -> None:
    local = moment.astimezone(ZoneInfo(zone))
    wall, today = local.replace(tzinfo=None), local.date()
    days = [day for day in (today, today - datetime.timedelta(days=1))
            if not schedule.days or WEEKDAYS[day.weekday()] in schedule.days]  # fmt: skip
    assert schedule.is_open(local) is any(start <= wall < end for start, end in (windows(schedule, d) for d in days))


@given(_SCHEDULES, st.sampled_from(["2026-03-29", "2026-10-25"]))
def test_the_days_on_which_clocks_change_have_their_hours_too(schedule: Schedule, day: str) -> None:
    """Berlin skips 02:00-03:00 on the first day and has it twice on the second."""
    zone = ZoneInfo("Europe/Berlin")
    noon = datetime.datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=zone).astimezone(datetime.UTC)
    minutes = [noon + datetime.timedelta(minutes=n) for n in range(-36 * 60, 36 * 60, 7)]
    open_for = sum(Schedule(schedule.start, schedule.end).is_open(moment.astimezone(zone)) for moment in minutes) * 7
    start, end = windows(schedule, noon.date())
    assert abs(open_for - 3 * (end - start).total_seconds() / 60) <= 60 + 6 * 7, "an hour more or less, not a day"


@settings(max_examples=40, deadline=None)
@given(_SCHEDULES, st.integers(0, 14 * 24 * 60 - 1))
@example(Schedule("10:00", "10:01", ("mon",)), 10 * 60 + 1)  # a week without a minute
def test_the_next_change_is_the_one_that_a_walk_minute_by_minute_finds(schedule: Schedule, minute: int) -> None:
    moment = at("01T00:00+00:00") + datetime.timedelta(minutes=minute, seconds=59)
    now, later = schedule.is_open(moment), (moment + datetime.timedelta(minutes=n) for n in itertools.count(1))
    walked = next(n for n, then in enumerate(later, 1) if schedule.is_open(then) is not now)
    assert schedule.minutes_to_change(moment) == walked


@pytest.mark.parametrize(
    "wrong",
    [("24:00", "06:00"), ("9:00", "17:00"), ("09:60", "17:00"), ("", "17:00"), ("09:00", "9"), ("09:00", "17:00\n"),
     ("09:00", "09:00"), ("٠٩:00", "17:00"), ("09:00", "17:00", ("someday",)), ("09:00", "17:00", ("MON",))],
)  # fmt: skip
def test_a_schedule_that_is_none(wrong: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput):
        Schedule(*wrong)


def test_days_are_sorted_and_named_once() -> None:
    assert days_of(["fri", "mon", "fri"]) == ("mon", "fri")


# -- the gate ----------------------------------------------------------------------------------------------------------


class Wall:
    def __init__(self, text: str) -> None:
        self.now = at(text)

    def __call__(self) -> datetime.datetime:
        return self.now


def test_without_a_schedule_the_gate_is_open() -> None:
    gate = Gate(Wall("01T12:00+00:00"))
    assert gate.is_open()
    gate.wait(lambda: pytest.fail("nobody waits"))


def test_who_waits_goes_on_when_the_hour_comes() -> None:
    wall = Wall("01T08:59+00:00")
    gate = Gate(wall)
    gate.set(Schedule("09:00", "17:00"))
    assert not gate.is_open()

    def pass_time() -> None:
        wall.now += datetime.timedelta(seconds=20)

    gate.wait(pass_time)
    assert wall.now == at("01T09:00+00:00")


def test_who_waits_goes_on_when_the_schedule_is_removed() -> None:
    gate = Gate(Wall("01T08:00+00:00"))
    gate.set(Schedule("09:00", "17:00"))
    gate.wait(lambda: gate.set(None))
    assert gate.schedule is None


def test_who_waits_can_be_stopped() -> None:
    gate = Gate(Wall("01T08:00+00:00"))
    gate.set(Schedule("09:00", "17:00"))

    def stop() -> None:
        raise Interrupted("stop")

    with pytest.raises(Interrupted):
        gate.wait(stop)


# -- who wants to know -------------------------------------------------------------------------------------------------


class Told:
    """What a watch said, and when it is that it says it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bool] = asyncio.Queue()

    def __call__(self, is_open: bool) -> None:
        self.queue.put_nowait(is_open)

    async def next(self) -> bool:
        return await asyncio.wait_for(self.queue.get(), 30)


async def test_it_is_told_at_the_minute_at_which_the_gate_opens_and_closes() -> None:
    wall, told = Wall("01T08:59:59.9+00:00"), Told()
    gate = Gate(wall)
    gate.set(Schedule("09:00", "17:00"))
    watch = Watch(gate, told)
    watch.follow(False)
    await asyncio.sleep(0)
    assert told.queue.empty(), "not before"
    wall.now = at("01T09:00+00:00")
    assert await told.next()
    wall.now = at("01T16:59:59.9+00:00")
    watch.follow(True)
    wall.now = at("01T17:00+00:00")
    assert not await told.next()
    watch.stop()


async def test_a_clock_that_was_set_is_noticed() -> None:
    wall, told = Wall("01T08:00+00:00"), Told()
    gate = Gate(wall)
    gate.set(Schedule("09:00", "17:00"))
    watch = Watch(gate, told, look_s=0.01)
    watch.follow(False)
    for now, is_open in (("01T12:00", True), ("01T20:00", False), ("01T10:00", True)):
        wall.now = at(f"{now}+00:00")
        assert await told.next() is is_open
    watch.stop()


async def test_what_has_changed_since_it_was_told_is_told_at_once() -> None:
    told = Told()
    gate = Gate(Wall("01T12:00+00:00"))
    gate.set(Schedule("09:00", "17:00"))
    watch = Watch(gate, told)
    watch.follow(False)
    assert told.queue.get_nowait()
    watch.stop()


async def test_nothing_wakes_the_loop_without_a_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    loop = asyncio.get_running_loop()
    later = loop.call_later

    def noted(delay: float, *args: Any) -> asyncio.TimerHandle:
        waits.append(delay)
        return later(delay, *args)

    monkeypatch.setattr(loop, "call_later", noted)
    gate = Gate(Wall("01T08:58:30+00:00"))
    watch = Watch(gate, lambda _: pytest.fail("nothing changed"))
    watch.follow(True)
    assert waits == []
    gate.set(Schedule("09:00", "17:00"))
    watch.follow(False)
    gate.set(Schedule("10:00", "17:00"))
    watch.follow(False)
    assert waits == [90.0, LOOK_S]
    gate.set(None)
    watch.follow(True)
    assert waits == [90.0, LOOK_S]
