"""The limit over all threads. Time is a number here, unless two threads meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pumas.downloads import bandwidth
from pumas.downloads.bandwidth import SLOWEST, Bandwidth
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
