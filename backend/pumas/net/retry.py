"""Trying again: which failures pass, and how long to wait between attempts.

`sending.py` gives one attempt as a function; tenacity repeats it. Nothing here knows HTTP beyond the statuses.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pumas.errors import ConnectionFailed
from pumas.net.response import Response

if TYPE_CHECKING:
    from tenacity import RetryCallState

ATTEMPTS = 5
BASE_S = 0.5
CAP_S = 30.0
PASSING = frozenset({408, 429, 500, 502, 503, 504})
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
"""RFC 9110 9.2.2."""


def spread(seconds: float) -> float:
    """A wait that a host asked for, a little longer, so that not everybody is back at the same moment."""
    return seconds + random.uniform(0.0, min(0.5, 0.1 * seconds))


@dataclass(slots=True)
class Patience:
    """How long one request may wait, all waits together."""

    left_s: float

    def allows(self, seconds: float) -> bool:
        return seconds <= self.left_s

    def spend(self, seconds: float) -> None:
        self.left_s -= seconds


def attempts(
    attempt: Callable[[], Response],
    *,
    may_repeat: Callable[[], bool],
    patience: Patience,
    pause: Callable[[float, str], None],
    retried: Callable[[], None],
) -> Response:
    """Call `attempt` up to five times, with full jitter or as the answer asks in between.

    Returns the last answer, whatever its status. Raises what the last attempt raised.

    Args:
        may_repeat: asked after each failure.
        pause: waits the seconds for the reason.
        retried: told before each attempt but the first.
    """
    from tenacity import Retrying, retry_if_exception, retry_if_result, wait_random_exponential

    jitter = wait_random_exponential(multiplier=BASE_S, max=CAP_S)

    def wait(state: RetryCallState) -> float:
        asked = _asked(state)
        return jitter(state) if asked is None else spread(asked)

    def enough(state: RetryCallState) -> bool:
        return state.attempt_number >= ATTEMPTS or not patience.allows(state.upcoming_sleep) or not may_repeat()

    def before_sleep(state: RetryCallState) -> None:
        reason = _reason(state)
        pause(state.upcoming_sleep, reason)
        retried()

    again = Retrying(
        retry=retry_if_exception(passes) | retry_if_result(lambda answer: answer.status in PASSING),
        wait=wait,
        stop=enough,
        sleep=lambda _seconds: None,  # `pause` has waited by then, and could be ended
        before_sleep=before_sleep,
        retry_error_callback=_last,
    )
    return again(attempt)


def passes(error: BaseException) -> bool:
    """Whether the same request may work in a moment. A certificate does not become good by asking again."""
    return isinstance(error, ConnectionFailed) and error.cause != "tls"


def _last(state: RetryCallState) -> Response:
    assert state.outcome is not None
    return state.outcome.result()


def _asked(state: RetryCallState) -> float | None:
    assert state.outcome is not None
    return None if state.outcome.failed else state.outcome.result().wait_s


def _reason(state: RetryCallState) -> str:
    """Why there is a wait; ends the answer that is not wanted."""
    assert state.outcome is not None
    error = state.outcome.exception()
    if error is not None:
        return str(error)
    answer: Response = state.outcome.result()
    answer.drain()
    return str(answer.failure())
