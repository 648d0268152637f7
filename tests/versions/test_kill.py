"""Killed, or refused by the disk, at any system call of a change: what was there is whole, in place or in the trash.

One change runs in a forked child, with strace making the faults (`faults/strace.py`). A change that failed has changed
nothing; after a kill a start finishes or undoes it, an installation goes on, and the change works when it is asked for
again. `PUMAS_FAULT_RUNS` sets how many faults of a kind each change gets (4 unless told). The whole sidecar is killed
in `tests/faults/test_version_faults.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from apps.test_description import shipped
from faults.strace import Point, forked, points
from fixtures.releases.archives import Member, bundle, tarred, zstandarded
from pumas.config import Layout
from pumas.downloads.bandwidth import Bandwidth
from pumas.errors import PumasError
from pumas.storage.files import disk_errors, write_durably
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles
from pumas.versions import undoing
from pumas.versions.fetching import Archive
from pumas.versions.installing import Install, Plan, Tools
from pumas.versions.places import Places, remove_tree
from pumas.versions.progress import Progress
from pumas.versions.recovering import recover
from pumas.versions.running import InstallLog
from pumas.versions.state import MARKER, VersionState
from pumas.versions.values import OneApp

from .setup import everything

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "4"))
FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")
APP = shipped("ollama")
JOB = "install-0123"
_FAILED = 2
OWN = {"mine/thesis.txt": b"x", ".hidden/y": b"y", "v7/notes.txt": b"z"}
"""Nobody's but the user's: one of them has a name that a version could have."""


def _idle(_app_id: str, _tag: str) -> bool:
    return False


class Job:
    """Its checkpoint is a file: what the jobs database is to the sidecar."""

    def __init__(self, root: Path, job_id: str) -> None:
        self.job_id = job_id
        self._path = root / f"{job_id}.json"
        self.checkpoint: dict[str, Any] = json.loads(self._path.read_bytes()) if self._path.exists() else {}

    def check(self) -> None: ...

    def save_checkpoint_sync(self, state: dict[str, Any]) -> None:
        with disk_errors("Saving the job"):
            write_durably(self._path, json.dumps(state).encode())


class Setup:
    """The versions of one app, as a sidecar that has just started sees them."""

    def __init__(self, root: Path) -> None:
        self.root, self.layout = root, Layout(root)
        state = VersionState(self.layout, APP, StateLock(self.layout.state_lock), Troubles())
        self.one = OneApp(APP, state, Places(state.folder), cast(Any, None))

    @property
    def state(self) -> VersionState:
        return self.one.state

    def fetch(self, job_id: str) -> Archive:
        """The archive is there, as if it had been downloaded."""
        data = zstandarded(tarred([*bundle("1"), Member("build.txt", job_id.encode())]))
        digest = hashlib.sha256(data).hexdigest()
        work = self.one.places.work(job_id)
        (work / "archive").write_bytes(data)
        (work / "archive.sha256").write_text(digest)
        return Archive("http://127.0.0.1:9/a.tar.zst", "a.tar.zst", len(data), digest)

    def install(self, tag: str, job_id: str = JOB, **options: bool) -> None:
        archive = Archive.from_json(json.loads((self.root / f"{job_id}.plan").read_bytes()))
        tools = Tools(self.layout, cast(Any, None), Bandwidth(), _idle, smoke=False)
        progress = Progress(tag, self.layout.data / "cache" / "progress.json")
        log = InstallLog(self.layout.logs / "install.log")
        plan = Plan(APP.id, tag, archive, "", options.get("replace", False), options.get("activate", False))
        Install(tools, Job(self.root, job_id), APP, self.state, plan, progress, log).run()
        undoing.prune_replaced(self.one)

    def accept(self, job_id: str = JOB) -> None:
        """What comes before the disturbed part of an installation."""
        (self.root / f"{job_id}.plan").write_text(json.dumps(self.fetch(job_id).to_json()))

    def roll_back(self) -> str:
        return undoing.roll_back(self.one, _idle)

    def remove(self, tag: str) -> None:
        undoing.remove(self.one, tag, _idle)

    def restore(self) -> None:
        undoing.restore(self.one, self.one.places.trash()[0].id)

    def arrangement(self) -> dict[str, str]:
        """Build -> the version that it is, or `trash`."""
        folder = self.state.folder
        found = {path.read_text(): path.parent.name for path in folder.glob("*/build.txt")}
        return found | {path.read_text(): "trash" for path in folder.glob(".pumas-trash/*/version/build.txt")}

    def builds(self) -> list[str]:
        """All that can be reached, also one that is there twice."""
        places = ("*/build.txt", ".pumas-trash/*/version/build.txt")
        return sorted(path.read_text() for place in places for path in self.state.folder.glob(place))


@dataclass(frozen=True)
class Change:
    """`prepare` runs undisturbed, `run` is disturbed."""

    run: Callable[[Setup], object]
    prepare: Callable[[Setup], object] = lambda _setup: None
    installs: bool = False


def rebuild(setup: Setup) -> None:
    setup.accept()
    setup.install("v1", replace=True)


CHANGES = {
    "install": Change(lambda s: s.install("v3"), lambda s: s.accept(), installs=True),
    "update": Change(lambda s: s.install("v3", activate=True), lambda s: s.accept(), installs=True),
    "rebuild": Change(lambda s: s.install("v1", replace=True), lambda s: s.accept(), installs=True),
    "switch": Change(lambda s: undoing.switch(s.one, "v2")),
    "default": Change(lambda s: s.state.set_default("v2")),
    "remove": Change(lambda s: s.remove("v2")),
    "restore": Change(lambda s: s.restore(), lambda s: s.remove("v2")),
    "purge": Change(lambda s: s.one.places.forget(s.one.places.trash()[0]), lambda s: s.remove("v2")),
    "take a switch back": Change(lambda s: s.roll_back(), lambda s: undoing.switch(s.one, "v2")),
    "take a build back": Change(lambda s: s.roll_back(), rebuild),
}


def build(root: Path) -> None:
    setup = Setup(root)
    for tag in ("v1", "v2"):
        setup.accept(f"first-{tag}")
        setup.install(tag, f"first-{tag}")
    undoing.switch(setup.one, "v1")
    for name, data in OWN.items():
        path = setup.state.folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)


class World:
    """The same start for every run, in the same place."""

    def __init__(self, folder: Path, name: str) -> None:
        self.change = CHANGES[name]
        self.root, self.template = folder / "root", folder / "template"
        build(self.root)
        self.change.prepare(Setup(self.root))
        self.before = Setup(self.root).arrangement()
        shutil.copytree(self.root, self.template, symlinks=True)
        self.change.run(Setup(self.root))
        self.after = Setup(self.root).arrangement()

    def renew(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.template, self.root, symlinks=True)

    def run(self, *strace: str) -> tuple[int, bool]:
        """Wait status of the child, and whether the change failed."""
        status = forked(self._attempt, strace)
        return status, os.WIFEXITED(status) and os.WEXITSTATUS(status) == _FAILED

    def _attempt(self) -> int:
        try:
            self.change.run(Setup(self.root))
        except PumasError:
            return _FAILED
        return 0

    def points(self, log: Path) -> list[Point]:
        for _ in range(2):  # the first may still load and compile modules
            self.renew()
            assert self.run("-o", str(log), "-s", "0")[0] == 0
        return points(log)


def check_whole(setup: Setup) -> None:
    """What can be seen is a whole build, and what is not ours is as it was."""
    folder = setup.state.folder
    for path in (*folder.glob("v[123]"), *folder.glob(".pumas-trash/*/version")):
        files = {name: data for name, data in everything(path).items() if name != MARKER}
        wanted = {member.name: member.data for member in bundle("1") if member.link is None}
        assert files.pop("build.txt").decode().startswith(("first-", JOB))
        assert files == {**wanted, "lib/ollama/libtiny.so": b"libtiny.so.1", "ollama": b"bin/ollama"}, path
    assert {name: (folder / name).read_bytes() for name in OWN} == OWN


def check_started(world: World, setup: Setup) -> None:
    """After a start: nothing is lost, there twice, half or hidden; list, history and disk agree."""
    check_whole(setup)
    folder, arrangement = setup.state.folder, setup.arrangement()
    assert arrangement in (world.before, world.after)
    assert setup.builds() == sorted(arrangement)
    left = {path.name for path in folder.iterdir()}
    assert left <= {"mine", ".hidden", ".pumas-trash", "v7", "v1", "v2", "v3"}, left
    entries = set(os.listdir(folder / ".pumas-trash")) if (folder / ".pumas-trash").exists() else set[str]()
    assert entries == {one.id for one in setup.one.places.trash()}
    found = setup.state.validate(set())
    assert (found.missing, found.incomplete, found.unknown) == ([], [], ["mine", "v7"])
    assert setup.state.active() in found.valid
    for tag in found.valid:
        assert setup.state.info(tag) == setup.state.marker(setup.state.place(tag)), "of another build"
    if setup.state.default() is None:  # which goes first at a start
        # Each switch can be taken back, and once: the last one was between v1 and v2, or to v3.
        switched = [past["tag"] for past in setup.state.history() if past["kind"] == "switched"]
        assert (switched[-1:] == ["v1"]) == (setup.state.active() in ("v2", "v3")), switched
    can_be_taken_back = "trash" in arrangement.values() and arrangement.get(JOB) == "v1"
    assert can_be_taken_back == any(past["kind"] == "replaced" for past in setup.state.history())


def started(setup: Setup, kept: set[str]) -> None:
    """What a start does."""
    recover(setup.one, kept)
    for folder in setup.one.places.tidy():
        remove_tree(folder)


def check(world: World, name: str, status: int, failed: bool, *, job_is_known: bool) -> None:
    setup = Setup(world.root)
    check_whole(setup)
    if failed:
        assert setup.arrangement() == world.before, "a change that failed changed something"
    interrupted = world.change.installs and status == signal.SIGKILL
    started(setup, {JOB} if interrupted and job_is_known else set())
    if interrupted and job_is_known:
        setup.fetch(JOB)
        world.change.run(Setup(world.root))
        setup = Setup(world.root)
        assert setup.arrangement() == world.after
        assert (setup.state.active() == "v3") == (name == "update")
    check_started(world, setup)
    if setup.arrangement() == world.before != world.after:
        if world.change.installs:
            setup.accept()
            (world.root / f"{JOB}.json").unlink(missing_ok=True)
        world.change.run(setup)
        again = Setup(world.root)
        assert again.arrangement() == world.after
        started(again, set())
        check_started(world, again)


@pytest.fixture
def folder() -> Generator[Path]:
    # tmpfs: hundreds of runs with dozens of fsyncs each. What is tested is the order of calls.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


@pytest.mark.parametrize("name", CHANGES)
def test_at_any_system_call(folder: Path, tmp_path: Path, name: str) -> None:
    assert shutil.which("strace"), "strace is needed to make system calls fail; ./launcher setup installs it"
    world = World(folder, name)
    points = world.points(tmp_path / "log")
    assert len(points) >= 5
    chosen = points if len(points) <= RUNS else [points[(i + 1) * len(points) // RUNS - 1] for i in range(RUNS)]
    for fault in FAULTS:
        killed = 0
        for number, point in enumerate(chosen):
            world.renew()
            status, failed = world.run(*point.inject(fault))
            killed += status == signal.SIGKILL
            try:
                assert status == signal.SIGKILL or os.waitstatus_to_exitcode(status) in (0, 2), "a bug"
                check(world, name, status, failed, job_is_known=bool(number % 4))
            except BaseException as error:
                error.add_note(f"{name} at {point} of {len(points)}, {fault}")
                raise
        assert killed > len(chosen) // 2 or not fault.startswith("signal")
    print(f"{name}: {len(chosen)} of {len(points)} system calls", file=sys.stderr)
