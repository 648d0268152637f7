"""Installs, removals, switches, rollbacks, restores and restarts in any order and at the same time.

After each step what is listed is whole, what is active is installed, and what is not ours is untouched. Meanwhile a
witness looks at the versions without pause: one that can be seen is whole at every moment, which only a rename gives,
and a build that moves stays the folder that it was. `PUMAS_FAULT_RUNS` sets how many orders are tried (8 unless told).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fixtures.releases import Release, ReleaseServer
from fixtures.releases.archives import Member, bundle, tarred, zstandarded
from fixtures.releases.content import OLLAMA
from pumas.errors import PumasError
from pumas.jobs.store import Job
from pumas.versions import places
from pumas.versions.places import TRASH
from pumas.versions.state import MARKER
from sidecar import eventually

from .setup import Built, built, everything, server

__all__ = ["server"]
TAGS = ["v0.9.0", "v0.10.0", "v0.11.0"]
APP = "ollama"
EXAMPLES = int(os.environ.get("PUMAS_FAULT_RUNS", "8"))
FILES = 120
"""So many that a copy of them takes long enough to be seen half done."""
ACTIONS = (
    *("install", "rebuild", "update", "remove", "remove", "switch", "switch", "default"),
    *("roll back", "restore", "purge", "cancel"),
)
tags = st.sampled_from(TAGS)


def release(tag: str) -> Release:
    members = [*bundle(tag), *(Member(f"lib/ollama/{number}.so", b"x") for number in range(FILES))]
    data = zstandarded(tarred(members))
    return Release(tag, assets={f"ollama-linux-{machine}.tar.zst": data for machine in ("amd64", "arm64")})


class Witness:
    """Looks from a thread of its own until it is told to stop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self.seen = 0
        self.half: list[str] = []
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            for tag in TAGS:
                with contextlib.suppress(OSError):
                    self._look_at(tag)

    def _look_at(self, tag: str) -> None:
        # What is found later is looked up in the folder that was opened, wherever it has been moved to.
        fd = os.open(self._folder / tag, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.seen += 1
            wrong = _lacks(fd)
            # Out of its place it may be taken apart: only what is still there must be whole.
            if wrong and os.stat(self._folder / tag).st_ino == os.fstat(fd).st_ino:
                self.half.append(f"{tag} {wrong}")
        finally:
            os.close(fd)


def _lacks(fd: int) -> str:
    try:
        lib = os.open("lib/ollama", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        try:
            count = len(os.listdir(lib))
        finally:
            os.close(lib)
        for name in ("bin/ollama", MARKER):
            os.stat(name, dir_fd=fd)
    except FileNotFoundError as error:
        return f"lacks {error.filename}"
    return "" if count == FILES + 2 else f"has {count} libraries"


class Races(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="pumas-races-"))
        self.folder = self.root / "ollama-versions"
        self.loop = asyncio.new_event_loop()
        self.stack = contextlib.AsyncExitStack()
        self.one: Built
        self.jobs: list[str] = []
        self.builds: dict[str, int] = {}
        (self.folder / "mine").mkdir(parents=True)
        (self.folder / "mine/thesis.txt").write_text("x")
        self.witness = Witness(self.folder)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result, or the refusal; a refusal is no failure."""

        async def bounded() -> Any:
            try:
                return await asyncio.wait_for(work, 30)
            except PumasError as error:
                return error

        return self.loop.run_until_complete(bounded())

    @initialize()
    def start(self) -> None:
        self.one = self.loop.run_until_complete(self.stack.enter_async_context(built(self.root, smoke=False)))
        self.run(self.one.service.offers.offered(APP, force=True))

    async def act(self, what: str, tag: str) -> None:
        service = self.one.service
        if what in ("install", "rebuild", "update"):
            options = {"replace": what == "rebuild", "activate": what == "update"}
            job = await service.installs.install(tag, APP, **options)
            self.jobs.append(job.id)
        elif what == "restore":
            removed = await service.removed(APP)
            if removed:
                await service.restore(removed[-1].id, APP)
        elif what == "purge":
            removed = await service.removed(APP)
            if removed:
                await service.purge(removed[-1].id, APP)
        else:
            calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "remove": lambda: service.remove(tag, APP),
                "switch": lambda: service.switch(tag, APP),
                "default": lambda: service.set_default(tag, APP),
                "roll back": lambda: service.rollback(APP),
                "cancel": lambda: service.installs.cancel(),
            }
            await calls[what]()

    @rule(what=st.sampled_from(["install", "update"]), tag=tags)
    def bring(self, what: str, tag: str) -> None:
        self.run(self.act(what, tag))

    @rule(
        actions=st.lists(
            st.tuples(
                st.sampled_from(ACTIONS),
                tags,
            ),
            min_size=1,
            max_size=5,
        )
    )
    def at_once(self, actions: list[tuple[str, str]]) -> None:
        async def all_of_them() -> None:
            done = await asyncio.gather(*(self.act(what, tag) for what, tag in actions), return_exceptions=True)
            for result in done:
                if isinstance(result, BaseException) and not isinstance(result, PumasError):
                    raise result

        self.run(all_of_them())

    @rule(pause=st.integers(0, 30))
    def go_on(self, pause: int) -> None:
        self.run(asyncio.sleep(pause / 1000))

    @rule()
    def settle(self) -> None:
        for job_id in self.jobs:
            job = self.run(self.one.jobs.wait(job_id, 30))
            assert isinstance(job, Job)
            assert job.state.final, job
            # A version that came out of the trash meanwhile keeps its place.
            assert job.error_code in (None, "cancelled", "already_exists"), job.error
        self.run(self.one.service.installs.settled())
        self.jobs.clear()
        progress = self.run(self.one.service.installs.progress(APP))
        assert progress is None or "completed_at" in progress

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.start()

    @invariant()
    def what_is_listed_is_whole_and_what_is_active_is_listed(self) -> None:
        if not hasattr(self, "one"):
            return
        installed = self.run(self.one.service.installed(APP))
        for version in installed:
            assert (version.folder / "bin/ollama").read_bytes().startswith(b"#!")
        active = self.run(self.one.service.active(APP))
        assert (active is None) == (not installed) or self.jobs
        assert active is None or active.tag in {version.tag for version in installed} or self.jobs
        assert everything(self.folder / "mine") == {"thesis.txt": b"x"}

    @invariant()
    def nothing_was_seen_half(self) -> None:
        assert self.witness.half == []

    @invariant()
    def a_build_stays_the_folder_that_it_was(self) -> None:
        for pattern in (".pumas-build-*", "v0*", f"{TRASH}/*/version"):
            for path in self.folder.glob(pattern):
                with contextlib.suppress(OSError, ValueError):  # it may be on its way
                    before, marker = path.stat().st_ino, json.loads((path / MARKER).read_bytes())
                    if path.stat().st_ino == before:
                        known = self.builds.get(marker["job"], before)
                        assert known == before, f"{path} was copied"
                        if not pattern.startswith("."):  # one that a restart cut off before its place is built anew
                            self.builds[marker["job"]] = before

    def teardown(self) -> None:
        try:
            if hasattr(self, "one"):
                self.settle()
                fits = {"mine", TRASH, *TAGS}

                def is_swept() -> bool:
                    self.run(asyncio.sleep(0.005))  # what sweeps goes on in this loop
                    return {path.name for path in self.folder.iterdir()} <= fits

                eventually(is_swept, what="all swept up")
                assert self.run(self.one.service.validate(APP)).unknown == ["mine"]
                assert self.witness.half == []
        finally:
            self.witness.stop()
            self.loop.run_until_complete(self.stack.aclose())
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.root)


FEW = settings(
    max_examples=EXAMPLES,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None,
)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_order_leaves_everything_consistent(server: ReleaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # A sidecar that ends takes its threads along. Here they live on, so a restart waits for what they still write.
    monkeypatch.setattr("pumas.jobs.service.PARK_TIMEOUT_S", 60.0)
    server.releases[OLLAMA] = [release(tag) for tag in reversed(TAGS)]
    run_state_machine_as_test(Races, settings=FEW)


def copying(witness: Witness) -> Callable[[Path, Path], None]:
    """What a rename is replaced by, to see that it is noticed; half of the way it lets the witness look."""

    def copied(source: Path, target: Path) -> None:
        left = FILES // 2

        def copy(one: str, other: str) -> str:
            nonlocal left
            left -= 1
            if left == 0:
                seen = witness.seen
                eventually(lambda: witness.seen > seen + len(TAGS), what="another look")
            return shutil.copy2(one, other)

        shutil.copytree(source, target, symlinks=True, copy_function=copy)
        shutil.rmtree(source)

    return copied


@pytest.mark.parametrize("where", ["put", "take_out"])
async def test_a_copy_in_place_of_a_rename_is_noticed(
    server: ReleaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The witness of the test above sees a version half there when one of its moves is none."""
    server.releases[OLLAMA] = [release(tag) for tag in reversed(TAGS)]
    async with built(tmp_path, smoke=False) as one:
        await one.service.offers.offered(APP, force=True)
        for tag in TAGS[:2]:
            await one.install(tag, APP)
        await one.service.switch(TAGS[1], APP)

        async def move() -> None:
            if where == "put":
                await one.install(TAGS[2], APP)
            else:
                await one.service.restore((await one.service.removed(APP))[0].id, APP)

        async def back() -> None:
            await one.service.remove(TAGS[2] if where == "put" else TAGS[0], APP)

        if where == "take_out":
            await back()
        witness = Witness(tmp_path / "ollama-versions")
        await move()
        assert witness.half == []
        await back()
        monkeypatch.setattr(places, "rename_new", copying(witness))
        await move()
        witness.stop()
        assert witness.half
