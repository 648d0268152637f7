"""Callers that change a library all the time, what each answer promised, and the look whether it was kept.

A `Thing` is one model file with bytes like no other. Each call about it moves it from one `State` to another: from the
moment of the call either may be found, from the moment of the answer only the new one. Callers share nothing but the
sidecar.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from library.model_disk import gguf, sha256, tree
from sidecar import Sidecar, eventually

SMALL, LARGE = 40_000, 12_000_000
FINAL = ("completed", "failed", "cancelled")

Json = dict[str, Any]


@dataclass(frozen=True)
class State:
    """Where a model is, and what its owner wrote about it."""

    place: Literal["outside", "library", "trash"] = "outside"
    limit: str = ""
    manual: bool = False


@dataclass
class Thing:
    source: Path
    digest: str
    mode: str
    model_id: str = ""
    trash_id: str = ""
    allowed: set[State] = field(default_factory=lambda: {State()})


@dataclass
class Promises:
    """What may be found, and the jobs that were answered with an end."""

    things: list[Thing]
    jobs: list[str]


class Load:
    """Callers of one sidecar, each a thread. Files to move or to link lie in `moved`, on the library's volume."""

    def __init__(self, sidecar: Sidecar, sources: Path, moved: Path, seed: int, callers: int = 3) -> None:
        self.sidecar, self._sources, self._moved = sidecar, sources, moved
        self._numbers = itertools.count(seed * 1_000_000)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._things: list[Thing] = []
        self._jobs: list[str] = []
        self.refused: list[Json] = []
        self._callers = [
            threading.Thread(target=self._live, args=(random.Random(seed * 100 + n), n == 0), daemon=True)
            for n in range(callers)
        ]
        for caller in self._callers:
            caller.start()

    def promises(self) -> Promises:
        with self._lock:
            return Promises([replace(thing, allowed=set(thing.allowed)) for thing in self._things], list(self._jobs))

    def look(self) -> None:
        """What was under way when a sidecar ended is what is found now."""
        found = models_on_disk(self.sidecar.root / "shared-resources" / "models")
        for thing in self._things:
            there = found.get(thing.digest)
            thing.allowed = {_state_of(thing, there)}
            if there is not None:
                thing.model_id, thing.trash_id = there.model_id, there.trash_id

    def inside(self) -> list[Thing]:
        return [thing for thing in self._things if self._now(thing).place == "library"]

    def stop(self) -> None:
        self._stop.set()
        for caller in self._callers:
            caller.join(30)

    @property
    def calls(self) -> int:
        return len(self._jobs)

    # -- a caller ----------------------------------------------------------------------------------------------------

    def _live(self, rng: random.Random, large: bool) -> None:
        own: list[Thing] = []
        # The sidecar is gone: whatever was under way stays open.
        with contextlib.suppress(OSError, http.client.HTTPException):
            while not self._stop.is_set():
                inside = [thing for thing in own if self._now(thing).place == "library"]
                trashed = [thing for thing in own if self._now(thing).place == "trash"]
                if large or len(inside) < 2 or rng.random() < 0.3:
                    own.append(
                        self.bring_in(rng.choice(("copy", "copy", "move", "hardlink")), LARGE if large else SMALL)
                    )
                    if large and len(own) > 3:
                        self.delete(own.pop(0), for_ever=True)
                elif trashed and rng.random() < 0.5:
                    self.restore(rng.choice(trashed))
                else:
                    rng.choice((self.limit, self.mark, self.delete))(rng.choice(inside))

    def _now(self, thing: Thing) -> State:
        """The state of one's own thing between calls, when there is only one."""
        (state,) = thing.allowed
        return state

    def bring_in(self, mode: str, size: int = SMALL) -> Thing:
        number = next(self._numbers)
        data = gguf(number, size + number % 1000)
        source = (self._sources if mode == "copy" else self._moved) / f"thing-{number}.gguf"
        write_synced(source, data)
        thing = Thing(source, sha256(data), mode)
        with self._lock:
            self._things.append(thing)

        def call() -> Json:
            params = {"local_path": str(source), "family": "", "official_name": f"thing {number}", "mode": mode}
            answer = self.call("import_model", params)
            while answer.get("pending"):
                answer = {**answer, **self._end_of(answer["job_id"])}
            return answer

        def keep(answer: Json) -> None:
            thing.model_id = answer["model_id"]
            self._jobs.append(answer["job_id"])

        self._change(thing, State("library"), call, keep)
        return thing

    def _end_of(self, job_id: str) -> Json:
        job = eventually(
            lambda: (job := self.call("get_job", {"job_id": job_id})["job"])["state"] in FINAL and job, 60, "its end"
        )
        return {"pending": False, **job["result"]["results"][0]}

    def limit(self, thing: Thing) -> None:
        number = str(next(self._numbers))
        params = {"rel_path": thing.model_id, "overrides": {"version_ranges": {"app": f">={number}"}}}
        self._change(
            thing, replace(self._now(thing), limit=number), lambda: self.call("update_model_overrides", params)
        )

    def mark(self, thing: Thing) -> None:
        params = {"model_id": thing.model_id}
        self._change(
            thing, replace(self._now(thing), manual=True), lambda: self.call("mark_metadata_as_manual", params)
        )

    def delete(self, thing: Thing, *, for_ever: bool = False) -> None:
        def keep(answer: Json) -> None:
            thing.trash_id = answer["trash_id"]

        params = {"model_id": thing.model_id}
        after = replace(self._now(thing), place="trash")
        self._change(thing, after, lambda: self.call("delete_model_with_cascade", params), keep)
        if for_ever and thing.trash_id:
            with self._lock:
                self._things.remove(thing)
            self.call("empty_trash", {"trash_ids": [thing.trash_id]})

    def restore(self, thing: Thing) -> None:
        params = {"trash_id": thing.trash_id}
        after = replace(self._now(thing), place="library")
        self._change(thing, after, lambda: self.call("restore_model", params))

    def _change(
        self, thing: Thing, after: State, call: Callable[[], Json], keep: Callable[[Json], None] = lambda _answer: None
    ) -> None:
        before = self._now(thing)
        with self._lock:
            thing.allowed = {before, after}
        answer = call()
        with self._lock:
            if answer.get("success") is False or "rpc_error" in answer:
                self.refused.append(answer)
                thing.allowed = {before}
            else:
                thing.allowed = {after}
                keep(answer)

    def call(self, method: str, params: Json) -> Json:
        reply = self.sidecar.rpc(method, params, timeout_s=60)
        return reply["result"] if "result" in reply else {"rpc_error": reply["error"]}


