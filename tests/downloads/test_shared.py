"""What passes by itself and what does not, how long is waited for it, and how everything ends at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pumas.downloads.bandwidth import Bandwidth
from pumas.downloads.meter import Meter
from pumas.downloads.patience import Patience
from pumas.downloads.schedule import Gate
from pumas.downloads.shared import Connections, Shared, asked_wait, is_passing, told_wait
from pumas.errors import (
    Cancelled,
    CircuitOpen,
    ConnectionFailed,
    DigestMismatch,
    DiskError,
    GatedRepo,
    HttpStatus,
    Interrupted,
    InvalidReply,
    NotEnoughSpace,
    Offline,
    PumasError,
    RateLimited,
    ReadOnly,
    TokenRefused,
    UnsafePath,
)

from .test_content import Answer


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *((HttpStatus(status, "h"), True) for status in (408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529)),
        *((HttpStatus(status, "h"), False) for status in (204, 304, 400, 401, 403, 404, 405, 407, 410, 451, 501, 505)),
        (RateLimited("h", 5), True),
        (CircuitOpen("h", 5), True),
        (Offline("h"), True),
        (ConnectionFailed("h", "was cut"), True),
        (InvalidReply("h", "nonsense"), True),
        (GatedRepo("a/b", "page"), False),
        (TokenRefused(), False),
        (DigestMismatch("f", "wrong"), False),
        (DiskError("no"), False),
        (NotEnoughSpace(1, 0), False),
        (ReadOnly("no"), False),
        (UnsafePath("f", "no"), False),
        (Interrupted("stop"), False),
        (Cancelled("stop"), False),
    ],
)
def test_what_passes(error: PumasError, passes: bool) -> None:
    assert is_passing(error) is passes


@pytest.mark.parametrize(
    ("error", "asked", "told"),
    [
        (RateLimited("h", 7.0), 7.0, None),
        (RateLimited("h", 0.0), 0.1, None),
        (CircuitOpen("h", 9.0), None, 9.0),
        (HttpStatus(503, "h"), None, None),
        (ConnectionFailed("h", "was cut"), None, None),
    ],
)
def test_who_says_how_long(error: PumasError, asked: float | None, told: float | None) -> None:
    assert (asked_wait(error), told_wait(error)) == (asked, told)
    offline = asked_wait(Offline("h"))
    assert offline is not None and 0 < offline <= 5


class Counted(Answer):
    closes = 0

    def close(self) -> None:
        self.closes += 1
        super().close()


def test_an_end_closes_what_is_read_now_and_what_comes_later() -> None:
    connections = Connections()
    mine, other = Counted(200), Counted(200)
    with connections.reading(mine, "a"), connections.reading(other, "b"):
        connections.end("a")
        assert (mine.closed, other.closed) == (True, False)
        connections.end()
        assert other.closed
    late = Counted(200)
    with connections.reading(late, "c"):
        assert late.closed, "it is for good"


def test_a_cut_closes_what_is_read_now_alone() -> None:
    connections = Connections()
    one = Counted(200)
    with connections.reading(one, "a"):
        connections.cut()
        assert one.closed
    later = Counted(200)
    with connections.reading(later, "a"):
        assert not later.closed
    assert later.closed, "after use"


class Run:
    def __init__(self, **options: Any) -> None:
        self.stopping: PumasError | None = None
        self.meter = Meter([("a", 100)])
        self.gate = Gate()
        self.shared = Shared(self.meter, Bandwidth(), self.gate, self.check, Patience(60), **options)

    def check(self) -> None:
        if self.stopping is not None:
            raise self.stopping


def test_the_first_failure_is_the_one_that_is_told() -> None:
    run = Run()
    run.shared.fail(DiskError("first"))
    run.shared.fail(Interrupted("second"))
    assert str(run.shared.failure) == "first"
    with pytest.raises(Interrupted):
        run.shared.stop()


def test_what_does_not_pass_is_raised_at_once() -> None:
    with pytest.raises(GatedRepo):
        Run().shared.wait_after(GatedRepo("a/b", "page"))


def test_a_wait_is_told_and_can_be_ended() -> None:
    run = Run()
    threading.Timer(0.05, run.shared.fail, (DiskError("elsewhere"),)).start()
    with pytest.raises(Interrupted):
        run.shared.wait_after(RateLimited("h", 30.0))
    now = run.meter.snapshot()
    assert (now.activity, now.retries) == ("retrying", 1) and "h allows no more" in now.note


def test_a_wait_ends_with_the_job() -> None:
    run = Run()

    def cancel() -> None:
        run.stopping = Cancelled("stop")

    threading.Timer(0.05, cancel).start()
    with pytest.raises(Cancelled):
        run.shared.wait_after(RateLimited("h", 30.0))


def test_offline_mode_hangs_up() -> None:
    offline = False
    run = Run(offline=lambda: offline)
    reply = Counted(200)
    with run.shared.connections.reading(reply, "a"):
        run.shared.mind_offline()
        assert not reply.closed
        offline = True
        run.shared.mind_offline()
        assert reply.closed
