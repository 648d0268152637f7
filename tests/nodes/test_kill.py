"""`kill -9` of the whole sidecar at any moment of installing, updating, removing and restoring a custom node.

A start afterwards goes on or takes back: every node is whole at a commit that it had or was to have, what the record
says is what the disk holds, nothing of the user's is gone, no git is left over, and doing it again works.
`PUMAS_FAULT_RUNS` sets how many kills each operation gets (1 unless told), spread over the time that it takes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

import sidecar as running
from fixtures.git import GitServer, run_git
from pumas.nodes.git import HTTP_VARIABLE
from pumas.nodes.record import Record
from pumas.nodes.work import STAGING, TRASH
from sidecar import Sidecar, eventually, kills

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "1"))
TAG = "v0.3.10"
MINE = {"custom_nodes/mine/notes.txt": "mine", "custom_nodes/single.py": "mine", "output/image.txt": "mine"}
MANY = 150
Params = dict[str, Any]


def contents(number: int) -> dict[str, str | None]:
    """Of a commit: many files that all differ from those of the one before, one that goes and one that comes."""
    files: dict[str, str | None] = {f"part{n}/{n}.py": f"{number} {n}\n" * 50 for n in range(MANY)}
    return files | {f"only{number}.py": "x", f"only{number - 1}.py": None}


class World:
    """One root, one server of repositories; the sidecar is started again after every kill."""

    def __init__(self, root: Path, server: GitServer) -> None:
        self.root, self.server = root, server
        self.version = root / "comfyui-versions" / TAG
        self.number = 1
        server.commit("sunny", {"only0.py": "x"})
        self.commits = [server.commit("sunny", contents(1))]
        for name, text in MINE.items():
            path = self.version / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.version / "venv")], check=True)
        (self.version / "main.py").touch()
        listed = root / "launcher-data/metadata/versions.json"
        listed.parent.mkdir(parents=True)
        listed.write_text(json.dumps({"installed": {TAG: {"path": f"comfyui-versions/{TAG}"}}}))
        self.sidecar = self._start()

    def _start(self) -> Sidecar:
        return running.start(self.root, env={HTTP_VARIABLE: "loopback"})

    def call(self, method: str, **params: object) -> Params:
        return self.sidecar.result(method, {"version_tag": TAG, **params})

    def done(self, method: str, **params: object) -> Params:
        answer = self.call(method, **params)
        assert answer["success"], answer
        return answer

    def start_again(self) -> None:
        """And let what it goes on with come to its end."""
        self.sidecar.close()
        self.sidecar = self._start()
        states = {"states": ["queued", "running"]}
        eventually(lambda: not self.sidecar.result("list_jobs", states)["jobs"], 30, "the end of the jobs")

    def commit(self) -> None:
        self.number += 1
        self.commits.append(self.server.commit("sunny", contents(self.number)))

    # -- what is prepared, and what is disturbed ---------------------------------------------------------------------

    def absent(self) -> None:
        if self.call("get_custom_nodes")["nodes"] != ["mine"]:
            self.done("remove_custom_node", node_name="sunny")
        for one in self.call("list_removed_custom_nodes")["nodes"]:
            self.done("purge_removed_custom_node", trash_id=one["trash_id"])

    def present(self) -> None:
        if "sunny" not in self.call("get_custom_nodes")["nodes"]:
            self.install()

    def outdated(self) -> None:
        self.present()
        self.update()
        self.commit()

    def removed(self) -> None:
        self.absent()
        self.install()
        self.remove()

    def install(self) -> Params:
        return self.call("install_custom_node", git_url=f"{self.server.url}/sunny.git")

    def update(self) -> Params:
        return self.call("update_custom_node", node_name="sunny")

    def remove(self) -> Params:
        return self.call("remove_custom_node", node_name="sunny")

    def restore(self) -> Params:
        (one,) = self.call("list_removed_custom_nodes")["nodes"]
        return self.call("restore_custom_node", trash_id=one["trash_id"])

    def purge(self) -> Params:
        (one,) = self.call("list_removed_custom_nodes")["nodes"]
        return self.call("purge_removed_custom_node", trash_id=one["trash_id"])

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        assert {name: (self.version / name).read_text() for name in MINE} == MINE
        assert not (self.version / STAGING).exists()
        known = Record(self.version).read()
        trash = set(os.listdir(self.version / TRASH)) if (self.version / TRASH).exists() else set[str]()
        assert {"mine", *known.nodes} == set(self.call("get_custom_nodes")["nodes"])
        assert known.trash.keys() == trash
        assert not any("updating" in entry for entry in known.nodes.values())
        nodes = {self.version / "custom_nodes" / name: entry for name, entry in known.nodes.items()}
        nodes |= {self.version / TRASH / trash_id: entry["node"] for trash_id, entry in known.trash.items()}
        for folder, entry in nodes.items():
            assert run_git(folder, "status", "--porcelain") == ""
            assert run_git(folder, "rev-parse", "HEAD") == entry["commit"]
            assert entry["commit"] in self.commits
            number = self.commits.index(entry["commit"]) + 1
            assert sum(1 for _ in folder.glob("part*/*.py")) == MANY
            assert (folder / "part7/7.py").read_text() == f"{number} 7\n" * 50
            assert [path.name for path in folder.glob("only*.py")] == [f"only{number}.py"]
        assert not [p for p in psutil.process_iter(["cmdline"]) if self._is_left_over(p.info["cmdline"] or [])]

    def _is_left_over(self, words: list[str]) -> bool:
        return bool(words) and os.path.basename(words[0]) == "git" and str(self.version) in " ".join(words)


@dataclass(frozen=True)
class Operation:
    prepare: Callable[[World], object]
    run: Callable[[World], Params]
    again: frozenset[str]
    """What doing it once more may be refused with: it was done already."""


OPERATIONS = {
    "install": Operation(World.absent, World.install, frozenset({"already_exists"})),
    "update": Operation(World.outdated, World.update, frozenset()),
    "remove": Operation(World.present, World.remove, frozenset({"node_not_found"})),
    "restore": Operation(World.removed, World.restore, frozenset({"already_exists"})),
    "purge": Operation(World.removed, World.purge, frozenset({"trash_entry_not_found"})),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("nodes")
    with GitServer(folder / "server") as server:
        one = World(folder / "root", server)
        yield one
        one.sidecar.close()


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_any_moment(world: World, name: str) -> None:
    operation = OPERATIONS[name]

    def run(_prepared: object) -> None:
        assert operation.run(world)["success"]

    for _, when in kills(RUNS, lambda: world.sidecar, lambda: operation.prepare(world), run):
        world.start_again()
        try:
            world.check()
            try:
                again = operation.run(world)
            except ValueError:  # there is nothing left to restore or to remove for good
                again = {"success": True}
            assert again["success"] or again["error_code"] in operation.again, again
            world.check()
        except BaseException as error:
            error.add_note(f"{name} {when}")
            raise
