"""Downloads as their callers see them: calls in any order and at the same time, room, order, limits, and restarts."""

from __future__ import annotations

import asyncio
import datetime
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from fixtures.hub import Flip, Generated, Hub, HubContent, Options, Repo, Stall
from pumas.app import Services, build_services
from pumas.config import Layout
from pumas.downloads.plan import DownloadRequest
from pumas.downloads.schedule import Schedule
from pumas.downloads.service import Download, DownloadService
from pumas.downloads.settings import DownloadSettings
from pumas.downloads.space import MARGIN, Space
from pumas.errors import (
    DownloadNotFound,
    DuplicateModel,
    NotEnoughSpace,
    RepoNotFound,
    WrongJobState,
)
from pumas.events.stream import EventStream
from pumas.jobs.store import JobState
from pumas.storage.troubles import Troubles

from .life import Driver

MIB = 1 << 20
SIZE = 5 * MIB + 77
CLOSED = Schedule("00:00", "00:01")
BOUND_S = 15.0


@pytest.fixture(scope="module")
def hub_of_the_module() -> Iterator[Hub]:
    repos: list[Repo] = []
    for number, name in enumerate(("a", "b", "c", "d")):
        repo = Repo(f"maker/{name}", "text-generation", "transformers", "mit")
        repo.commit({"config.json": b'{"n": %d}' % number, "model.safetensors": Generated(SIZE, number)})
        repos.append(repo)
    with Hub(HubContent.of(*repos)) as hub:
        yield hub


@pytest.fixture
def hub(hub_of_the_module: Hub) -> Hub:
    hub_of_the_module.reset()
    hub_of_the_module.options = Options(connection_rate=400_000)
    return hub_of_the_module


class Running:
    """All services on one root; `restart` ends them in order and begins anew."""

    def __init__(self, root: Path, hub: Hub) -> None:
        self.root, self.hub = root, hub
        self.services: Services

    async def begin(self) -> None:
        self.events = EventStream()
        self.events.bind(asyncio.get_running_loop())
        self.services = build_services(Layout(self.root), self.events, Troubles())
        await self.services.jobs.open()
        await self.services.library.open()
        await self.services.downloads.open()

    async def end(self) -> None:
        await self.services.close()
        self.services.close_databases()

    async def restart(self) -> None:
        await self.end()
        await self.begin()

    @property
    def downloads(self) -> DownloadService:
        return self.services.downloads

    async def start(self, name: str, **wishes: Any) -> Download:
        return await self.downloads.start(DownloadRequest(f"maker/{name}", **wishes))

    async def until(self, download_id: str, *statuses: str) -> Download:
        end = time.monotonic() + BOUND_S
        while (now := await self.downloads.status(download_id)).status not in statuses:
            assert time.monotonic() < end, now
            await asyncio.sleep(0.01)
        if now.finished_at or now.status == "paused":
            await self.services.jobs.wait(download_id, BOUND_S)  # what it shows is recorded now
        return now

    async def set(self, **changes: Any) -> None:
        await self.downloads.set_limits(lambda settings: replace(settings, **changes))

    async def order(self) -> list[str]:
        return [one.id for one in await self.downloads.list(finished=False, limit=100)]

    def go(self) -> None:
        """Let all that is under way come quickly."""
        self.hub.options = Options()

    def saved(self) -> dict[str, Any]:
        return json.loads(Layout(self.root).download_settings.read_bytes())

    def staged(self) -> list[str]:
        staging = Layout(self.root).staging
        return sorted(path.name for path in staging.iterdir()) if staging.is_dir() else []

    def room_for(self, downloads: float) -> None:
        """The disk has room for so many downloads."""
        self.downloads._space = Space(  # pyright: ignore[reportPrivateUsage]
            self.root, lambda _folder: MARGIN + int(downloads * SIZE)
        )


