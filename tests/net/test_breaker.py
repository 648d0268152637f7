"""The states of one host's breaker."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from net.stub import Time
from pumas.errors import CircuitOpen
from pumas.net.breaker import FAILURES, RECOVERY_S, TRIAL_S, Breaker, Circuit

CLOSED, OPEN, HALF_OPEN = Circuit.CLOSED, Circuit.OPEN, Circuit.HALF_OPEN


def made() -> tuple[Breaker, Time, list[str]]:
    time, seen = Time(), list[str]()
    return Breaker("h", time.clock, lambda state: seen.append(state.value)), time, seen


def refused(breaker: Breaker) -> float:
    with pytest.raises(CircuitOpen) as caught:
        breaker.admit()
    assert caught.value.host == "h"
    return caught.value.retry_after_s


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ("", CLOSED),
        ("ff", CLOSED),
        ("fff", OPEN),
        ("ffsf", CLOSED),
        ("ffsfff", OPEN),
        ("fffw", HALF_OPEN),
        ("fffwa", HALF_OPEN),
        ("fffwas", CLOSED),
        ("fffwaf", OPEN),
        ("fffwafw", HALF_OPEN),
        ("fffwax", HALF_OPEN),
        ("fffwasff", CLOSED),
        ("fffs", CLOSED),
    ],
)
def test_states(steps: str, state: Circuit) -> None:
    breaker, time, _ = made()
    act = {"f": breaker.failed, "s": breaker.succeeded, "x": breaker.abandoned, "a": breaker.admit}
    act["w"] = lambda: time.sleep(RECOVERY_S)
    for step in steps:
        act[step]()
    assert breaker.state is state


def test_one_trial_and_the_others_wait() -> None:
    breaker, time, seen = made()
    assert breaker.admit() is False and breaker.wait() == 0
    for _ in range(FAILURES):
        breaker.failed()
    assert refused(breaker) == breaker.wait() == RECOVERY_S
    time.sleep(RECOVERY_S - 1)
    assert refused(breaker) == pytest.approx(1)
    time.sleep(1)
    assert breaker.wait() == 0 and breaker.admit() is True
    assert refused(breaker) == TRIAL_S
    breaker.abandoned()
    assert breaker.admit() is True
    breaker.succeeded()
    assert breaker.admit() is False and breaker.failures == 0
    assert seen == ["open", "half_open", "half_open", "closed"]


def test_of_many_threads_one_gets_the_trial() -> None:
    breaker, time, _ = made()
    for _ in range(FAILURES):
        breaker.failed()
    time.sleep(RECOVERY_S)
    meet, trials = threading.Barrier(16), list[bool]()

    def work() -> None:
        meet.wait(30)
        try:
            trials.append(breaker.admit())
        except CircuitOpen:
            trials.append(False)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(trials) == [False] * 15 + [True]


class BreakerModel(RuleBasedStateMachine):
    """Against the plain description: failures in a row, when it opened, whether a trial is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker, self.time, self.seen = made()
        self.failures, self.opened, self.trial = 0, None, False

    @rule()
    def fails(self) -> None:
        self.breaker.failed()
        self.failures += 1
        if self.trial or (self.opened is None and self.failures >= FAILURES):
            self.opened, self.trial = self.time.clock(), False

    @rule()
    def succeeds(self) -> None:
        self.breaker.succeeded()
        self.failures, self.opened, self.trial = 0, None, False

    @precondition(lambda self: self.trial)
    @rule()
    def gives_up(self) -> None:
        self.breaker.abandoned()
        self.trial = False

    @rule()
    def some_time_passes(self) -> None:
        self.time.sleep(RECOVERY_S / 3)

    @rule()
    def asks(self) -> None:
        over = self.opened is not None and self.time.clock() >= self.opened + RECOVERY_S
        if self.opened is not None and (self.trial or not over):
            assert refused(self.breaker) > 0
            return
        assert self.breaker.admit() is (self.opened is not None)
        self.trial = self.opened is not None

    @invariant()
    def never_two_same_words_about_opening(self) -> None:
        assert ("open", "open") not in pairwise(self.seen)
        assert (self.breaker.state is CLOSED) == (self.opened is None)


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
