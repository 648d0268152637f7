"""What is told about a running download: never more than there is, never backwards without a counted restart."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.downloads.meter import Meter

FILES = [("a", 100), ("b", 50), ("empty", 0)]


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def made(shown: int = 0) -> tuple[Meter, Clock]:
    clock = Clock()
    return Meter(FILES, shown, clock), clock


def check(meter: Meter, **expected: Any) -> None:
    now = meter.snapshot()
    assert {name: getattr(now, name) for name in expected} == expected


def keep(meter: Meter, path: str, count: int, all_of_it: int) -> None:
    """A block came and was kept."""
    meter.received(path, count)
    meter.dropped(path, count)
    meter.arrived(path, all_of_it)


def test_bytes_count_as_they_come_and_once() -> None:
    meter, _ = made()
    meter.received("a", 30)
    check(meter, downloaded=30, total=150)
    meter.dropped("a", 30)
    meter.arrived("a", 30)
    check(meter, downloaded=30)
    files = {file.path: (file.downloaded, file.state) for file in meter.files()}
    assert files == {"a": (30, "downloading"), "b": (0, "waiting"), "empty": (0, "waiting")}


def test_lost_bytes_do_not_take_progress_back() -> None:
    meter, _ = made()
    meter.received("a", 30)
    check(meter, downloaded=30)
    meter.dropped("a", 30)
    check(meter, downloaded=30)
    meter.received("a", 10)
    check(meter, downloaded=30)
    meter.received("a", 25)
    check(meter, downloaded=35)


def test_only_more_than_ever_is_headway() -> None:
    meter, _ = made(shown=120)
    assert meter.received("a", 30)
    meter.dropped("a", 30)
    assert not meter.received("a", 30)
    assert meter.received("b", 1)
    meter.restarted("a", "it has changed on the server")
    assert meter.received("a", 1)


def test_an_earlier_run_had_shown_more() -> None:
    meter, _ = made(shown=120)
    check(meter, downloaded=120, total=150)
    meter, _ = made(shown=10**9)
    check(meter, downloaded=150)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("shown", "found", "downloaded", "restarts"),
    [(0, 0, 0, 0), (0, 50 * MIB, 50 * MIB, 0), (60 * MIB, 50 * MIB, 60 * MIB, 0), (60 * MIB, 10 * MIB, 10 * MIB, 1),
     (60 * MIB, 0, 0, 1), (10, 10**12, 100 * MIB, 0)],
)  # fmt: skip
def test_going_on_with_less_than_was_shown_is_a_restart(shown: int, found: int, downloaded: int, restarts: int) -> None:
    meter = Meter([("a", 100 * MIB)], shown, Clock())
    meter.resumed(found)
    check(meter, downloaded=downloaded, restarts=restarts)
    assert bool(meter.snapshot().note) == bool(restarts)


def test_a_restart_is_counted_and_said() -> None:
    meter, _ = made(shown=140)
    keep(meter, "a", 80, 80)
    keep(meter, "b", 20, 20)
    meter.restarted("a", "it has changed on the server")
    check(meter, downloaded=20, restarts=1, note="Began a again: it has changed on the server.")


@pytest.mark.parametrize(
    ("after_s", "activity"), [(0.0, "downloading"), (2.9, "downloading"), (3.1, "retrying"), (4000.0, "retrying")]
)
def test_silence_is_no_downloading(after_s: float, activity: str) -> None:
    meter, clock = made()
    meter.received("a", 1)
    clock.now += after_s
    check(meter, activity=activity)


def test_a_wait_before_the_next_try_is_said_until_bytes_come() -> None:
    meter, clock = made()
    meter.retries(10, "The hub was away.")
    check(meter, activity="retrying", retries=1, note="The hub was away.")
    clock.now += 1
    meter.received("a", 1)
    check(meter, activity="downloading", retries=1, note="")


def test_what_was_said_about_a_restart_stays() -> None:
    meter, _ = made()
    meter.restarted("a", "it has changed")
    meter.retries(1, "The hub was away.")
    meter.received("a", 1)
    check(meter, note="Began a again: it has changed.", restarts=1)


def test_phases() -> None:
    meter, _ = made()
    meter.phase("waiting", "No room.")
    check(meter, activity="waiting", note="No room.")
    meter.phase("")
    check(meter, activity="downloading", note="")
    for path, size in FILES:
        meter.arrived(path, size, "done")
    check(meter, activity="verifying", downloaded=150, eta_s=0.0)
    meter.phase("publishing")
    check(meter, activity="publishing")


def test_speed_is_of_the_last_seconds() -> None:
    meter, clock = made()
    check(meter, speed=0.0, eta_s=None)
    for _ in range(40):
        clock.now += 0.25
        meter.received("a", 1)
    assert meter.snapshot().speed == pytest.approx(4.0, rel=0.1)
    assert meter.snapshot().eta_s == pytest.approx(110 / 4, rel=0.1)
    clock.now += 6
    check(meter, speed=0.0, eta_s=None)


def test_a_download_of_nothing() -> None:
    meter = Meter([], 0, Clock())
    check(meter, downloaded=0, total=0, eta_s=0.0)


_PATHS = st.sampled_from([path for path, _size in FILES])
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("received"), _PATHS, st.integers(0, 200)),
        st.tuples(st.just("dropped"), _PATHS, st.integers(0, 200)),
        st.tuples(st.just("arrived"), _PATHS, st.integers(0, 200)),
        st.tuples(st.just("restarted"), _PATHS, st.just(0)),
        st.tuples(st.just("retries"), _PATHS, st.integers(0, 60)),
        st.tuples(st.just("phase"), st.sampled_from(["", "waiting", "copying"]), st.just(0)),
        st.tuples(st.just("time"), _PATHS, st.integers(0, 20)),
    ),
    max_size=60,
)


@given(st.integers(0, 200), _STEPS)
def test_progress_only_falls_after_a_counted_restart(shown: int, steps: list[tuple[str, str, int]]) -> None:
    meter, clock = made(shown)
    pending = dict.fromkeys((path for path, _size in FILES), 0)
    arrived = dict(pending)
    before = meter.snapshot()
    for what, name, count in steps:
        if what == "received":
            meter.received(name, count)
            pending[name] += count
        elif what == "dropped":
            meter.dropped(name, min(count, pending[name]))
            pending[name] -= min(count, pending[name])
        elif what == "arrived":
            arrived[name] = min(count, dict(FILES)[name])
            meter.arrived(name, arrived[name])
        elif what == "restarted":
            meter.restarted(name, "of a test")
        elif what == "retries":
            meter.retries(count, "of a test")
        elif what == "phase":
            meter.phase(name)
        else:
            clock.now += count
        now = meter.snapshot()
        assert 0 <= now.downloaded <= now.total == 150
        assert now.speed >= 0 and (now.eta_s is None or now.eta_s >= 0)
        assert now.downloaded >= before.downloaded or now.restarts > before.restarts
        assert now.restarts >= before.restarts and now.retries >= before.retries
        assert all(0 <= file.downloaded <= file.size for file in meter.files())
        before = now