@pytest.fixture
async def running(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr("pumas.downloads.patience.FIRST_WAIT_S", 0.02)
    monkeypatch.setattr("pumas.net.breaker.RECOVERY_S", 0.2)
    for name, value in hub.env(home=tmp_path).items():
        monkeypatch.setenv(name, value)
    made = Running(tmp_path, hub)
    await made.begin()
    yield made
    await made.end()


# -- starting ----------------------------------------------------------------------------------------------------------


async def test_a_download_from_its_start_to_its_end(running: Running) -> None:
    began = await running.start("a")
    assert (began.status, began.total, began.file_count, began.repo_id) == ("queued", SIZE + 8, 2, "maker/a")
    now = await running.until(began.id, "downloading")
    assert now.place is None
    running.go()
    done = await running.until(began.id, "completed")
    assert (done.downloaded, done.progress, done.speed, done.eta_s) == (done.total, 1.0, 0.0, None)
    assert done.result is not None and Path(done.result["model_path"], "model.safetensors").stat().st_size == SIZE
    assert done.finished_at is not None and done.error == ""
    files = (await running.downloads.status(began.id, files=True)).files
    assert {(file.path, file.downloaded, file.state) for file in files} == {
        ("config.json", 8, "done"),
        ("model.safetensors", SIZE, "done"),
    }
    assert running.staged() == []


async def test_two_equal_calls_at_once_are_one_download(running: Running) -> None:
    started = await asyncio.gather(*(running.start("a") for _ in range(6)))
    assert len({one.id for one in started}) == 1


async def test_no_name_makes_the_same_files_come_twice(running: Running) -> None:
    began = await running.start("a")
    assert (await running.start("A", official_name="Another", family="other")).id == began.id
    assert (await running.start("a", official_name="Another", allow_duplicate=True)).id != began.id


@pytest.mark.parametrize("stopped_by", ["pause", "fault"])
async def test_starting_again_goes_on(running: Running, stopped_by: str) -> None:
    if stopped_by == "fault":
        running.hub.fault(Flip(5), kind="file", path="*model.safetensors", times=None)
        running.go()
    began = await running.start("a")
    if stopped_by == "pause":
        await running.until(began.id, "downloading")
        await running.downloads.pause(began.id)
    await running.until(began.id, "paused", "error")
    running.hub.reset()
    assert (await running.start("a")).id == began.id
    running.go()
    await running.until(began.id, "completed")


async def test_starting_what_is_just_being_paused_goes_on(running: Running) -> None:
    began = await running.start("a")
    await running.until(began.id, "downloading")
    _, again = await asyncio.gather(running.downloads.pause(began.id), running.start("a"))
    assert again.id == began.id
    running.go()
    await running.until(began.id, "completed")


async def test_what_the_library_has_is_refused(running: Running) -> None:
    running.go()
    began = await running.start("a")
    await running.until(began.id, "completed")
    with pytest.raises(DuplicateModel):
        await running.start("a")
    again = await running.start("a", allow_duplicate=True)
    assert (await running.until(again.id, "completed")).result != (await running.downloads.status(began.id)).result


async def test_what_is_not_there_is_not_started(running: Running) -> None:
    with pytest.raises(RepoNotFound):
        await running.start("nothing")
    assert await running.downloads.list(finished=True, limit=10) == []


# -- room --------------------------------------------------------------------------------------------------------------


async def test_no_room_is_said_at_the_start(running: Running) -> None:
    running.room_for(0.5)
    with pytest.raises(NotEnoughSpace):
        await running.start("a")
    assert await running.downloads.list(finished=True, limit=10) == []


def _cancel(running: Running, download_id: str) -> Any:
    return running.downloads.cancel(download_id)


def _pause(running: Running, download_id: str) -> Any:
    return running.downloads.pause(download_id)


def _cancel_job(running: Running, download_id: str) -> Any:
    return running.services.jobs.cancel(download_id)


def _pause_job(running: Running, download_id: str) -> Any:
    return running.services.jobs.pause(download_id)


@pytest.mark.parametrize("let_go", [_cancel, _pause, _cancel_job, _pause_job])
@pytest.mark.parametrize("which", ["a", "b"])
async def test_what_stops_gives_its_room_back(running: Running, let_go: Callable[..., Any], which: str) -> None:
    """Whether it runs (a) or waits for its turn (b), and by whichever method it is stopped."""
    await running.set(at_once=1)
    running.room_for(2.5)
    ids = {name: (await running.start(name)).id for name in ("a", "b")}
    await running.until(ids["a"], "downloading")
    with pytest.raises(NotEnoughSpace):
        await running.start("c")
    await let_go(running, ids[which])
    await running.until(ids[which], "paused", "cancelled")
    await running.start("c")


async def test_the_disk_is_never_asked_on_the_event_loop(running: Running) -> None:
    asked: list[str] = []

    def free(_folder: Path) -> int:
        asked.append(threading.current_thread().name)
        return 10**12

    running.downloads._space = Space(running.root, free)  # pyright: ignore[reportPrivateUsage]
    began = await running.start("a")
    await running.until(began.id, "downloading")
    assert asked and threading.main_thread().name not in asked


# -- steering ----------------------------------------------------------------------------------------------------------


async def test_pause_and_resume(running: Running) -> None:
    began = await running.start("a")
    await running.until(began.id, "downloading")
    assert (await running.downloads.pause(began.id)).status == "paused", "the answer says how it ended"
    sent = running.hub.bytes_sent()
    await asyncio.sleep(0.2)
    assert running.hub.bytes_sent() == sent
    assert (await running.downloads.resume(began.id)).status in ("queued", "downloading")
    running.go()
    await running.until(began.id, "completed")
    assert running.hub.bytes_sent("*model.safetensors") <= SIZE + 6 * MIB


async def test_a_paused_one_shows_what_it_had_shown(running: Running) -> None:
    running.hub.options = Options(connection_rate=4e6)
    began = await running.start("a")
    for _ in range(4):
        before = (await running.until(began.id, "downloading")).downloaded
        await asyncio.sleep(0.03)
        before = max(before, (await running.downloads.status(began.id)).downloaded)
        assert (await running.downloads.pause(began.id)).downloaded >= before
        job = await running.services.jobs.get(began.id)
        assert job.done >= before, "as it is recorded"
        await running.downloads.resume(began.id)


async def test_calls_on_one_download_in_quick_succession(running: Running) -> None:
    """A person who clicks faster than threads stop."""
    began = await running.start("a")
    await running.until(began.id, "downloading")
    for _ in range(5):
        await running.services.jobs.pause(began.id)
        await running.downloads.resume(began.id)
    running.go()
    await running.until(began.id, "completed")


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        ("completed", ["pause", "resume", "cancel"]),
        ("cancelled", ["pause", "resume", "cancel"]),
        ("downloading", ["resume"]),
        ("paused", ["pause"]),
    ],
)
async def test_what_cannot_be_done_now(running: Running, state: str, refused: list[str]) -> None:
    began = await running.start("a")
    await running.until(began.id, "downloading")
    if state == "completed":
        running.go()
    elif state != "downloading":
        await (running.downloads.cancel if state == "cancelled" else running.downloads.pause)(began.id)
    await running.until(began.id, state)
    for name in refused:
        with pytest.raises(WrongJobState):
            await getattr(running.downloads, name)(began.id)
    assert (await running.downloads.status(began.id)).status == state


