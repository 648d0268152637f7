"""How long is waited, and when it is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.downloads.patience import FIRST_WAIT_S, LONGEST_WAIT_S, Patience
from pumas.errors import ConnectionFailed

ERROR = ConnectionFailed("hub", "was away")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(patience: Patience, clock: Clock, **asked: float) -> float:
    """One failure and the wait after it."""
    wait = patience.after(ERROR, **asked)
    clock.now += wait
    return wait


def check_ends(patience: Patience, clock: Clock, limit_s: float) -> None:
    began = clock.now
    with pytest.raises(ConnectionFailed):
        for _ in range(1000):
            fail(patience, clock)
    assert clock.now - began <= limit_s, "nobody waits beyond the limit"
    assert clock.now - began >= limit_s - LONGEST_WAIT_S, "and it is made use of"


def test_waits_double_and_have_a_ceiling() -> None:
    clock = Clock()
    patience = Patience(10_000, clock)
    for attempt in range(20):
        ceiling = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt)
        assert ceiling / 2 <= fail(patience, clock) <= ceiling


@given(st.floats(1, 500))
def test_it_ends_when_nothing_arrives(limit_s: float) -> None:
    clock = Clock()
    check_ends(Patience(limit_s, clock), clock, limit_s)


def test_bytes_begin_the_count_anew() -> None:
    clock = Clock()
    patience = Patience(60, clock)
    for _ in range(50):
        fail(patience, clock)
        fail(patience, clock)
        patience.progressed()
        clock.now += 100
        assert fail(patience, clock) <= FIRST_WAIT_S, "the first wait again"
        patience.progressed()
    check_ends(patience, clock, 60)


def test_it_waits_until_the_wait_is_over_or_bytes_come() -> None:
    clock = Clock()
    patience = Patience(60, clock)
    assert not patience.waits
    wait = patience.after(ERROR)
    assert patience.waits
    clock.now += wait
    assert not patience.waits
    patience.after(ERROR)
    patience.progressed()
    assert not patience.waits


def test_connections_that_fail_together_are_one_failure() -> None:
    clock = Clock()
    patience = Patience(60, clock)
    waits = [patience.after(ERROR) for _ in range(8)]
    assert len(set(waits)) == 1 and waits[0] <= FIRST_WAIT_S


def test_a_wait_that_the_server_asks_for_is_kept_and_not_counted() -> None:
    clock = Clock()
    patience = Patience(60, clock)
    for _ in range(100):
        assert fail(patience, clock, asked_s=45.0) == 45.0
    check_ends(patience, clock, 60)


def test_a_closed_circuit_breaker_is_waited_for_but_counted() -> None:
    clock = Clock()
    patience = Patience(100, clock)
    assert fail(patience, clock, told_s=60.0) == 60.0
    with pytest.raises(ConnectionFailed):
        fail(patience, clock, told_s=60.0)


def test_the_longer_of_two_waits_counts() -> None:
    clock = Clock()
    patience = Patience(100, clock)
    assert patience.after(ERROR, asked_s=20.0) == 20.0
    assert patience.after(ERROR, asked_s=5.0) == 20.0
    assert patience.after(ERROR, told_s=1.0) == 20.0
    assert patience.after(ERROR) == 20.0


_STEPS = st.lists(
    st.one_of(
        st.just(("fail", 0.0)),
        st.just(("progress", 0.0)),
        st.tuples(st.sampled_from(["asked_s", "told_s", "pass"]), st.floats(0, 400)),
    ),
    max_size=40,
)


@given(_STEPS)
def test_no_wait_is_negative_whatever_comes(steps: list[tuple[str, float]]) -> None:
    clock = Clock()
    patience = Patience(300, clock)
    for what, seconds in steps:
        if what == "pass":
            clock.now += seconds
        elif what == "progress":
            patience.progressed()
        else:
            try:
                assert patience.after(ERROR, **({} if what == "fail" else {what: seconds})) >= 0
            except ConnectionFailed:
                patience.progressed()
