"""Small and large files side by side: what is asked for, what is kept when it stops, and one slow file among many."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.hub import Drop, Flip, Generated, Hub, Options, Slow, Stall
from pumas.downloads.large import LargeFile
from pumas.errors import DigestMismatch, Interrupted
from pumas.library.hashing import Digests

from .downloads_setup import MIB, REPO, DownloadJob, Setup, Stopper, repository

COUNT = 40


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pumas.downloads.patience.FIRST_WAIT_S", 0.02)
    monkeypatch.setattr("pumas.net.breaker.RECOVERY_S", 0.2)
    monkeypatch.setattr("pumas.downloads.downloading.SILENCE_S", 0.3)


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    small = {f"part-{n:02}/config.json": b'{"n": %d}' % n for n in range(COUNT)}
    large = {f"model-{n}.safetensors": Generated(3 * MIB + n, n) for n in range(1, 5)}
    with Hub(repository({**small, **large, "vocab.txt": Generated(MIB, 9)})) as hub:
        made = Setup(tmp_path, hub)
        yield made
        made.close()


def check(setup: Setup, job: DownloadJob | None = None) -> None:
    result = setup.download(job=job)
    assert setup.files(result["model_id"]) == setup.expected()
    assert setup.staged() == []


def asked(setup: Setup, pattern: str) -> int:
    """How often bytes were asked for."""
    from fnmatch import fnmatchcase

    return sum(record.span is not None and fnmatchcase(record.label, pattern) for record in setup.hub.requests)


def test_everything_is_asked_for_once(setup: Setup) -> None:
    check(setup)
    assert asked(setup, "*/part-*") == COUNT
    assert setup.hub.bytes_sent() == sum(map(len, setup.expected().values()))


def test_connections_are_used_again(setup: Setup) -> None:
    """The redirect of each file goes out on one that another file has just left."""
    check(setup)
    assert len({record.connection for record in setup.hub.requests if record.host == "hub"}) <= 12


@pytest.mark.parametrize("fault", [Slow(20), Stall(after_bytes=3), Stall(after_bytes=None), Drop()])
@pytest.mark.parametrize("path", [f"{REPO}/part-07/config.json", f"{REPO}/vocab.txt"])
def test_one_bad_connection_holds_nothing_up(
    setup: Setup, fault: Slow | Stall | Drop, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pumas.downloads.filling.SLOWEST_FOR_S", 0.2)
    setup.hub.fault(fault, kind="file", path=path)
    check(setup)


def test_small_files_that_were_kept_are_not_asked_for_again(setup: Setup) -> None:
    setup.hub.options = Options(latency_s=0.1)
    job = DownloadJob("download-1")
    Stopper(job, Interrupted("stop"), lambda: len(setup.meter.files()) > 0 and arrived() >= 20)

    def arrived() -> int:
        return sum(file.state == "done" and file.path.startswith("part-") for file in setup.meter.files())

    with pytest.raises(Interrupted):
        setup.download(job=job)
    kept = [path for path in job.checkpoint["done"] if path.startswith("part-")]
    assert len(kept) >= 20, "a stop keeps what has come"
    setup.hub.options = Options()
    setup.hub.reset()
    job.on_check = lambda: None
    check(setup, job)
    rest = {f"part-{n:02}/config.json" for n in range(COUNT)} - {*kept}
    # How often is not counted: the hub may see one of the first time only now.
    paths = [record.label.removeprefix(f"{REPO}/") for record in setup.hub.requests if record.span is not None]
    assert {path for path in paths if path.startswith("part-")} == rest


def test_a_small_file_that_is_wrong_twice_is_the_end(setup: Setup) -> None:
    setup.hub.fault(Flip(2), kind="file", path="*/part-03/*", times=2)
    with pytest.raises(DigestMismatch) as raised:
        setup.download()
    assert "part-03/config.json" in str(raised.value)
    assert setup.models() == []


def test_no_thread_is_left_when_it_has_ended(setup: Setup) -> None:
    check(setup)
    job = DownloadJob("download-2")
    Stopper(job, Interrupted("stop"), lambda: True)
    with pytest.raises(Interrupted):
        setup.download(setup.plan(allow_duplicate=True), job)
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith(("download", "hash"))]
    assert names == []


@pytest.mark.parametrize(("connections", "at_once"), [(1, 1), (2, 2)])
def test_a_large_file_begins_when_connections_have_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: int, at_once: int
) -> None:
    """One after the other where one connection fills the line, and never more than two."""
    monkeypatch.setattr("pumas.downloads.large._CONNECTIONS", ((float("inf"), connections),))
    monkeypatch.setattr("pumas.downloads.large._FIRST_CONNECTIONS", connections)
    large = {f"model-{n}.safetensors": Generated(20 * MIB + n, n) for n in range(1, 4)}
    begun: list[LargeFile] = []
    arriving: list[int] = []

    class Watched(LargeFile):
        def verify(self) -> Digests:
            begun.append(self)
            arriving.append(sum(not file.part.complete for file in begun))
            try:
                return super().verify()
            finally:
                begun.remove(self)

    monkeypatch.setattr("pumas.downloads.fetching.LargeFile", Watched)
    with Hub(repository(large), Options(connection_rate=40e6)) as hub:
        made = Setup(tmp_path, hub)
        check(made)
        made.close()
    assert (len(arriving), max(arriving)) == (3, at_once)