@pytest.mark.parametrize("call", ["status", "pause", "resume", "cancel"])
async def test_unknown_ids(running: Running, call: str) -> None:
    verify = await running.services.jobs.start("verify", {}, title="no download")
    for download_id in ("nothing", "", "download-0", "../x", verify.id):
        with pytest.raises(DownloadNotFound):
            await getattr(running.downloads, call)(download_id)


@pytest.mark.parametrize("state", ["queued", "downloading", "paused", "error"])
async def test_cancelling_leaves_nothing(running: Running, state: str) -> None:
    await running.set(at_once=1)
    if state == "error":
        running.hub.fault(Flip(5), kind="file", path="*model.safetensors", times=None)
        running.go()
    first = await running.start("b" if state == "queued" else "a")
    began = await running.start("a")
    await running.until(began.id, "downloading" if state == "paused" else state)
    if state == "paused":
        async with asyncio.timeout(BOUND_S):
            while not running.staged():  # its folder is made after it is said to have begun
                await asyncio.sleep(0.01)
        await running.downloads.pause(began.id)
        assert running.staged() != []
    await running.downloads.cancel(began.id)
    await running.until(began.id, "cancelled")
    if state == "queued":
        await running.downloads.cancel(first.id)
        await running.until(first.id, "cancelled")
    assert running.staged() == []
    assert await running.order() == []
    assert running.saved()["order"] == []


async def test_a_cancelled_one_can_be_asked_about_at_any_moment(running: Running) -> None:
    await running.set(at_once=1)
    first, second = await running.start("a"), await running.start("b")
    await running.until(first.id, "downloading")
    await running.downloads.pause(second.id)
    await running.downloads.cancel(second.id)
    await running.until(second.id, "cancelled")  # asks all the time; the queue is full


# -- the queue ---------------------------------------------------------------------------------------------------------


async def test_the_order_is_that_of_the_starts_and_can_be_changed(running: Running) -> None:
    await running.set(at_once=1)
    ids = [(await running.start(name)).id for name in "abcd"]
    await running.until(ids[0], "downloading")
    assert await running.order() == ids
    places = [one.place for one in await running.downloads.list(finished=False, limit=10)]
    assert places == [None, 0, 1, 2]
    listed = await running.downloads.move_first([ids[3], ids[1]])
    assert [one.id for one in listed] == [ids[3], ids[1], ids[0], ids[2]]
    assert running.saved()["order"] == [ids[3], ids[1], ids[0], ids[2]]
    await running.downloads.cancel(ids[0])
    await running.until(ids[3], "downloading")
    assert (await running.downloads.status(ids[1])).place == 0


