"""Large files: what is told while one is verified, mended or begun again, and what that costs."""

from __future__ import annotations

import datetime
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from fixtures.hub import Flip, Hub, IgnoreRange, Options, OtherETag, Slow
from pumas.downloads.meter import Snapshot
from pumas.downloads.part import PartFile
from pumas.downloads.schedule import Schedule
from pumas.errors import DigestMismatch

from .downloads_setup import MIB, REPO, DownloadJob, Setup, one_file

SIZE = 24 * MIB + 12_345
WEIGHTS = f"{REPO}/weights.safetensors"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pumas.downloads.patience.FIRST_WAIT_S", 0.02)
    monkeypatch.setattr("pumas.net.breaker.RECOVERY_S", 0.2)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    with Hub(one_file(SIZE)) as hub:
        made = Setup(tmp_path, hub)
        yield made
        made.close()


class Watcher:
    """Looks at the meter all the time while a download runs."""

    def __init__(self, setup: Setup) -> None:
        self.seen: list[Snapshot] = []
        self._setup, self._ended = setup, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(0.002):
            self.seen.append(self._setup.meter.snapshot())

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        pairs = zip(self.seen, self.seen[1:], strict=False)
        # A new run begins with a new meter.
        assert all(a.downloaded <= b.downloaded or b.restarts != a.restarts or b.total != a.total for a, b in pairs)


def check(setup: Setup, job: DownloadJob | None = None) -> None:
    with Watcher(setup):
        result = setup.download(job=job)
    assert setup.files(result["model_id"]) == setup.expected()
    assert setup.staged() == []


def test_a_content_that_was_wrong_until_it_was_replaced(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the first content arrives; its digest is wrong; the server has another one when it is asked again."""
    forget_all = PartFile.forget_all

    def forget_late(part: PartFile) -> None:
        time.sleep(0.3)  # whoever looks too early sees the first content again
        forget_all(part)

    monkeypatch.setattr(PartFile, "forget_all", forget_late)
    setup.hub.fault(OtherETag("first"), kind="file", path=WEIGHTS, times=4)
    for at in (MIB, 9 * MIB, 17 * MIB):
        setup.hub.fault(Flip(at), kind="file", path=WEIGHTS)
    check(setup)
    assert setup.meter.snapshot().restarts == 1
    assert setup.hub.bytes_sent(WEIGHTS) < 3 * SIZE, "a segment or two of the first may have been asked for again"


def test_a_content_that_was_wrong_and_came_whole(setup: Setup) -> None:
    """As before, from a server that gives no parts."""
    setup.hub.fault(IgnoreRange(), kind="file", path=WEIGHTS, times=None)
    setup.hub.fault(Flip(MIB), kind="file", path=WEIGHTS, times=2)
    check(setup)
    assert setup.meter.snapshot().restarts == 2


def test_a_fast_line_that_becomes_slow_gets_more_connections(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pumas.downloads.large._CONNECTIONS", ((5e6, 4), (float("inf"), 1)))
    monkeypatch.setattr("pumas.downloads.large._SEGMENT_S", 0.1)
    setup.hub.fault(Slow(2 * MIB), kind="file", path=WEIGHTS, skip=1, times=None)
    check(setup)
    first, second, *others = (asked for asked in setup.hub.requests if asked.span and asked.span[1] > MIB)
    assert first.ended is not None and second.began >= first.ended, "one by one on a fast line"
    assert second.span and second.bytes_sent < second.span[1] - second.span[0], "it was given up"
    assert any(one.ended and next_one.began < one.ended for one, next_one in pairwise(others)), "several at once"


def test_a_failed_one_says_that_nothing_of_it_is_left(setup: Setup) -> None:
    rule = setup.hub.fault(Flip(13 * MIB), kind="file", path=WEIGHTS, times=None)
    with pytest.raises(DigestMismatch):
        setup.download(job=(job := DownloadJob("download-1")))
    said = setup.meter.snapshot()
    assert said.downloaded <= 100, "the small file"
    assert said.restarts == 1
    rule.times = 0
    check(setup, job)


@pytest.mark.parametrize("limit", [None, 100 * MIB])
def test_a_trickle_is_given_up_whatever_the_limit(
    setup: Setup, limit: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pumas.downloads.filling.SLOWEST_FOR_S", 0.3)
    setup.bandwidth.limit(limit)
    setup.hub.fault(Slow(50), kind="file", path=WEIGHTS)
    check(setup)


def test_a_connection_that_is_slow_because_of_our_own_limit_is_kept(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four connections share the limit, so that each gets less than what would be a trickle."""
    monkeypatch.setattr("pumas.downloads.filling.SLOWEST_FOR_S", 0.2)
    monkeypatch.setattr("pumas.downloads.filling.SLOWEST", 2e6)
    setup.bandwidth.limit(6_000_000)
    timer = threading.Timer(1.5, setup.bandwidth.limit, (None,))
    timer.start()
    check(setup)
    timer.join()
    assert setup.meter.snapshot().retries == 0


def test_mending_keeps_to_the_schedule(setup: Setup) -> None:
    setup.hub.options = Options(connection_rate=60e6)
    setup.hub.fault(Flip(20 * MIB), kind="file", path=WEIGHTS)
    closed = threading.Event()

    def close_when_all_has_come() -> None:
        if not closed.is_set() and setup.meter.snapshot().note.startswith("The digest"):
            now = datetime.datetime.now().astimezone()
            hour = (now.hour + 12) % 24
            setup.gate.set(Schedule(f"{hour:02}:00", f"{hour:02}:30"))
            closed.set()
            sent.append(setup.hub.bytes_sent(WEIGHTS))
            threading.Timer(1.0, open_again).start()

    def open_again() -> None:
        sent.append(setup.hub.bytes_sent(WEIGHTS))
        setup.gate.set(None)

    sent: list[int] = []
    job = DownloadJob("download-1")
    job.on_check = close_when_all_has_come
    check(setup, job)
    assert closed.is_set()
    assert sent[1] - sent[0] <= 8 * MIB, "what was under way may end"
