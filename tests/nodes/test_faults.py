"""Killed, or refused by the disk, at any system call of ours or of git: a node is whole, and what is known of it right.

One thing is done by a process of its own (`driver.py`), with strace making the faults in it and in the gits that it
starts. After each, the folder is opened as a start does. `PUMAS_FAULT_RUNS` sets how many faults each gets (1 unless
told), spread over all calls that change something in the version's folder.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.strace import CALL, CHANGING, Point, attach, changes
from fixtures.git import GitServer, run_git
from pumas.nodes.git import HTTP_VARIABLE
from pumas.nodes.record import Record
from pumas.nodes.work import STAGING, TRASH, Nodes

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "1"))
DRIVER = Path(__file__).with_name("driver.py")
FIRST: dict[str, str | None] = {"a.py": "1\n", "deep/b.py": "1\n", "gone.py": "1\n", "same.py": "x\n"}
SECOND: dict[str, str | None] = {"a.py": "2\n", "deep/b.py": "2\n", "gone.py": None, "new/c.py": "2\n"}
FILES = ({k: v for k, v in FIRST.items() if v}, {k: v for k, v in (FIRST | SECOND).items() if v})
# git names files of its folder so.
_RELATIVE = re.compile(r'"(?!/)')
MADE = "made by the app"
FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")


class World:
    """The same start for every run, in the same place."""

    def __init__(self, folder: Path, server: GitServer, what: str) -> None:
        self.what, self.root, self.template = what, folder / "v1", folder / "template"
        self.url, self.log = f"{server.url}/sunny.git", folder / "log"
        self.root.mkdir()
        self.commits = [server.commit("sunny", FIRST)]
        nodes = Nodes(self.root, "v1", "custom_nodes")
        if what != "install":
            nodes.install(self.url, "sunny", None, None, "job-0")
            (self.root / "custom_nodes/sunny" / MADE).write_text("mine")
        (self.root / "custom_nodes/other").mkdir(parents=True)
        (self.root / "custom_nodes/other" / MADE).write_text("mine")
        if what == "restore":
            nodes.remove("sunny")
        self.commits.append(server.commit("sunny", SECOND))
        os.rename(self.root, self.template)

    def renew(self) -> Nodes:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.template, self.root, symlinks=True)
        return Nodes(self.root, "v1", "custom_nodes")

    def run(self, *strace: str) -> int:
        """Exit status of the process; a failure that is told is 3."""
        words = [sys.executable, str(DRIVER), str(self.root), self.url, self.what]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == b"ready\n"
            tracer = attach(process.pid, strace)
            process.stdin.write(b"g")
            process.stdin.close()
            said = process.stderr.read() if process.stderr is not None else b""
            status = process.wait(60)
            tracer.communicate()
        assert status in (0, 3, -signal.SIGKILL), said.decode()
        return status

    def points(self) -> list[Point]:
        """Every call that changes something in the version's folder."""
        self.renew()
        assert self.run("-o", str(self.log), "-y", "-s", "300", "-e", f"trace={','.join(CHANGING)}") == 0
        seen: dict[tuple[str, str], int] = {}
        found: dict[Point, None] = {}
        for line in self.log.read_text(errors="replace").splitlines():
            match = CALL.match(line)
            if match:
                key = match[1], match[2]
                seen[key] = seen.get(key, 0) + 1
                if changes(match[2], match[3]) and (str(self.root) in match[3] or _RELATIVE.match(match[3])):
                    found[Point(match[2], seen[key])] = None
        return list(found)

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self, nodes: Nodes) -> None:
        assert (self.root / "custom_nodes/other" / MADE).read_text() == "mine"
        assert not (self.root / STAGING).exists()
        known = Record(self.root).read()
        assert {node.name for node in nodes.list()} == {"other", *known.nodes}
        assert {one.trash_id for one in nodes.removed()} == known.trash.keys()
        there = [(self.root / "custom_nodes" / name, entry) for name, entry in known.nodes.items()]
        there += [(self.root / TRASH / trash_id, entry["node"]) for trash_id, entry in known.trash.items()]
        assert len(there) == 1 or (self.what == "install" and not there)
        for folder, entry in there:
            assert "updating" not in entry
            assert run_git(folder, "rev-parse", "HEAD") == entry["commit"]
            assert run_git(folder, "status", "--porcelain", "--untracked-files=no") == ""
            mine = {} if self.what == "install" else {MADE: "mine"}
            assert self.files(folder) == FILES[self.commits.index(entry["commit"])] | mine

    @staticmethod
    def files(folder: Path) -> dict[str, str]:
        found = (path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
        return {str(path.relative_to(folder)): path.read_text() for path in found}

    def again(self, nodes: Nodes) -> None:
        if self.what == "install":
            nodes.install(self.url, "sunny", None, None, "job-1")
        elif self.what == "update":
            assert nodes.update("sunny", None)[1] == self.commits[1]
        elif self.what == "remove" and not nodes.removed():
            nodes.remove("sunny")
        elif self.what == "restore":
            for one in nodes.removed():
                nodes.restore(one.trash_id)
        self.check(nodes)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    monkeypatch.setenv(HTTP_VARIABLE, "loopback")
    with GitServer(tmp_path / "server") as server:
        yield server


def spread(points: list[Point], fault: int) -> list[Point]:
    """As many as are wanted, evenly over all, and other ones for each fault when there are few."""
    if len(points) <= RUNS:
        return points
    return [points[(number * len(FAULTS) + fault) * len(points) // (RUNS * len(FAULTS))] for number in range(RUNS)]


@pytest.mark.parametrize("what", ["install", "update", "remove", "restore"])
def test_at_any_system_call(server: GitServer, what: str) -> None:
    assert shutil.which("strace"), "strace is needed to make system calls fail; ./launcher setup installs it"
    # tmpfs: a hundred runs with dozens of fsyncs each. What is tested is the order of calls.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        world = World(Path(folder), server, what)
        points = world.points()
        assert len(points) >= 8
        for number, fault in enumerate(FAULTS):
            chosen, killed = spread(points, number), 0
            for point in chosen:
                nodes = world.renew()
                killed += world.run(*point.inject(fault)) == -signal.SIGKILL
                try:
                    nodes.tidy()
                    world.check(nodes)
                    world.again(nodes)
                except BaseException as error:
                    error.add_note(f"{what} at {point}, {fault}")
                    raise
            print(f"{what}, {fault}: {len(chosen)} of {len(points)} calls, {killed} killed")