async def test_reordering_what_is_not_there_moves_nothing(running: Running) -> None:
    await running.set(at_once=1)
    ids = [(await running.start(name)).id for name in "abc"]
    with pytest.raises(DownloadNotFound):
        await running.downloads.move_first([ids[2], "nothing"])
    assert await running.order() == ids


async def test_what_has_ended_gets_no_place(running: Running) -> None:
    running.go()
    began = await running.start("a")
    await running.until(began.id, "completed")
    await running.downloads.move_first([began.id])
    assert running.saved()["order"] == []


# -- limits ------------------------------------------------------------------------------------------------------------


async def test_limits_changed_at_the_same_time_are_all_kept(running: Running) -> None:
    """Also while the order of a download that starts is being written."""
    downloads = running.downloads
    await asyncio.gather(
        running.start("a"),
        downloads.set_limits(lambda s: replace(s, bytes_per_second=50_000_000)),
        running.start("b"),
        downloads.set_limits(lambda s: replace(s, at_once=9)),
        running.start("c"),
        downloads.set_limits(lambda s: replace(s, schedule=Schedule("01:00", "00:59"))),
    )
    limits = downloads.limits()
    assert (limits.bytes_per_second, limits.at_once, limits.schedule) == (50_000_000, 9, Schedule("01:00", "00:59"))
    saved = running.saved()
    assert (saved["bytes_per_second"], saved["at_once"], saved["schedule"]["start"]) == (50_000_000, 9, "01:00")
    assert len(saved["order"]) == 3
    await running.restart()
    assert replace(running.downloads.limits(), open=True) == replace(limits, open=True)


