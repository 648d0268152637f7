"""Waits that can be ended."""

from __future__ import annotations

import threading

import pytest

from net.stub import Time
from pumas.errors import Cancelled, Interrupted
from pumas.net.options import SLICE_S, Sleeper


def test_a_wait_is_cut_in_slices_and_asks_before_each(time: Time) -> None:
    asked: list[float] = []
    Sleeper(time.sleep).wait(0.5, lambda: asked.append(time.clock()))
    assert time.slept == [SLICE_S, SLICE_S, pytest.approx(0.1)]
    assert len(asked) == 4, "once more at the end"


def test_a_wait_of_nothing_still_asks(time: Time) -> None:
    with pytest.raises(Cancelled):
        Sleeper(time.sleep).wait(0.0, _stop)
    assert not time.slept


def test_who_is_asked_can_end_it(time: Time) -> None:
    with pytest.raises(Cancelled):
        Sleeper(time.sleep).wait(100, lambda: _stop() if time.clock() > 1002 else None)
    assert time.clock() < 1002.5


def test_closing_ends_a_wait_in_another_thread() -> None:
    sleeper, outcome, begun = Sleeper(), list[BaseException](), threading.Event()

    def work() -> None:
        try:
            sleeper.wait(600, begun.set)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    sleeper.close()
    thread.join(30)
    assert not thread.is_alive() and isinstance(outcome[0], Interrupted)
    with pytest.raises(Interrupted):
        sleeper.check(None)


def _stop() -> None:
    raise Cancelled("no more")
