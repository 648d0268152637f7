"""`links/service.py` and its methods in memory: jobs, failures with their kind, and replies in the promised shape."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pumas.errors import NotEnoughSpace, PlanOutdated, PumasError
from pumas.events.stream import EventStream
from pumas.jobs.service import JobService
from pumas.jobs.store import JobState, JobStore
from pumas.library.catalog import Catalog
from pumas.library.search import Filters
from pumas.library.service import LibraryService
from pumas.links import methods as rows
from pumas.links import service as links_service
from pumas.links.applying import Applier
from pumas.links.service import APPLY, LinkService
from pumas.rpc.registry import Methods
from pumas.storage.database import Database, Schema

from .setup import APP, TAG, Setup, version, write

A, B = "diffusion/sdxl/a", "diffusion/sdxl/b"

# The keys of `success: true` that older clients read.
SHAPES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "refresh_model_mappings": ({}, {"results"}),
    "get_link_health": (
        {"version_tag": TAG},
        {"status", "total_links", "healthy_links", "broken_links", "orphaned_links", "warnings", "errors"},
    ),
    "clean_broken_links": ({}, {"cleaned"}),
    "remove_orphaned_links": ({"version_tag": TAG}, {"removed"}),
    "get_links_for_model": ({"model_id": A}, {"links"}),
    "preview_model_mapping": (
        {"version_tag": TAG},
        {"to_create", "to_skip_exists", "conflicts", "broken_to_remove", "total_actions", "warnings", "errors"},
    ),
    "apply_model_mapping": ({"version_tag": TAG}, {"links_created", "links_removed", "total_links"}),
    "sync_models_incremental": (
        {"version_tag": TAG, "model_ids": [A]},
        {"links_created", "links_updated", "links_skipped"},
    ),
    "sync_with_resolutions": (
        {"version_tag": TAG, "resolutions": {A: "skip"}},
        {"links_created", "links_skipped", "links_renamed", "overwrites", "errors"},
    ),
    "get_cross_filesystem_warning": ({"version_tag": TAG}, {"cross_filesystem"}),
}


class InMemory:
    def __init__(self, root: Path) -> None:
        self.setup = Setup(root)
        self.setup.index.close()
        self.events = events = EventStream()
        events.bind(asyncio.get_running_loop())
        self.jobs_db = Database(self.setup.layout.jobs_db, Schema.load("jobs"), disposable=False)
        self.jobs = JobService(JobStore(self.jobs_db), events)
        self.catalog = Catalog(self.setup.layout, events, self.setup.troubles)
        self.links = LinkService(
            self.setup.layout,
            self.setup.apps,
            self.setup.installed,
            self.catalog,
            self.jobs,
            events,
            self.setup.store,
            self.setup.keeper,
        )
        self.methods = Methods()
        rows.register(self.methods, self.links)

    async def call(self, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
        row = self.methods.get(name)
        assert row is not None
        return await row(dict(params))

    async def close(self) -> None:
        await self.jobs.close()
        self.links.close()
        await self.catalog.close()
        self.jobs_db.close_sync()
        self.setup.close()


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[InMemory]:
    one = InMemory(tmp_path / "root")
    one.setup.model(A, "a.safetensors")
    one.setup.model(B, "b.safetensors")
    await one.jobs.open()
    await one.links.open()
    yield one
    await one.close()


@pytest.mark.parametrize("name", SHAPES)
async def test_replies_have_the_keys_that_clients_read(memory: InMemory, name: str) -> None:
    params, keys = SHAPES[name]
    reply = await memory.call(name, params)
    assert reply["success"] is True
    assert keys <= reply.keys()


async def test_a_map_action_says_what_the_window_shows(memory: InMemory) -> None:
    write(memory.setup.models / "checkpoints/a.safetensors", b"theirs")
    reply = await memory.call("preview_model_mapping", {"versionTag": TAG})
    (made,), (conflict,) = reply["to_create"], reply["conflicts"]
    common = {"model_id", "model_name", "source_path", "target_path", "reason"}
    assert made.keys() == common | {"link_type"} and conflict.keys() == common | {"existing_target"}
    assert (made["link_type"], reply["total_actions"]) == ("symlink", 2)
    assert "file exists" in conflict["reason"] and "Non-symlink" in conflict["reason"]


async def test_what_was_planned_is_applied_as_a_job(memory: InMemory) -> None:
    answer = await memory.links.apply(APP, TAG)
    assert answer.job_id is not None and not answer.pending
    job = await memory.jobs.get(answer.job_id)
    assert (job.state, job.kind, job.total) == (JobState.COMPLETED, APPLY, 2)
    again = await memory.links.apply(APP, TAG)
    assert (again.job_id, again.applied[TAG].created) == (None, 0), "nothing to do needs no job"


async def test_every_change_is_told(memory: InMemory) -> None:
    with memory.events.subscribe(["links"]) as reader:
        await memory.links.apply(APP, TAG)
        await memory.links.apply(APP, TAG)
        (memory.setup.models / "checkpoints/a.safetensors").unlink()
        await memory.links.clean_broken()
        news = aiter(reader)
        told = [json.loads((await anext(news)).data) for _ in range(2)]
    one: dict[str, Any] = {"app_id": APP, "app_version": TAG[1:], "made": 2, "removed": 0}
    assert told == [one, {"app_id": None, "app_version": None, "made": 0, "removed": 1}]


async def test_a_long_application_is_answered_as_pending(memory: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    real = Applier.apply

    def slow(applier: Applier, *args: Any, **options: Any) -> Any:
        assert go_on.wait(20)
        return real(applier, *args, **options)

    monkeypatch.setattr(Applier, "apply", slow)
    monkeypatch.setattr(links_service, "APPLY_WITHIN_S", 0.05)
    reply = await memory.call("apply_model_mapping", {"version_tag": TAG})
    assert (reply["success"], reply["pending"], reply["links_created"]) == (True, True, 0)
    go_on.set()
    job = await memory.jobs.wait(reply["job_id"], 20)
    assert job.result is not None and job.result["applied"][TAG]["created"] == 2


async def test_a_failure_keeps_its_kind(memory: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_store: object, *_args: object) -> None:
        raise NotEnoughSpace(1, 0)

    monkeypatch.setattr(type(memory.setup.store), "begin", full)
    with pytest.raises(NotEnoughSpace):
        await memory.links.apply(APP, TAG)
    reply = await memory.call("apply_model_mapping", {"version_tag": TAG})
    assert (reply["success"], reply["error_code"], reply["links_created"]) == (False, "disk_full", 0)
    assert memory.setup.tree() == {}


async def test_links_that_were_not_made_are_said(memory: InMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(errno.EACCES, "no")

    monkeypatch.setattr(os, "symlink", refuse)
    reply = await memory.call("apply_model_mapping", {"version_tag": TAG})
    assert (reply["success"], len(reply["errors"]), reply["error"]) == (False, 2, reply["errors"][0])


async def test_a_job_that_was_parked_goes_on_with_a_plan_of_its_own(memory: InMemory) -> None:
    params: dict[str, Any] = {
        "app_id": APP,
        "tags": [TAG],
        "model_ids": None,
        "resolutions": {},
        "allow_copy": False,
        "plan_ids": ["plan-of-another-run"],
    }
    job = await memory.jobs.start(APPLY, params, title="x")
    job = await memory.jobs.wait(job.id, 20)
    assert job.state is JobState.COMPLETED and len(memory.setup.links()) == 2


async def test_a_job_that_a_stop_interrupted_goes_on_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was chosen about conflicts; one that the user paused stays paused."""
    one = InMemory(tmp_path / "root")
    one.setup.model(A, "a.safetensors")
    one.setup.model(B, "b.safetensors")
    write(one.setup.models / "checkpoints/a.safetensors", b"theirs")
    begun = threading.Event()

    def until_it_is_stopped(*_arguments: object, check: Callable[[], None], **_options: object) -> None:
        begun.set()
        while True:
            check()
            time.sleep(0.01)

    with monkeypatch.context() as patch:
        patch.setattr(Applier, "apply", until_it_is_stopped)
        await one.jobs.open()
        asked = asyncio.create_task(one.links.apply(APP, TAG, resolutions={A: "overwrite"}))
        assert await asyncio.to_thread(begun.wait, 30)
        (job,) = await one.jobs.list(kind=APPLY)
        paused = await one.jobs.start(APPLY, job.params, title="paused by the user")
        await one.jobs.pause(paused.id)
        await one.jobs.wait(paused.id, 30)
        await one.jobs.close()
        with pytest.raises(PumasError):
            await asked
    await one.close()

    again = InMemory(tmp_path / "root")
    try:
        await again.jobs.open()
        await again.links.open()
        await again.links.go_on()
        assert (await again.jobs.wait(job.id, 30)).state is JobState.COMPLETED
        assert (await again.jobs.get(paused.id)).state is JobState.PAUSED
        assert len(again.setup.links()) == 2
        (kept,) = again.setup.models.glob(".pumas-replaced/*/checkpoints/a.safetensors")
        assert kept.read_bytes() == b"theirs"
    finally:
        await again.close()


