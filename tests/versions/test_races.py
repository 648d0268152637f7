"""Installs, removals, switches, rollbacks, restores and restarts in any order and at the same time: after each step
what is listed is whole, what is active is installed, and what is not ours is untouched."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fixtures.releases import ReleaseServer
from fixtures.releases.content import OLLAMA, ollama
from pumas.errors import PumasError
from pumas.jobs.store import Job

from .setup import Built, built, everything, server

__all__ = ["server"]
TAGS = ["v0.9.0", "v0.10.0", "v0.11.0"]
APP = "ollama"
tags = st.sampled_from(TAGS)


class Races(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="pumas-races-"))
        self.loop = asyncio.new_event_loop()
        self.stack = contextlib.AsyncExitStack()
        self.one: Built
        self.jobs: list[str] = []
        mine = self.root / "ollama-versions/mine"
        mine.mkdir(parents=True)
        (mine / "thesis.txt").write_text("x")

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

    @rule(tag=tags, again=st.booleans(), use=st.booleans())
    def install(self, tag: str, again: bool, use: bool) -> None:
        job = self.run(self.one.service.installs.install(tag, APP, replace=again, activate=use))
        if isinstance(job, Job):
            self.jobs.append(job.id)

    @rule(pause=st.integers(0, 30))
    def go_on(self, pause: int) -> None:
        self.run(asyncio.sleep(pause / 1000))

    @rule()
    def settle(self) -> None:
        for job_id in self.jobs:
            job = self.run(self.one.jobs.wait(job_id, 30))
            assert job.state.final, job
            assert job.error_code in (None, "cancelled"), job
        self.run(self.one.service.installs.settled())
        self.jobs.clear()
        progress = self.run(self.one.service.installs.progress(APP))
        assert progress is None or "completed_at" in progress

    @rule(tag=tags)
    def remove(self, tag: str) -> None:
        self.run(self.one.service.remove(tag, APP))

    @rule(tag=tags)
    def switch(self, tag: str) -> None:
        self.run(self.one.service.switch(tag, APP))

    @rule(tag=tags)
    def remove_while_switching(self, tag: str) -> None:
        async def both() -> None:
            service = self.one.service
            await asyncio.gather(service.remove(tag, APP), service.switch(tag, APP), return_exceptions=True)

        self.run(both())

    @rule()
    def cancel(self) -> None:
        self.run(self.one.service.installs.cancel())

    @rule()
    def roll_back(self) -> None:
        self.run(self.one.service.rollback(APP))

    @rule()
    def restore(self) -> None:
        removed = self.run(self.one.service.removed(APP))
        if removed:
            self.run(self.one.service.restore(removed[0].id, APP))

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
            assert (version.folder / "lib/ollama/libtiny.so").exists()
        active = self.run(self.one.service.active(APP))
        assert (active is None) == (not installed) or self.jobs
        assert active is None or active.tag in {version.tag for version in installed} or self.jobs
        assert everything(self.root / "ollama-versions/mine") == {"thesis.txt": b"x"}

    def teardown(self) -> None:
        if hasattr(self, "one"):
            self.settle()
            left = {path.name for path in (self.root / "ollama-versions").iterdir()}
            assert left <= {"mine", ".pumas-trash", *TAGS}
            assert self.run(self.one.service.validate(APP)).unknown == ["mine"]
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.root)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_any_order_leaves_everything_consistent(server: ReleaseServer) -> None:
    server.releases[OLLAMA] = [ollama(tag) for tag in reversed(TAGS)]
    few = settings(
        max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(Races, settings=few)