async def test_a_limit_that_cannot_be_saved_does_not_hold(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise NotEnoughSpace(1, 0)

    monkeypatch.setattr("pumas.downloads.settings.SettingsFile.save", refuse)
    with pytest.raises(NotEnoughSpace):
        await running.set(at_once=7)
    assert running.downloads.limits().at_once == DownloadSettings().at_once


async def test_hours(running: Running) -> None:
    await running.set(schedule=CLOSED)
    if running.downloads.limits().open:  # it is midnight here
        await running.set(schedule=Schedule("12:00", "12:01"))
    running.go()
    began = await running.start("a")
    now = await running.until(began.id, "waiting")
    assert "hours" in now.message and running.hub.bytes_sent() == 0
    await running.set(schedule=None)
    await running.until(began.id, "completed")


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_events_tell_what_the_status_tells(running: Running) -> None:
    cursor = running.events.cursor
    began = await running.start("a")
    await running.until(began.id, "downloading")
    await asyncio.sleep(0.6)
    running.go()
    done = await running.until(began.id, "completed")
    with running.events.subscribe(("download.progress",), after=cursor) as reader:
        told = [json.loads(event.data) for event in reader.pending()]
    assert {one["download_id"] for one in told} == {began.id}
    counts = [one["downloaded_bytes"] for one in told]
    assert counts == sorted(counts) and counts[-1] == done.total
    assert all(one["total_bytes"] == done.total for one in told)


async def test_everybody_hears_of_new_limits_and_of_a_new_order(running: Running) -> None:
    cursor = running.events.cursor
    await running.set(bytes_per_second=50_000_000, at_once=1, schedule=Schedule("01:00", "00:59"))
    limits = running.downloads.limits()
    ids = [(await running.start(name)).id for name in ("a", "b", "c")]
    await running.downloads.move_first([ids[2]])
    with pytest.raises(DownloadNotFound):
        await running.downloads.move_first(["nothing"])
    with running.events.subscribe(("download.limits", "download.order"), after=cursor) as reader:
        told = [(event.topic, json.loads(event.data)) for event in reader.pending()]
    schedule: dict[str, Any] = {"start": "01:00", "end": "00:59", "days": []}
    assert told == [
        ("download.limits", {"bytes_per_second": 50_000_000, "at_once": 1, "schedule": schedule, "open": limits.open}),
        ("download.order", {"first": [ids[2]]}),
    ]
    await running.set(schedule=None)


async def test_everybody_hears_that_the_schedule_has_opened(running: Running) -> None:
    wall = [datetime.datetime(2026, 6, 1, 8, 59, 59, 950_000, datetime.UTC)]
    running.downloads._gate._clock = lambda: wall[0]  # pyright: ignore[reportPrivateUsage]
    await running.set(schedule=Schedule("09:00", "10:00"))
    closed = running.downloads.limits()
    with running.events.subscribe(("download.limits",)) as reader:
        wall[0] = datetime.datetime(2026, 6, 1, 9, tzinfo=datetime.UTC)
        told = json.loads((await asyncio.wait_for(reader.next(), 30)).data)
    shown: dict[str, Any] = {"start": "09:00", "end": "10:00", "days": []}
    assert not closed.open and told == asdict(replace(closed, open=True)) | {"schedule": shown}


async def test_a_stalled_one_does_not_say_that_it_downloads(running: Running) -> None:
    running.hub.fault(Stall(after_bytes=100_000), kind="file", path="*model.safetensors", times=None)
    began = await running.start("a")
    await running.until(began.id, "downloading")
    stalled = time.monotonic()
    await running.until(began.id, "retrying")
    assert time.monotonic() - stalled < 20


# -- restarts ----------------------------------------------------------------------------------------------------------


async def test_what_a_stop_interrupted_goes_on_and_what_was_paused_does_not(running: Running) -> None:
    await running.set(at_once=2)
    ids = [(await running.start(name)).id for name in "abcd"]
    await running.until(ids[0], "downloading")
    await running.downloads.move_first([ids[3], ids[2]])
    await running.downloads.pause(ids[1])
    await running.restart()
    assert await running.order() == [ids[3], ids[2], ids[0], ids[1]]
    assert (await running.downloads.status(ids[1])).status == "paused"
    running.go()
    for download_id in (ids[0], ids[2], ids[3]):
        await running.until(download_id, "completed")
    assert (await running.downloads.status(ids[1])).status == "paused"


async def test_a_failed_one_stays_failed_and_can_go_on(running: Running) -> None:
    running.hub.fault(Flip(5), kind="file", path="*model.safetensors", times=None)
    running.go()
    began = await running.start("a")
    failed = await running.until(began.id, "error")
    assert failed.error_code == "digest_mismatch" and failed.error
    await running.restart()
    assert (await running.downloads.status(began.id)).error == failed.error
    running.hub.reset()
    await running.downloads.resume(began.id)
    done = await running.until(began.id, "completed")
    assert done.error == "" and done.error_code == ""


async def test_a_damaged_row_does_not_stop_the_others(running: Running) -> None:
    began = [await running.start(name) for name in "ab"]
    await running.end()
    import sqlite3

    with sqlite3.connect(Layout(running.root).jobs_db) as db:
        db.execute('UPDATE jobs SET params_json = \'{"plan": {}, "total_bytes": 5}\' WHERE id = ?', (began[0].id,))
    db.close()
    await running.begin()
    running.go()
    await running.until(began[1].id, "completed")


def test_a_killed_one_knows_at_once_how_far_it_was(tmp_path: Path, hub: Hub) -> None:
    """Also while it waits for its turn."""
    hub.options = Options(connection_rate=3e6)
    with Driver() as driver:
        life = driver.begin(tmp_path, hub.env(home=tmp_path))
        ids = [life.call("start_model_download_from_hf", repo_id=f"maker/{name}")["download_id"] for name in "ab"]

        def states() -> list[dict[str, Any]]:
            return [life.call("get_model_download_status", download_id=download_id) for download_id in ids]

        end = time.monotonic() + BOUND_S
        while not all(one["downloaded_bytes"] > 3 * MIB for one in states()):
            assert time.monotonic() < end
        hub.options = Options(connection_rate=1000)
        life.call("set_download_limits", at_once=1)
        before = states()
        life.kill()
        life = driver.begin(tmp_path, hub.env(home=tmp_path))
        after = states()
        assert [one["status"] for one in after][1] == "queued"
        for old, new in zip(before, after, strict=True):
            # Of each connection, the block that was under way is lost.
            assert new["downloaded_bytes"] >= MIB and new["downloaded_bytes"] >= old["downloaded_bytes"] - 6 * MIB
        assert after[1]["downloaded_bytes"] > 0
        life.kill()


async def test_the_states_of_jobs_are_those_of_downloads(running: Running) -> None:
    began = await running.start("a")
    await running.until(began.id, "downloading")
    job = await running.services.jobs.get(began.id)
    assert (job.kind, job.state) == ("download", JobState.RUNNING)