async def test_the_plan_that_was_seen_or_none(memory: InMemory) -> None:
    plan = await memory.links.plan(APP, TAG)
    write(memory.setup.models / "checkpoints/a.safetensors", b"theirs")
    with pytest.raises(PlanOutdated):
        await memory.links.apply(APP, TAG, plan_id=plan.id)
    plan = await memory.links.plan(APP, TAG)
    answer = await memory.links.apply(APP, TAG, plan_id=plan.id, resolutions={A: "overwrite"})
    assert (answer.applied[TAG].created, answer.applied[TAG].overwritten) == (2, 1)


async def test_refreshing_takes_all_versions_and_sees_new_models(memory: InMemory) -> None:
    version(memory.setup.layout.root, "v0.4")
    for name in (".hidden", "somebody's"):
        (memory.setup.layout.root / "comfyui-versions" / name).mkdir()
    answer = await memory.links.refresh("ComfyUI")
    assert {tag: done.total for tag, done in answer.applied.items()} == {TAG: 2, "v0.4": 2}
    assert (await memory.call("refresh_model_mappings", {"app_id": "ollama"}))["results"] == {}
    listed, total = await memory.links.list("comfyui", "v0.4", limit=1, offset=0)
    assert (len(listed), total, listed[0].app_version) == (1, 2, "0.4")


