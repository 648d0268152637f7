"""The index in use: fresh after a cheap look, never in the way, back by itself after damage and absence."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from pumas.config import Layout
from pumas.errors import DiskError, NotEnoughSpace
from pumas.events.stream import EventStream
from pumas.library import catalog as module
from pumas.library import store
from pumas.library.catalog import Catalog
from pumas.library.library_index import EVENTS_PER_BATCH, STALE
from pumas.library.search import Filters
from pumas.storage.database import Database
from pumas.storage.files import DiskFull
from pumas.storage.troubles import Troubles


class Root:
    """A launcher root with its catalog and the events that it published."""

    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.events = EventStream()
        self.events.bind(asyncio.get_running_loop())
        self.open()

    def open(self) -> None:
        self.troubles = Troubles()
        self.catalog = Catalog(self.layout, self.events, self.troubles, identify=lambda _path: ("", "", ""))

    def write(self, model_id: str, **metadata: Any) -> Path:
        folder = self.layout.library / model_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metadata.json").write_text(json.dumps({"official_name": folder.name, **metadata}))
        # The file system's own stamps stand still for some milliseconds, in which a test does a lot.
        os.utime(folder.parent, ns=(time.time_ns(), time.time_ns()))
        return folder

    async def models(self) -> dict[str, Any]:
        return orjson.loads(await self.catalog.models_json())

    async def restart(self) -> None:
        await self.catalog.close()
        self.open()

    def kinds(self) -> set[str]:
        return {t.kind for t in self.troubles.list()}


@pytest.fixture
async def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Root]:
    # Every call looks, so that no test waits for a clock.
    monkeypatch.setattr(module, "SHALLOW_EVERY_S", 0.0)
    monkeypatch.setattr(module, "FULL_EVERY_S", 1e9)
    monkeypatch.setattr(module, "CHANGED_WAIT_S", 8.0)
    one = Root(tmp_path)
    yield one
    await one.catalog.close()


async def test_the_first_call_finds_what_is_there(root: Root) -> None:
    root.write("llm/a/one", model_type="llm", size_bytes=7, hashes={"sha256": "a" * 64})
    root.write("audio/b/two", size_bytes=5, pending_online_lookup=True)
    assert set(await root.models()) == {"llm/a/one", "audio/b/two"}
    page = await root.catalog.search("one", filters=Filters(model_types=["llm"]))
    assert [hit.id for hit in page.hits] == ["llm/a/one"]
    assert await root.catalog.find_by_sha256("A" * 64) == ["llm/a/one"]
    hit = await root.catalog.get("audio/b/two")
    assert hit is not None and hit.size_bytes == 5
    status = await root.catalog.status()
    assert (status.indexing, status.model_count, status.pending_lookups, status.state) == (False, 2, 1, "ready")
    assert status.last_scan is not None
    root.layout.workflows.mkdir(parents=True)
    (root.layout.workflows / "w.json").touch()
    scan = await root.catalog.storage_scan()
    assert (scan.models, scan.workflows, scan.custom_nodes, scan.total_size) == (2, 1, 0, 12)


async def test_an_empty_launcher_root(root: Root) -> None:
    assert await root.models() == {}
    assert (await root.catalog.storage_scan()).models == 0
    assert (await root.catalog.search("")).total == 0


@pytest.mark.parametrize("where", ["llm/a/two", "llm/new/two", "new/new/two", "two"])
async def test_the_next_call_sees_a_new_folder(root: Root, where: str) -> None:
    root.write("llm/a/one")
    assert len(await root.models()) == 1
    root.write(where)
    assert set(await root.models()) == {"llm/a/one", where}
    shutil.rmtree(root.layout.library / "llm/a/one")
    assert "llm/a/one" not in await root.models()


async def test_an_unchanged_library_is_not_read(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.write("llm/a/one")
    await root.models()
    runs: list[object] = []
    monkeypatch.setattr(root.catalog.index, "reconcile", lambda: runs.append(1))
    for _ in range(5):
        await root.models()
        await root.catalog.status()
    assert runs == []
    monkeypatch.setattr(module, "FULL_EVERY_S", 0.0)
    root.catalog._full_took = 0.0
    await root.models()
    await asyncio.sleep(0)
    assert root.catalog._task is None or await root.catalog._task is None
    assert runs == [1]


async def test_a_status_call_does_not_wait_for_the_first_look(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.write("llm/a/one")
    held = asyncio.Event()
    real = root.catalog._look

    async def slow() -> Any:
        await held.wait()
        return await real()

    monkeypatch.setattr(root.catalog, "_look", slow)
    status = await root.catalog.status()
    assert (status.indexing, status.model_count) == (True, 0)
    held.set()
    assert len(await root.models()) == 1


async def test_asking_for_a_look(root: Root) -> None:
    folder = root.write("llm/a/one")
    summary = await root.catalog.reconcile()
    assert summary is not None and summary.added == 1
    (folder / "metadata.json").write_text('{"official_name": "edited"}')
    summary = await root.catalog.reconcile()
    assert summary is not None and summary.changed == 1
    assert (await root.models())["llm/a/one"]["officialName"] == "edited"


async def test_events(root: Root) -> None:
    with root.events.subscribe(["model", "library"]) as reader:
        root.write("llm/a/one")
        await root.catalog.reconcile()
        root.write("llm/a/one", official_name="other")
        await root.catalog.reconcile()
        shutil.rmtree(root.layout.library / "llm")
        await root.catalog.reconcile()
        for n in range(EVENTS_PER_BATCH + 1):
            root.write(f"llm/b/m{n}")
        await root.catalog.reconcile()
        await asyncio.sleep(0)
        events = [(e.topic, orjson.loads(e.data)) for e in reader.pending()]
    one = {"model_id": "llm/a/one"}
    counts = [data["model_count"] for topic, data in events if topic == "library.changed"]
    assert counts == [1, EVENTS_PER_BATCH + 1], "the end of the first look, and a change of many"
    of_one = [event for event in events if event[0] != "library.changed"]
    assert of_one == [("model.added", one), ("model.changed", one), ("model.removed", one)]


async def test_the_end_of_the_first_look_is_told_also_when_nothing_was_found(root: Root) -> None:
    with root.events.subscribe(["library"]) as reader:
        assert (await root.catalog.status()).indexing
        await root.catalog.reconcile()
        await root.catalog.reconcile()
        await asyncio.sleep(0)
        [event] = reader.pending()
    assert orjson.loads(event.data)["model_count"] == 0
    assert (await root.catalog.status()).last_scan is not None


# -- for import and trash --------------------------------------------------------------------------------------------


async def test_the_index_for_worker_threads(root: Root) -> None:
    index = root.catalog.index
    root.write("llm/a/one", hashes={"sha256": "b" * 64}, files=[{"name": "x.gguf", "size": 9}])
    root.write("llm/a/unknown")
    # The first question waits for a first look: a duplicate that was not indexed yet would be missed.
    assert await asyncio.to_thread(index.find_by_sha256, "b" * 64) == ["llm/a/one"]
    assert await asyncio.to_thread(index.find_by_size, 9) == ["llm/a/one", "llm/a/unknown"]
    assert await asyncio.to_thread(index.find_by_size, 8) == ["llm/a/unknown"]
    root.write("llm/c/new")
    await asyncio.to_thread(index.refresh, ["llm/c/new"])
    assert await asyncio.to_thread(index.contains, "llm/c/new")
    await asyncio.to_thread(index.remove, ["llm/a/one"])
    assert await asyncio.to_thread(index.model_ids) == ["llm/a/unknown", "llm/c/new"]


async def test_what_changes_during_a_look_is_read_again(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root.write("llm/a/one", official_name="old")
    index = root.catalog.index
    real = store.apply
    edits = iter([1])

    def apply(c: sqlite3.Connection, batch: store.Batch) -> store.Changes:
        if any(e.id == "llm/a/one" for e in batch.entries) and next(edits, None):
            # The look has read the old name; now someone changes it and says so.
            (folder / "metadata.json").write_text('{"official_name": "new"}')
            index._note(["llm/a/one"])
        return real(c, batch)

    monkeypatch.setattr(store, "apply", apply)
    await root.catalog.reconcile()
    assert (await root.models())["llm/a/one"]["officialName"] == "new"


# -- damage ----------------------------------------------------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage " * 1000)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def older(path: Path) -> None:
    path.unlink()
    c = sqlite3.connect(path)
    c.execute("CREATE TABLE models (id TEXT PRIMARY KEY)")
    c.close()


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (garbage, "index_rebuilt"),
        (folder, "index_rebuilt"),
        (older, "index_rebuilt"),
        (cut, "index_rebuilt"),
        (lambda p: p.unlink(), None),
        (lambda p: p.write_bytes(b""), "index_rebuilt"),
        (lambda p: p.write_bytes(b"\0" * 4096), "index_rebuilt"),
    ],
)
async def test_an_unusable_index_is_made_anew(root: Root, spoil: Callable[[Path], None], kind: str | None) -> None:
    for n in range(40):
        root.write(f"llm/a/m{n}", description="words " * 200)
    assert len(await root.models()) == 40
    await root.catalog.close()
    spoil(root.layout.models_db)
    root.open()
    assert len(await root.models()) == 40
    assert (await root.catalog.search("words")).total == 40
    assert root.kinds() == ({kind} if kind else set())


async def test_damage_met_while_running_costs_one_query_nothing(root: Root) -> None:
    for n in range(60):
        root.write(f"llm/a/m{n:02}", description=f"words{n} " * 300)
    assert len(await root.models()) == 60
    database = root.catalog.index.database()
    database.write_sync(lambda c: c.execute("DELETE FROM model_search_data WHERE id > 100"))
    # words1 and words10 to words19: the query met the damage, waited for the new index, and was answered from that.
    assert (await root.catalog.search("words1")).total == 11
    assert root.kinds() == {"index_rebuilt"}


async def test_an_index_deleted_while_running_is_made_anew(root: Root) -> None:
    root.write("llm/a/one")
    await root.models()
    for path in root.layout.library.glob("models.db*"):
        path.unlink()
    await root.catalog.reconcile()
    assert set(await root.models()) == {"llm/a/one"}
    assert root.layout.models_db.exists()


async def test_a_newer_index_is_left_alone(root: Root) -> None:
    root.write("llm/a/one")
    c = sqlite3.connect(root.layout.models_db)
    c.executescript("CREATE TABLE future (x); PRAGMA user_version = 99;")
    c.close()
    before = root.layout.models_db.read_bytes()
    assert set(await root.models()) == {"llm/a/one"}
    assert root.kinds() == {"newer_index"}
    assert root.layout.models_db.read_bytes() == before


async def test_a_full_disk_leaves_what_is_known(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.write("llm/a/one")
    await root.models()
    real = store.apply

    def full(c: sqlite3.Connection, batch: store.Batch) -> store.Changes:
        raise DiskFull("Writing models.db")

    monkeypatch.setattr(store, "apply", full)
    root.write("llm/a/two")
    with pytest.raises(NotEnoughSpace):
        await root.catalog.reconcile()
    assert set(await root.models()) == {"llm/a/one"}
    assert root.kinds() == {STALE}
    monkeypatch.setattr(store, "apply", real)
    assert set(await root.models()) == {"llm/a/one", "llm/a/two"}
    assert root.kinds() == set()


# -- away, read-only -------------------------------------------------------------------------------------------------


async def test_a_library_that_goes_away_and_comes_back(root: Root) -> None:
    root.write("llm/a/one")
    await root.models()
    library, away = root.layout.library, root.layout.root / "away"
    os.rename(library, away)
    library.symlink_to("/nonexistent/drive")
    assert set(await root.models()) == {"llm/a/one"}
    assert (await root.catalog.search("one")).total == 1
    assert (await root.catalog.status()).state == "offline"
    assert root.kinds() == {"offline"}
    library.unlink()
    os.rename(away, library)
    root.write("llm/a/two")
    # A look that began while the library was away may still be under way; what a look finds is there before its end.
    async with asyncio.timeout(30):
        while set(await root.models()) != {"llm/a/one", "llm/a/two"} or root.kinds():
            await asyncio.sleep(0)
    assert (await root.catalog.status()).state == "ready"


async def test_a_library_that_is_away_at_start(root: Root) -> None:
    root.write("llm/a/one")
    await root.models()
    await root.catalog.close()
    library, away = root.layout.library, root.layout.root / "away"
    os.rename(library, away)
    library.symlink_to("/nonexistent/drive")
    root.open()
    assert await root.models() == {}
    assert (await root.catalog.status()).state == "offline"
    library.unlink()
    os.rename(away, library)
    assert set(await root.models()) == {"llm/a/one"}


async def test_a_read_only_library(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    root.write("llm/a/one")
    real = os.access
    library = os.fspath(root.layout.library)
    # The tests may run as root, to whom no folder is read-only.
    monkeypatch.setattr(os, "access", lambda p, mode: os.fspath(p) != library and real(p, mode))
    assert set(await root.models()) == {"llm/a/one"}
    assert (await root.catalog.status()).state == "read_only"
    assert os.listdir(library) == ["llm"]
    root.write("llm/a/two")
    assert set(await root.models()) == {"llm/a/one", "llm/a/two"}
    monkeypatch.undo()
    await root.catalog.reconcile()
    assert (await root.catalog.status()).state == "ready"
    assert root.layout.models_db.exists()


async def test_no_place_for_an_index(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object) -> None:
        raise DiskError("models.db: no.")

    monkeypatch.setattr(Database, "open_sync", refuse)
    with pytest.raises(DiskError):
        await root.models()


async def test_counts_of_facets_follow_the_library(root: Root) -> None:
    root.write("llm/a/one", model_type="llm", size_bytes=7, tags=["quiet"])
    first = await root.catalog.facets()
    assert (first.types, first.tags, first.sizes) == ({"llm": 1}, {"quiet": 1}, {"0": 1})
    assert await root.catalog.facets() is first, "remembered while nothing changes"
    root.write("audio/b/two", model_type="audio")
    assert (await root.catalog.facets()).types == {"llm": 1, "audio": 1}
