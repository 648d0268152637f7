"""`kill -9` of the whole sidecar at any moment of applying, with foreign files and links in the way.

After a start what was accepted goes on by itself to its end, the registry and the disk agree, nothing of the user's is
gone, applying once more completes the rest, and then there is nothing left to do. Each kill has a version of its own.
`PUMAS_FAULT_RUNS` sets how many there are (2 unless told), spread over the time that applying takes; every system call
of it: `test_kill.py`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from library.model_disk import make_model, safetensors, write
from sidecar import Sidecar, eventually, kills

from .setup import version

RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "2"))
MODELS = 400
# Where models want to be and something of the user's is: (what is done about it, whether it is a link).
IN_THE_WAY = {"m3": ("overwrite", False), "m4": ("rename", True), "m5": ("skip", False), "m6": ("overwrite", True)}
RESOLUTIONS = {f"diffusion/sdxl/{name}": word for name, (word, _link) in IN_THE_WAY.items()}
Json = dict[str, Any]


class World:
    def __init__(self, root: Path, versions: int) -> None:
        self.root = root
        self.tags = [f"v1.{number}" for number in range(versions)]
        for number in range(MODELS):
            files = {f"m{number}.safetensors": safetensors(number, 200)}
            make_model(root / "shared-resources/models", f"diffusion/sdxl/m{number}", files, subtype="loras")
        for tag in self.tags:
            version(root, tag)
            write(self.place(tag) / "deep/mine.safetensors", b"mine")
            for name, (_word, link) in IN_THE_WAY.items():
                path = self.place(tag) / f"{name}.safetensors"
                path.symlink_to(f"/elsewhere/{name}") if link else write(path, f"mine {name}".encode())
        self.sidecar: Sidecar = running.start(root)

    def place(self, tag: str) -> Path:
        return self.root / "comfyui-versions" / tag / "models/loras"

    def call(self, method: str, tag: str, **params: object) -> Json:
        return self.sidecar.result(method, {"version_tag": tag, **params})

    def apply(self, tag: str) -> Json:
        return self.call("sync_with_resolutions", tag, resolutions=RESOLUTIONS)

    def start_again(self) -> None:
        self.sidecar.close()
        self.sidecar = running.start(self.root)

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self, tag: str) -> None:
        """On disk is what is registered and what is the user's, and the user's is there exactly once."""
        models = self.place(tag).parent
        listed = self.sidecar.result("list_links", {"app_id": "comfyui", "version_tag": tag, "limit": 10_000})
        rows = {one["target_path"]: one for one in listed["links"]}
        backups = self.call("get_link_health", tag)["backups"]
        assert (self.place(tag) / "deep/mine.safetensors").read_bytes() == b"mine"
        theirs: set[str] = set()
        for name in IN_THE_WAY:
            path = str(self.place(tag) / f"{name}.safetensors")
            places = [path, *(one["backup_path"] for one in backups if one["target_path"] == path)]
            (kept,) = (place for place in places if self._is_theirs(name, place))
            theirs.add(kept)
        found = {os.path.join(folder, name) for folder, _, names in os.walk(models) for name in names}
        links = {path for path in found if os.path.islink(path)} - theirs
        assert links == rows.keys(), "what is linked is registered, and nothing else"
        assert all(os.path.realpath(path) == rows[path]["source_path"] for path in links)
        assert found - links - theirs == {str(self.place(tag) / "deep/mine.safetensors")}

    @staticmethod
    def _is_theirs(name: str, path: str) -> bool:
        link = IN_THE_WAY[name][1]
        if os.path.islink(path) is not link or not os.path.lexists(path):
            return False
        return os.readlink(path) == f"/elsewhere/{name}" if link else Path(path).read_bytes() == f"mine {name}".encode()

    def goes_on(self, tag: str) -> bool:
        """Whether applying to this version had been accepted before the kill; it is done then."""

        def jobs() -> list[Json] | None:
            listed = self.sidecar.result("list_jobs", {"kind": "apply_links"})["jobs"]
            return listed if all(job["state"] in ("completed", "failed", "cancelled") for job in listed) else None

        ended = eventually(jobs, 60, "the end of what was interrupted") or []
        assert {job["state"] for job in ended} <= {"completed"}, ended
        return any(job["title"].endswith(f" {tag}") for job in ended)

    def check_complete(self, tag: str, *, went_on: bool) -> None:
        done = self.apply(tag)
        assert done["success"], done
        assert done["links_created"] == 0 or not went_on, done
        self.check(tag)
        again = self.apply(tag)
        assert (again["links_created"], again["overwrites"], again["links_renamed"]) == (0, 0, 0)
        health = self.call("get_link_health", tag)
        assert not health["broken_links"]
        listed = self.sidecar.result("list_links", {"app_id": "comfyui", "version_tag": tag, "limit": 1})
        assert listed["total_count"] == MODELS - 1, "all but the one that was to be skipped"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path / "root", 4 * RUNS + 1)
    yield one
    one.sidecar.close()


def test_killed_at_any_moment_of_applying(world: World) -> None:
    tags, partly = iter(world.tags), 0

    def apply(tag: str) -> None:
        assert world.apply(tag)["success"]

    for tag, when in kills(RUNS, lambda: world.sidecar, lambda: next(tags), apply):
        world.start_again()
        partly += 1 < len(list(world.place(tag).glob("*.safetensors"))) < MODELS
        try:
            went_on = world.goes_on(tag)
            world.check(tag)
            world.check_complete(tag, went_on=went_on)
        except BaseException as error:
            error.add_note(f"{tag} {when}")
            raise
    print(f"{partly} with some of the links made")