class Counted:
    """A database whose questions are counted."""

    def __init__(self, database: Database, reads: list[object]) -> None:
        self._database, self._reads = database, reads

    def read_sync(self, question: Any) -> Any:
        self._reads.append(question)
        return self._database.read_sync(question)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


async def test_the_library_finds_models_by_the_apps_they_are_linked_into(
    memory: InMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = memory.setup
    setup.model("llm/llama/c", "c.gguf")
    await memory.call("sync_models_incremental", {"version_tag": TAG, "model_ids": [A]})
    library = LibraryService(setup.layout, memory.catalog, memory.jobs, setup.troubles, setup.keeper)
    try:
        counts = await library.facets("", Filters(), [])
        assert (counts.apps, counts.types) == ({APP: 1}, {"diffusion": 2, "llm": 1})
        page = await library.search("", Filters(), [APP], limit=10, offset=0)
        assert [hit.id for hit in page.hits] == [A]
        assert (await library.search("", Filters(), ["another"], limit=10, offset=0)).total == 0
        narrowed = await library.facets("", Filters(), [APP])
        assert (narrowed.apps, narrowed.types) == ({APP: 1}, {"diffusion": 1})
        await memory.call("sync_models_incremental", {"version_tag": TAG, "model_ids": [B]})
        assert (await library.facets("", Filters(), [])).apps == {APP: 2}
        reads: list[object] = []
        monkeypatch.setattr(setup.store, "database", Counted(setup.store.database, reads))
        assert (await library.facets("", Filters(), [])).apps == {APP: 2}
        assert reads == [], "the registry is not read again while nothing changes"
        (gone,) = setup.store.of_models([A])
        setup.store.forget([gone.link_id])
        assert (await library.facets("", Filters(), [])).apps == {APP: 1}
    finally:
        await library.close()