def write_synced(path: Path, data: bytes) -> None:
    """A file of the user that was there long before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fd = os.open(path.parent, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


# -- the look --------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """A model on disk: its id and whether it is in the trash, with its files by digest."""

    model_id: str
    trash_id: str
    folder: Path


def models_on_disk(library: Path) -> dict[str, Found]:
    """By the digest of each model file. Fails for anything visible that is no whole model."""
    found: dict[str, Found] = {}
    for folder, folders, names in os.walk(library):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if names and Path(folder) != library:
            folders.clear()
            _take(found, Path(folder), "", Path(folder).relative_to(library).as_posix())
    for place in sorted((library / ".trash").glob("*/model")):
        entry = json.loads((place.parent / "entry.json").read_bytes())
        _take(found, place, place.parent.name, entry["model_id"])
    return found


def _take(found: dict[str, Found], folder: Path, trash_id: str, model_id: str) -> None:
    files = tree(folder)
    assert "metadata.json" in files, f"{model_id} is visible without metadata: {sorted(files)}"
    metadata = json.loads((folder / "metadata.json").read_bytes())
    json.loads((folder / "overrides.json").read_bytes())
    for entry in metadata["files"]:
        digest = files.get(entry["name"], "")
        assert digest and entry["sha256"] in (None, "", digest), f"{model_id} is visible, {entry['name']} is not whole"
        assert digest not in found, f"{model_id} is there twice"
        found[digest] = Found(model_id, trash_id, folder)


def check_promises(sidecar: Sidecar, promises: Promises) -> None:
    """A sidecar that was started on what was left: everything answered is there, all else is whole or absent."""
    library = sidecar.root / "shared-resources" / "models"
    found = models_on_disk(library)
    for thing in promises.things:
        state = _state_of(thing, found.get(thing.digest))
        assert state in thing.allowed, f"{thing.source.name} ({thing.mode}) is {state}, may be {thing.allowed}"
        if state.place == "outside" or thing.mode != "move":
            assert sha256(thing.source.read_bytes()) == thing.digest, f"{thing.source} was lost"
    for job_id in promises.jobs:
        assert sidecar.result("get_job", {"job_id": job_id})["job"]["state"] == "completed", job_id
    check_index(sidecar)


def _state_of(thing: Thing, found: Found | None) -> State:
    if found is None:
        return State()
    overrides = json.loads((found.folder / "overrides.json").read_bytes())
    metadata = json.loads((found.folder / "metadata.json").read_bytes())
    limit = overrides.get("version_ranges", {}).get("app", "").removeprefix(">=")
    return State("trash" if found.trash_id else "library", limit, metadata.get("match_source") == "manual")


def check_index(sidecar: Sidecar) -> None:
    """What is listed, found and counted is what lies on the disk; nothing was damaged."""
    library = sidecar.root / "shared-resources" / "models"
    found = models_on_disk(library).values()
    inside = sorted(model.model_id for model in found if not model.trash_id)
    # At once after a start; as soon as it is looked at again when the index could not be written for a while.
    eventually(lambda: sorted(sidecar.result("get_models")["models"]) == inside, 5, f"an index of just {inside}")
    page = sidecar.result("search_models_fts", {"query": "thing", "limit": 100})
    assert page["total_count"] == len(inside)
    listed = sidecar.result("list_trash")["entries"]
    assert {entry["trash_id"] for entry in listed} == {model.trash_id for model in found if model.trash_id}
    eventually(lambda: not sidecar.result("get_library_status")["troubles"], 5, "a list without troubles")


def check_nothing_left_over(sidecar: Sidecar, promises: Promises, *, resume: bool) -> None:
    """Interrupted imports are gone on with, or given up; then no staging and no temporary file is left."""
    jobs = sidecar.result("list_jobs", {"limit": 1000})["jobs"]
    for job in jobs:
        assert job["state"] in (*FINAL, "paused"), job
        if job["state"] == "paused":
            sidecar.result("resume_job" if resume else "cancel_job", {"job_id": job["job_id"]})
    for job in jobs:
        end = eventually(
            lambda i=job["job_id"]: (j := sidecar.result("get_job", {"job_id": i})["job"])["state"] in FINAL and j, 60
        )
        if job["state"] == "paused" and resume and job["kind"] == "import":
            assert end["state"] == "completed" and end["result"]["failed"] == 0, end
    for thing in promises.things:
        if State() in thing.allowed:
            thing.allowed.add(State("library"))
    check_promises(sidecar, promises)
    library = sidecar.root / "shared-resources" / "models"
    assert tree(library / ".staging") == {}, "staging is left for ever"
    left = [path for path in sidecar.root.rglob("*.pumas-tmp*") if path.exists()]
    assert not left, left


@contextlib.contextmanager
def load(sidecar: Sidecar, sources: Path, moved: Path, seed: int, callers: int = 3) -> Generator[Load]:
    one = Load(sidecar, sources, moved, seed, callers)
    try:
        yield one
    finally:
        one.stop()
