"""The limit over all threads, and the hours in which downloads run. Time is a number here, unless two threads meet."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumas.downloads import bandwidth
from pumas.downloads.bandwidth import SLOWEST, WEEKDAYS, Bandwidth, Gate, Schedule, days_of
from pumas.errors import Interrupted, InvalidInput

KIB, MIB = 1024, 1024 * 1024


class Clock:
    """Stands still until somebody waits; then so much time is over."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Condition(threading.Condition):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None and timeout > 0, "a wait has an end"
        self._clock.now += max(timeout, 1e-6)  # a float that large has no smaller steps
        return False


@pytest.fixture(autouse=True, scope="module")
def no_real_waits() -> Iterator[None]:
    """Whoever waits in `bandwidth.py` moves the clock on, and sleeps not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bandwidth, "threading", SimpleNamespace(Condition=lambda: _Condition(_CLOCK)))
        yield


_CLOCK = Clock()


def made(rate: int | None) -> Bandwidth:
    _CLOCK.now = 1000.0
    bandwidth = Bandwidth(_CLOCK)
    bandwidth.limit(rate)
    return bandwidth


def nothing() -> None:
    return


def fetch(limit: Bandwidth, size: int, bite: int | None = None, check: Callable[[], None] = nothing) -> float:
    """Seconds that so many bytes take on a line that is infinitely fast."""
    began, left = _CLOCK.now, size
    while left > 0:
        count = min(left, bite or limit.bite())
        limit.take(count, check)
        left -= count
    return _CLOCK.now - began


@settings(max_examples=40)
@given(st.integers(SLOWEST, 10**8), st.integers(10, 20))
def test_the_limit_is_kept(rate: int, seconds: int) -> None:
    assert fetch(made(rate), rate * seconds) == pytest.approx(seconds, rel=0.1)


@settings(max_examples=40)
@given(st.integers(SLOWEST, 10**8), st.lists(st.integers(1, 16 * KIB), min_size=1, max_size=20))
def test_the_limit_is_kept_whatever_the_pieces(rate: int, pieces: list[int]) -> None:
    limit = made(rate)
    taken = sum(fetch(limit, piece, piece) for piece in pieces)
    ideal = sum(pieces) / rate
    assert ideal - 0.11 <= taken <= ideal + 0.11


def test_what_was_not_used_is_lost() -> None:
    limit = made(100 * KIB)
    fetch(limit, 100 * KIB)
    _CLOCK.now += 3600
    assert fetch(limit, 1000 * KIB) == pytest.approx(10, rel=0.1), "an hour of silence is no credit"


def test_no_limit_never_waits() -> None:
    assert fetch(made(None), 10**12, 10**9) == 0.0


@pytest.mark.parametrize("to", [None, 100 * MIB])
def test_a_change_acts_on_who_waits(to: int | None) -> None:
    limit = made(SLOWEST)
    looks: list[float] = []

    def check() -> None:
        looks.append(_CLOCK.now)
        if len(looks) == 5:
            limit.limit(to)

    assert fetch(limit, MIB, MIB, check) <= 1.0, "not the seventeen minutes that the old limit asks for"


def test_a_lower_limit_counts_from_now_on() -> None:
    limit = made(100 * MIB)
    fetch(limit, 500 * MIB)
    limit.limit(MIB)
    assert fetch(limit, 10 * MIB) == pytest.approx(10, rel=0.1)
    limit.limit(None)
    fetch(limit, 10**10, MIB)
    limit.limit(MIB)
    assert fetch(limit, 10 * MIB) == pytest.approx(10, rel=0.1), "what came without a limit is no debt and no credit"


def test_whoever_waits_can_be_stopped() -> None:
    def stop() -> None:
        raise Interrupted("stop")

    with pytest.raises(Interrupted):
        fetch(made(SLOWEST), MIB, MIB, stop)


@pytest.mark.parametrize("rate", [0, -1, 1, SLOWEST - 1])
def test_a_limit_that_would_be_a_pause(rate: int) -> None:
    limit = made(5 * KIB)
    with pytest.raises(InvalidInput):
        limit.limit(rate)
    assert limit.rate == 5 * KIB


@given(st.integers(SLOWEST, 2**50))
def test_bites_are_small_enough_to_be_fair_and_to_show_that_something_comes(rate: int) -> None:
    bite = made(rate).bite()
    assert 1 <= bite <= MIB
    assert bite / rate <= 1.0, "a second at most between two signs of life"


def test_threads_share_one_limit() -> None:
    """With the real clock and real threads, so only roughly: four get no more than one would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bandwidth, "threading", threading)
        limit = Bandwidth()
    limit.limit(4 * MIB)
    taken, ended = [0] * 4, threading.Event()

    def work(number: int) -> None:
        while not ended.is_set():
            limit.take(limit.bite(), nothing)
            taken[number] += limit.bite()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    ended.wait(1.0)
    ended.set()
    for thread in threads:
        thread.join()
    assert sum(taken) <= 6 * MIB
    assert min(taken) > 0


# -- the schedule ------------------------------------------------------------------------------------------------------


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
