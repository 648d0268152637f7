"""Bytes are read at the pace that is allowed and told as they come; an answer that trickles is given up."""

from __future__ import annotations

import time

import pytest

from pumas.downloads import filling
from pumas.downloads.filling import fill
from pumas.errors import ConnectionFailed, Interrupted, InvalidReply, PumasError

from .test_content import Answer
from .test_shared import Run

DATA = bytes(range(100))


class Pieces(Answer):
    """Gives these sizes one after the other, `every_s` apart, and then what `end` says."""

    def __init__(self, *sizes: int, every_s: float = 0.0, end: PumasError | None = None) -> None:
        super().__init__(200)
        self._sizes, self._every_s, self._end, self._at = list(sizes), every_s, end, 0

    def read_into(self, target: memoryview, /) -> int:
        if self._every_s:
            time.sleep(self._every_s)
        if not self._sizes:
            if self._end is not None:
                raise self._end
            return 0
        size = min(self._sizes.pop(0), len(target))
        target[:size] = DATA[self._at : self._at + size]
        self._at += size
        return size


def check(run: Run, reply: Answer, error: type[PumasError] | None) -> None:
    buffer = bytearray(100)
    if error is None:
        fill(run.shared, reply, "a", memoryview(buffer))
        assert buffer == DATA
        assert run.meter.snapshot().downloaded == 100, "pending until it is kept"
        return
    with pytest.raises(error):
        fill(run.shared, reply, "a", memoryview(buffer))
    assert run.meter.files()[0].downloaded == 0, "what had come of it is lost"


@pytest.mark.parametrize("sizes", [(100,), (1,) * 100, (60, 1, 39), (200,)])
def test_whatever_the_pieces(sizes: tuple[int, ...]) -> None:
    check(Run(), Pieces(*sizes), None)


@pytest.mark.parametrize("sizes", [(), (99,), (50, 20)])
def test_an_early_end(sizes: tuple[int, ...]) -> None:
    check(Run(), Pieces(*sizes), InvalidReply)


def test_a_connection_that_breaks() -> None:
    check(Run(), Pieces(40, end=ConnectionFailed("h", "was cut")), ConnectionFailed)


@pytest.mark.parametrize(("every_s", "error"), [(0.004, InvalidReply), (0.0, None)])
def test_a_trickle(every_s: float, error: type[PumasError] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SLOWEST_FOR_S", 0.02)
    monkeypatch.setattr(filling, "SLOWEST", 1000.0)
    check(Run(), Pieces(*[1] * 100, every_s=every_s), error)


def test_our_own_limit_is_no_trickle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SLOWEST_FOR_S", 0.04)
    monkeypatch.setattr(filling, "SLOWEST", 10_000.0)
    run = Run()
    run.shared.bandwidth.limit(1024)
    began = time.monotonic()
    check(run, Pieces(*[10] * 10), None)
    assert time.monotonic() - began >= 0.05, "it was held back"


def test_a_stop_while_the_limit_holds_back() -> None:
    run = Run()
    run.shared.bandwidth.limit(1024)
    run.stopping = Interrupted("stop")
    check(run, Pieces(100), Interrupted)


def test_bytes_count_as_progress_for_who_waits() -> None:
    run = Run()
    wait_s = [run.shared.patience.after(ConnectionFailed("h", "was cut")) for _ in range(3)]
    assert wait_s
    check(run, Pieces(100), None)
    assert run.shared.patience._ends is None  # pyright: ignore[reportPrivateUsage]
