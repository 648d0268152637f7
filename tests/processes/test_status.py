"""What a poll is told of the apps: what was found before, at once, however slow the looking is."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from pathlib import Path

import pytest

from pumas.errors import CorruptState, TimedOut
from pumas.processes import status
from pumas.processes.status import AppsStatus, Shortcuts, Sources
from pumas.processes.values import RunState
from pumas.system.service import ReleaseInfo, SystemService

from .conftest import Bench, Installed, MakeBench
from .programs import Root


class World:
    """Sources that count, can hang and can fail; and a clock."""

    def __init__(self, folder: Path) -> None:
        self.version: Installed | None = Installed("v1", folder)
        self.newest_tag: str | None = "v2"
        self.shown = Shortcuts(menu=True)
        self.asked = 0
        self.changes = 0
        self.now = 100.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: set[str] = set()

    async def active(self) -> Installed | None:
        self.asked += 1
        await self.gate.wait()
        self._fail("active")
        return self.version

    async def newest(self) -> str | None:
        self._fail("newest")
        return self.newest_tag

    async def shortcuts(self, tag: str) -> Shortcuts:
        assert self.version is not None and tag == self.version.tag
        self._fail("shortcuts")
        return self.shown

    def _fail(self, what: str) -> None:
        if what in self.fails:
            raise CorruptState(what, "it is damaged")

    def status(self, bench: Bench) -> AppsStatus:
        sources = Sources(self.active, self.newest, self.shortcuts, changes=lambda: self.changes)
        return AppsStatus(bench.service, sources, clock=lambda: self.now)


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "main.py").write_text('setproctitle.setproctitle("ComfyUI Server")\n')
    return World(tmp_path)


async def test_everything_is_told(bench: Bench, world: World) -> None:
    report = await world.status(bench).report()
    assert (report.active_tag, report.patched, report.menu_shortcut, report.desktop_shortcut) == (
        "v1",
        True,
        True,
        False,
    )
    assert report.release_info == ReleaseInfo(True, "v2", "v1")
    assert (report.processes, report.message) == ((), "")


async def test_nothing_installed(bench: Bench, world: World) -> None:
    world.version = None
    report = await world.status(bench).report()
    assert (report.active_tag, report.patched, report.menu_shortcut) == (None, False, False)
    assert report.release_info == ReleaseInfo(False, "v2", None)


@pytest.mark.parametrize("what", ["active", "newest", "shortcuts"])
async def test_a_part_that_cannot_be_known_takes_nothing_from_the_rest(bench: Bench, world: World, what: str) -> None:
    world.fails.add(what)
    report = await world.status(bench).report()
    assert (report.active_tag is None) is (what == "active")
    assert (report.release_info.latest_version is None) is (what == "newest")
    assert report.menu_shortcut is (what == "newest")


async def test_polls_look_once_a_second_and_do_not_wait(bench: Bench, world: World) -> None:
    told = world.status(bench)
    for _ in range(50):
        await told.report()
    assert world.asked == 1
    world.gate.clear()
    world.version = Installed("v3", world.version.folder)  # type: ignore[union-attr]
    world.now += 1.5
    for _ in range(50):
        assert (await told.report()).active_tag == "v1", "what was known, at once"
    async with asyncio.timeout(30):
        while world.asked < 2:
            await asyncio.sleep(0.01)
    for _ in range(50):
        assert (await told.report()).active_tag == "v1", "also while it looks"
    assert world.asked == 2
    world.gate.set()
    async with asyncio.timeout(30):
        while (await told.report()).active_tag != "v3":
            await asyncio.sleep(0)
    world.now += 3
    world.version = None
    assert (await told.report()).active_tag is None, "what is as old as that is not given out"
    assert (await told.release(anew=True)).current_version is None
    await told.close()


async def test_what_was_changed_here_is_told_by_the_next_poll(bench: Bench, world: World) -> None:
    told = world.status(bench)
    assert (await told.report()).menu_shortcut
    world.shown = Shortcuts()
    assert (await told.report()).menu_shortcut, "nobody said that it changed"
    world.changes += 1
    assert not (await told.report()).menu_shortcut
    assert [(await told.report()).menu_shortcut for _ in range(20)] == [False] * 20
    assert world.asked == 2, "only the first poll after a change looks"
    await told.close()


async def test_a_look_that_was_under_way_at_a_change_is_not_given_out(bench: Bench, world: World) -> None:
    told = world.status(bench)
    await told.report()
    world.gate.clear()
    world.now += 1.5
    await told.report()  # looks behind, and hangs
    async with asyncio.timeout(30):
        while world.asked < 2:
            await asyncio.sleep(0.01)
    world.changes += 1
    world.gate.set()
    world.version = None
    assert (await told.report()).active_tag is None
    assert world.asked == 3, "one that had begun before may not have seen it"
    await told.close()


async def test_the_first_look_is_waited_for_but_not_for_ever(
    bench: Bench, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "ANSWER_S", 0.05)
    world.gate.clear()
    told = world.status(bench)
    with pytest.raises(TimedOut):
        await told.report()
    monkeypatch.setattr(status, "ANSWER_S", 30.0)
    world.gate.set()
    assert (await told.report()).active_tag == "v1"
    assert world.asked == 1, "one look for both"
    await told.close()


async def test_running_apps_are_told_with_what_they_use(opened: MakeBench, root: Root, world: World) -> None:
    root.install_comfyui()
    root.install("family")
    root.install("silent", ready_s=0.2)
    async with opened(ready_wait_s=5.0) as bench:
        system = SystemService(root.path, apps=world.status(bench), load_nvml=lambda: None)
        assert not (await system.status()).comfyui_running
        comfyui = await bench.service.launch("comfyui", remember=True)
        assert comfyui.state is RunState.READY, comfyui
        await bench.service.launch("family")
        async with asyncio.timeout(30):
            while (now := await system.status()).app_resources["family"].ram_memory < 0.03:
                await asyncio.sleep(0.05)
        assert now.comfyui_running and now.app_resources.keys() == {"comfyui", "family"}
        assert now.last_launch_log == comfyui.log_path and now.last_launch_error is None
        (shown,) = [one for one in now.running_processes if one.app_id == "comfyui"]
        assert (shown.pid, shown.tag, shown.source) == (comfyui.pid, "v1.0", "pid_file")
        assert shown.pid_file == str(root.ledger) and now.message == ""
        await bench.service.stop("comfyui")
        now = await system.status()
        assert not now.comfyui_running and "comfyui" not in now.app_resources
        slow = asyncio.create_task(bench.service.launch("silent"))
        async with asyncio.timeout(30):
            while not (await system.status()).message:
                await asyncio.sleep(0.05)
        assert "Silent runs but is not ready" in (await system.status()).message
        await bench.service.stop("silent")
        await slow
        await system.close()


_watched: list[str] | None = None
_OUTWARD = (
    "subprocess.Popen",
    "os.posix_spawn",
    "os.exec",
    "os.fork",
    "os.system",
    "socket.connect",
    "socket.getaddrinfo",
)


def _watch(event: str, _arguments: object) -> None:
    if _watched is not None and event in _OUTWARD:
        _watched.append(event)


async def test_polling_starts_no_program_and_asks_no_network(opened: MakeBench, root: Root, world: World) -> None:
    """Told by the interpreter itself (https://docs.python.org/3/library/audit_events.html), of every thread."""
    global _watched
    sys.addaudithook(_watch)
    for app in ("web", "family", "zombies"):
        root.install(app)
    async with opened() as bench:
        system = SystemService(root.path, apps=world.status(bench))
        _watched = []
        for app in ("web", "family", "zombies"):
            assert (await bench.service.launch(app)).ready
        assert "subprocess.Popen" in _watched and "socket.connect" in _watched, "it would be seen"
        _watched = []
        for _ in range(200):
            world.now += 0.5
            assert len((await system.status()).running_processes) == 3
            bench.service.list(ended=True)
            await asyncio.sleep(0.01)
        seen, _watched = _watched, None
        assert seen == []
        assert world.asked > 10, "the facts were looked up meanwhile"
        await system.close()


def test_the_report_has_all_that_the_status_tells() -> None:
    from pumas.system.service import AppsReport, Status

    names = {field.name for field in dataclasses.fields(AppsReport)} - {"processes", "active_tag"}
    assert names <= {field.name for field in dataclasses.fields(Status)}
