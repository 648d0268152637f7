"""uv and pip, killed, halted or refused by the disk at any system call of theirs while they make an environment.

An installation that fails then leaves what was there, says why, and works when it is asked for again; one that succeeds
all the same has every file. A tool that outlives a killed sidecar is ended by the next one, which goes on. strace runs
in the tool's place (`faults/strace.py`). `PUMAS_FAULT_RUNS` sets how many faults of a kind each call of a tool gets (1
unless told).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from apps.test_description import shipped
from faults.strace import CHANGING, Point, points
from fixtures.releases import ReleaseServer
from fixtures.releases.archives import web_app, zipped
from fixtures.releases.content import REQUIREMENTS
from pumas.config import Layout
from pumas.downloads.bandwidth import Bandwidth
from pumas.errors import InstallFailed, NotEnoughSpace, PumasError
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles
from pumas.versions import filling, undoing
from pumas.versions.fetching import Archive
from pumas.versions.installing import Install, Plan, Tools
from pumas.versions.packages import find_uv
from pumas.versions.places import Places, remove_tree
from pumas.versions.progress import Progress
from pumas.versions.recovering import recover
from pumas.versions.running import InstallLog
from pumas.versions.state import VersionState
from pumas.versions.values import OneApp
from sidecar import eventually

from .setup import everything, server

__all__ = ["server"]
RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "1"))
FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")
APP = shipped("comfyui")
OLD, NEW = "v1", "v2"
# Words that tell one call of a tool from its others.
CALLS = {
    "uv": {"make": "* venv *", "resolve": "* pip compile *", "install": "* pip install *"},
    "pip": {"make": "* -m venv *", "resolve": "* --dry-run *", "install": "* --progress-bar *"},
}
# What is disturbed, and how, unless told otherwise: pip takes seconds.
SHORT = {"uv": (tuple(CALLS["uv"]), FAULTS), "pip": (("install",), FAULTS[:1])}


def _idle(_app_id: str, _tag: str) -> bool:
    return False


class Job:
    """Its checkpoint is a file, so that a forked installation leaves one."""

    def __init__(self, path: Path) -> None:
        self.job_id, self._path = path.stem, path

    @property
    def checkpoint(self) -> dict[str, Any]:
        return json.loads(self._path.read_bytes()) if self._path.exists() else {}

    def check(self) -> None: ...

    def save_checkpoint_sync(self, state: dict[str, Any]) -> None:
        self._path.write_text(json.dumps(state))


class World:
    """`OLD` is installed; `NEW` is what is disturbed, one installation after the other."""

    def __init__(self, folder: Path, tool: str, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.root, self.layout = folder, folder / "root", Layout(folder / "root")
        self.tool = tool
        self._program, self._stand_in = find_uv() if tool == "uv" else sys.executable, folder / "tool"
        self._replace("")
        patch.setattr(filling, "LONG_S", 0.0)
        patch.setenv("PUMAS_UV", str(self._stand_in) if tool == "uv" else "off")
        if tool == "pip":
            patch.setattr(sys, "executable", str(self._stand_in))
        state = VersionState(self.layout, APP, StateLock(self.layout.state_lock), Troubles())
        self.one = OneApp(APP, state, Places(state.folder), cast(Any, None))
        assert self.install(self.job(), OLD) is None
        undoing.switch(self.one, OLD)
        assert self.install(self.job()) is None
        self.old, self.new = self.read(OLD), self.read(NEW)
        self.forget()

    def _replace(self, cases: str) -> None:
        self._stand_in.write_text(
            f'#!/bin/sh\ncase " $* " in\n{cases}esac\nexec {shlex.quote(str(self._program))} "$@"\n'
        )
        self._stand_in.chmod(0o755)

    @contextlib.contextmanager
    def traced(self, call: str, *strace: str) -> Any:
        """The tool's calls of one kind run below strace, in their own place and group."""
        words = shlex.join(["strace", "-D", "-f", "-qq", *strace, str(self._program)])
        pattern, installs = (CALLS[self.tool][one].replace(" ", "\\ ") for one in (call, "install"))
        if (self.tool, call) == ("uv", "resolve"):
            # That it does only while an installation takes long: this one waits for it.
            begun = self.folder / "resolving"
            begun.unlink(missing_ok=True)
            waits = f"    {installs}) until [ -e {begun} ]; do sleep 0.01; done ;;\n"
            self._replace(f'{waits}    {pattern}) touch {begun}; exec {words} "$@" ;;\n')
        else:
            self._replace(f'    {pattern}) exec {words} "$@" ;;\n')
        try:
            yield
        finally:
            self._replace("")

    def points(self, call: str, log: Path) -> Sequence[Point]:
        for _ in range(2):  # the first may still compile modules
            with self.traced(call, "--seccomp-bpf", "-o", str(log), "-s", "0", "-e", f"trace={','.join(CHANGING)}"):
                assert self.install(self.job()) is None
            self.forget()
        return points(log)

    def disturbed(self, call: str, point: Point, fault: str, log: Path) -> tuple[PumasError | None, bool]:
        """Why the installation failed, if it did, and whether the tool met the fault at all."""
        with self.traced(call, *point.inject(fault)[2:], "-o", str(log)):
            error = self.install(self.job())
        said = log.read_text(errors="replace")
        return error, "INJECTED" in said or "killed by SIGKILL" in said

    def job(self) -> Job:
        """Accepted, and its archive downloaded."""
        path = self.folder / "install-1.json"  # always one name: scripts are recorded as they were before their move
        path.unlink(missing_ok=True)
        job = Job(path)
        work = self.one.places.work(job.job_id)
        data = zipped(web_app("1", REQUIREMENTS, imports="import tiny_server"))
        (work / "archive").write_bytes(data)
        (work / "archive.sha256").write_text(hashlib.sha256(data).hexdigest())
        return job

    def install(self, job: Job, tag: str = NEW) -> PumasError | None:
        tools = Tools(self.layout, cast(Any, None), Bandwidth(), _idle, smoke=False)
        progress = Progress(tag, self.layout.data / "cache" / "progress.json")
        log = InstallLog(self.layout.logs / "install.log")
        plan = Plan(APP.id, tag, Archive("http://127.0.0.1:9/a.zip", "a.zip"), "2030-03-01T00:00:00Z")
        try:
            Install(tools, job, APP, self.one.state, plan, progress, log).run()
        except PumasError as error:
            return error
        finally:
            log.close()
        return None

    def read(self, tag: str) -> dict[str, bytes]:
        """All but what says when and by which job, and what can be compiled again. An interpreter may be a copy."""
        left_out = (".pumas-version.json", "uv_cache.json", ".pyc", "venv/.lock")
        place = self.one.state.place(tag)
        found = everything(place)
        found |= {name: (place / name).read_bytes() for name in found if name.startswith("venv/bin/python")}
        return {
            name: b"\n".join(line for line in data.splitlines() if b".pyc," not in line)
            if name.endswith("RECORD")
            else data
            for name, data in found.items()
            if not name.endswith(left_out)
        }

    def forget(self) -> None:
        """`NEW` is not there any more, nor in the trash."""
        self.one.places.forget(undoing.remove(self.one, NEW, _idle))

    def running(self) -> list[list[str]]:
        """Programs that work on the root."""
        found: list[list[str]] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if any(str(self.root) in word for word in words) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(words)
        return found

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self, error: PumasError | None) -> None:
        assert self.read(OLD) == self.old
        eventually(lambda: not self.running(), what="the end of the tool")
        if error is not None:
            assert isinstance(error, InstallFailed | NotEnoughSpace), repr(error)
            assert str(error)
            assert not self.one.state.place(NEW).exists()
            assert (self.one.places.leftovers(), self.one.state.folders()) == (set(), [OLD])
            assert self.install(self.job()) is None
        assert self.read(NEW) == self.new
        self.forget()


