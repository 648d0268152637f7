"""Which failures pass, and how long the waits are; `test_client.py` sees the rest."""

from __future__ import annotations

import random

import pytest

from pumas.errors import CircuitOpen, ConnectionFailed, InvalidReply
from pumas.net.retry import ATTEMPTS, CAP_S, Patience, attempts, passes, spread


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionFailed("h", "x", "cut"), True),
        (ConnectionFailed("h", "x", "dns"), True),
        (ConnectionFailed("h", "x", "timeout"), True),
        (ConnectionFailed("h", "x", "tls"), False),
        (InvalidReply("h", "x"), False),
        (CircuitOpen("h", 5), False),
        (ValueError(), False),
    ],
)
def test_what_passes(error: BaseException, expected: bool) -> None:
    assert passes(error) is expected


def run(count: int, error: Exception, patience: float = float("inf"), may: bool = True) -> list[float]:
    waits: list[float] = []
    left = Patience(patience)

    def attempt() -> object:
        if len(waits) == count:
            return type("Answer", (), {"status": 200})()
        raise error

    def pause(seconds: float, _reason: str) -> None:
        left.spend(seconds)
        waits.append(seconds)

    attempts(attempt, may_repeat=lambda: may, patience=left, pause=pause, retried=lambda: None)  # type: ignore[arg-type]
    return waits


def test_the_jitter_is_full_and_grows() -> None:
    random.seed(1)
    gone = ConnectionFailed("h", "x")
    by_attempt = list(zip(*(run(ATTEMPTS - 1, gone) for _ in range(300)), strict=True))
    for number, waits in enumerate(by_attempt):
        most = min(CAP_S, 0.5 * 2**number)
        assert 0 <= min(waits) < 0.1 * most and 0.9 * most < max(waits) <= most


def test_the_last_failure_comes_out() -> None:
    gone = ConnectionFailed("h", "x")
    with pytest.raises(ConnectionFailed) as caught:
        run(ATTEMPTS, gone)
    assert caught.value is gone
    for stopping in ({"patience": 0.0}, {"may": False}):
        with pytest.raises(ConnectionFailed):
            run(1, gone, **stopping)


@pytest.mark.parametrize("seconds", [0.0, 1.0, 30.0, 300.0])
def test_a_wait_that_was_asked_for_is_kept_and_hardly_longer(seconds: float) -> None:
    assert all(seconds <= spread(seconds) <= seconds + 0.5 for _ in range(100))
