"""`kill -9` of the whole sidecar at any moment of the launcher's own update.

A start afterwards finishes it or takes it back: the checkout is at one of the two commits with not a file of the other,
what it needs is installed for that very commit, nothing of the user's is gone, and updating again works.
`PUMAS_FAULT_RUNS` sets how many kills there are (2 unless told), spread over the time that an update takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import sidecar as running
from fixtures.git import GitServer, run_git
from pumas.nodes.git import HTTP_VARIABLE
from pumas.updates.place import CHECKOUT_VARIABLE, journal
from sidecar import Sidecar, eventually, kills

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "2"))
MANY, PACKAGES = 120, 8
# Installs packages one after the other, and says at the end for which version it did, as the real one does.
LAUNCHER = f"""import pathlib, sys, time
if sys.argv[1:] == ["setup"]:
    place, version = pathlib.Path("installed"), pathlib.Path("VERSION").read_text()
    stamp = place / "stamp"
    if not stamp.exists() or stamp.read_text() != version:
        place.mkdir(exist_ok=True)
        stamp.unlink(missing_ok=True)
        for number in range({PACKAGES}):
            (place / f"package{{number}}").write_text(version)
            time.sleep(0.02)
        stamp.write_text(version)
"""


def contents(number: int) -> dict[str, str | None]:
    files: dict[str, str | None] = {f"backend/part{n}/{n}.py": f"x = {number}\n" * 40 for n in range(MANY)}
    return files | {"VERSION": str(number), f"only{number}.py": "", f"only{number - 1}.py": None if number else ""}


class World:
    def __init__(self, folder: Path, server: GitServer) -> None:
        self.root, self.checkout, self.server = folder / "root", folder / "checkout", server
        self.root.mkdir()
        base: dict[str, str | None] = {
            "launcher": LAUNCHER,
            "backend/rpc_server.py": "",
            ".gitignore": "installed\n",
            "only0.py": "",
        }
        server.commit("owner/pumas", base)
        self.commits = [server.commit("owner/pumas", contents(1))]
        server.clone("owner/pumas", self.checkout)
        (self.checkout / "my notes").write_text("mine")
        self.sidecar = self._start()

    def _start(self) -> Sidecar:
        return running.start(self.root, env={HTTP_VARIABLE: "loopback", CHECKOUT_VARIABLE: str(self.checkout)})

    def start_again(self) -> None:
        """And let what it goes on with come to its end."""
        self.sidecar.close()
        self.sidecar = self._start()
        states = {"states": ["queued", "running"]}
        eventually(lambda: not self.sidecar.result("list_jobs", states)["jobs"], 30, "the end of the jobs")

    def update(self) -> dict[str, Any]:
        return self.sidecar.result("apply_launcher_update")

    def commit(self) -> None:
        self.commits.append(self.server.commit("owner/pumas", contents(len(self.commits) + 1)))

    def check(self) -> None:
        """At a commit, and at nothing of another."""
        head = run_git(self.checkout, "rev-parse", "HEAD")
        assert head in self.commits[-2:]
        assert run_git(self.checkout, "status", "--porcelain") == '?? "my notes"'
        assert (self.checkout / "my notes").read_text() == "mine"
        version = (self.checkout / "VERSION").read_text()
        assert version == str(self.commits.index(head) + 1)
        place = self.checkout / "installed"
        found = {path.name: path.read_text() for path in place.iterdir()} if place.exists() else {}
        assert set(found.values()) <= {version}, found
        assert len(found) in (0, PACKAGES + 1), found
        assert not journal(self.checkout).exists()
        assert not list((self.root / "launcher-data/cache").glob("launcher-update*/*"))
        assert not [p for p in psutil.process_iter(["cmdline"]) if self._is_left_over(p.info["cmdline"] or [])]

    def _is_left_over(self, words: list[str]) -> bool:
        text = " ".join(words)
        return str(self.checkout) in text or words[-2:] == ["launcher", "setup"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with GitServer(tmp_path / "server") as server:
        one = World(tmp_path, server)
        yield one
        one.sidecar.close()


def test_killed_at_any_moment(world: World) -> None:
    def update(_committed: object) -> None:
        assert world.update()["newCommit"] == world.commits[-1]

    for _, when in kills(RUNS, lambda: world.sidecar, world.commit, update):
        world.start_again()
        try:
            world.check()
            again = world.update()
            assert again.get("newCommit") == world.commits[-1], again
            world.check()
        except BaseException as error:
            error.add_note(when)
            raise