@pytest.fixture
def world(
    request: pytest.FixtureRequest, server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> World:
    assert server.url in os.environ["UV_DEFAULT_INDEX"]
    return World(tmp_path, request.param, monkeypatch)


@pytest.mark.parametrize("world", SHORT, indirect=True)
def test_a_tool_that_is_killed_or_refused(world: World, tmp_path: Path) -> None:
    calls, faults = SHORT[world.tool] if RUNS < 3 else (tuple(CALLS[world.tool]), FAULTS)
    met = total = 0
    for call in calls:
        found = world.points(call, tmp_path / f"{call}.log")
        for number in range(RUNS * len(faults)):
            # Spread over all of them, each kind of fault at other ones.
            point = found[(number * 2 + 1) * len(found) // (2 * RUNS * len(faults))]
            fault = faults[number % len(faults)]
            try:
                error, was_met = world.disturbed(call, point, fault, tmp_path / "fault.log")
                # What is installed is only listed by it when uv has done its work.
                is_vital = fault.startswith("signal") and (world.tool, call) != ("uv", "resolve")
                assert error is not None or not was_met or not is_vital, "killed, and all is well"
                world.check(error)
            except BaseException as bad:
                bad.add_note(f"{call} at {point} of {len(found)}, {fault}")
                raise
            met, total = met + was_met, total + 1
    print(f"{world.tool}: {met} of {total} faults were met", file=sys.stderr)
    assert met > total // 2


@pytest.mark.parametrize("world", ["uv"], indirect=True)
def test_a_tool_that_outlives_the_sidecar_is_ended_by_the_next_one(world: World, tmp_path: Path) -> None:
    log = tmp_path / "halted.log"

    def halted() -> bool:
        return log.exists() and "stopped by SIGSTOP" in log.read_text(errors="replace")

    for call in CALLS[world.tool]:
        # A call that it surely makes, and late: threads share the others as it happens.
        point = [point for point in world.points(call, tmp_path / f"{call}.log") if point.when == 1][-1]
        job = world.job()
        with world.traced(call, *point.inject("signal=STOP")[2:], "-o", str(log)):
            pid = os.fork()
            if pid == 0:
                try:
                    world.install(job)
                except BaseException:
                    traceback.print_exc()
                os._exit(0)
            try:
                eventually(halted, 60, "the halt")
            finally:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        log.unlink()
        assert world.running(), "the tool is there still"
        recover(world.one, {job.job_id})
        for folder in world.one.places.tidy():
            remove_tree(folder)
        assert world.read(OLD) == world.old
        assert world.install(job) is None, "it goes on"
        world.check(None)
