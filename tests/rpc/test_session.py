"""A code is good once, for a short time, and nothing else is good."""

from __future__ import annotations

import pytest

from pumas.rpc.session import LIFE_S, MOST_OPEN, SessionCodes, new_code


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def codes(clock: Clock) -> SessionCodes:
    return SessionCodes(clock)


def test_a_code_is_good_once(codes: SessionCodes) -> None:
    first, second = codes.issue(), codes.issue()
    assert codes.redeem(second)
    assert codes.redeem(first)
    assert not codes.redeem(first)
    assert not codes.redeem(second)


def test_a_code_grows_old(codes: SessionCodes, clock: Clock) -> None:
    old = codes.issue()
    clock.now += LIFE_S / 2
    young = codes.issue()
    clock.now += LIFE_S / 2
    assert not codes.redeem(old)
    assert codes.redeem(young)


def test_a_code_made_elsewhere_is_as_good(codes: SessionCodes) -> None:
    code = new_code()
    assert not codes.redeem(code)
    codes.admit(code)
    assert codes.redeem(code)


@pytest.mark.parametrize("change", [str.upper, lambda c: c[:-1], lambda c: c + "x", lambda c: f" {c}", lambda c: "é"])
def test_what_is_almost_a_code_is_none(codes: SessionCodes, change: object) -> None:
    code = codes.issue()
    assert not codes.redeem(change(code))  # type: ignore[operator]
    assert not codes.redeem("")
    assert not codes.redeem("\ud800")
    assert codes.redeem(code), "and a wrong one takes nothing from the right one"


def test_codes_cannot_be_guessed_nor_pile_up(codes: SessionCodes) -> None:
    made = [codes.issue() for _ in range(MOST_OPEN + 3)]
    assert len(set(made)) == len(made)
    assert all(len(code) >= 43 for code in made), "256 bits"
    good = [codes.redeem(code) for code in made]
    assert good == [False] * 3 + [True] * MOST_OPEN, "the oldest of too many have ended"
