"""The index as the rest of the program uses it: always there, as fresh as a cheap look can make it, never in the way.

`Catalog` is for the event loop, `LibraryIndex` (the `Index` of `index.py`) for worker threads. The first use after a
start waits for the first reconcile, but not for long; later uses look at the few folders above the models at most once
a second and start a full look in the background now and then. Nothing runs while nobody asks.

The index lies in the library. When that cannot be written, is away, or holds an index of a newer version, it lies in
the launcher's data folder instead. What reconcile does is written there; nothing here knows the wire.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar

from pumas import footprint
from pumas.config import Layout
from pumas.errors import NewerSchema, PumasError, ReadOnly
from pumas.events.stream import EventStream
from pumas.library import search, store
from pumas.library.facets import FacetCounts
from pumas.library.readers import reader_count
from pumas.library.reading import Identify, identify_file
from pumas.library.reconcile import LibraryOffline, Reconciler, Summary
from pumas.library.store import Changes
from pumas.storage.database import DAMAGED_FILES, Database, Schema
from pumas.storage.troubles import Troubles

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT_S = 8.0
CHANGED_WAIT_S = 0.5
SHALLOW_EVERY_S = 1.0
FULL_EVERY_S = 10.0
# A full look at a huge library may take at most this share of one processor.
_FULL_SHARE = 0.05
# More changes than this in one batch are told as one event.
EVENTS_PER_BATCH = 100
_SHALLOW_FOLDERS = 2000
# A look that found more than this leaves memory behind that is worth giving back.
_MANY_CHANGES = 1000
_MODELS_PER_PIECE = 500
# Counting all models of a huge library by everything takes most of a second on a slow machine.
_FACETS_DEADLINE_S = 9.0
_NO_FILTERS = search.Filters()

STALE = "index_stale"

State = Literal["ready", "offline", "read_only"]


@dataclass(frozen=True)
class Status:
    """`indexing`: a look at the disk is under way. `last_scan`: when one was last finished, ISO-8601 UTC."""

    indexing: bool
    model_count: int
    pending_lookups: int
    last_scan: str | None
    state: State


@dataclass(frozen=True)
class StorageScan:
    """Counts, and the bytes of all models."""

    models: int
    workflows: int
    custom_nodes: int
    total_size: int


@dataclass(frozen=True)
class _Totals:
    revision: int
    models: int
    size: int
    pending: int
    last_scan: str | None


class LibraryIndex:
    """The index for worker threads: opens it, brings it up to date, answers what import and trash ask."""

    def __init__(
        self, layout: Layout, events: EventStream, troubles: Troubles, *, identify: Identify = identify_file
    ) -> None:
        self._layout = layout
        self._events = events
        self._troubles = troubles
        self._identify = identify
        self._subject = os.path.relpath(layout.library, layout.root)
        self._places = (layout.models_db, layout.cache / "models.db")
        # Order: `_running` before `_opening`; neither is held while an event is published.
        self._running = threading.Lock()
        self._opening = threading.RLock()
        self._database: Database | None = None
        self._file: tuple[int, int] | None = None
        self._refused: tuple[int, int] | None = None
        # Neither place can be written, as on a disk that is mounted read-only: what the library's index says is served.
        self._nowhere = False
        self._stopped = False
        self._complete = False
        self._busy = False
        # The last look could not be written; the index file was replaced by an empty one.
        self._failed = self._replaced = False
        self._state: State = "ready"
        self._above: list[tuple[str, int, int]] = []
        self._meanwhile: list[str] = []

    # -- the file ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._state

    @property
    def complete(self) -> bool:
        """A first look at the disk was finished, or could not be because the library is away."""
        return self._complete

    @property
    def busy(self) -> bool:
        return self._busy

    @property
    def opened(self) -> Database | None:
        """The index when it is open already; never waits."""
        return self._database

    def database(self) -> Database:
        """The open index. Raises what the disk refused, when no place could be used."""
        with self._opening:
            if self._database is None:
                self._database = self._open()
                self._database.connect_readers_sync()
                self._file = _identity(self._database.path)
                self._reconciler(self._database).load_troubles()
            return self._database

    def _open(self) -> Database:
        own, spare = self._places
        self._nowhere = False
        if self._usable():
            database = self._database_at(own)
            try:
                database.open_sync()
            except PumasError as error:
                self._refused = _identity(own)
                kind = "newer_index" if isinstance(error, NewerSchema) else "index_unusable"
                self._troubles.report(
                    f"{self._subject}/{own.name}", kind, f"{error} Until then the index is elsewhere."
                )
            else:
                self._refused = None
                return database
        database = self._database_at(spare)
        try:
            database.open_sync()
        except ReadOnly:
            if not os.path.isfile(own):
                raise
            self._nowhere = True
            database = self._database_at(own)
            database.open_sync()
        return database

    def _database_at(self, path: Path) -> Database:
        schema = Schema.load("models")
        return Database(path, schema, disposable=True, on_quarantine=self._rebuild, renewal=store.RENEWAL)

    def _usable(self) -> bool:
        """Whether the library's folder can hold the index; makes the folder when nothing was ever there."""
        library = self._layout.library
        if not os.path.lexists(library):
            try:
                library.mkdir(parents=True)
            except OSError:
                self._state = "read_only"
                return False
        if not os.path.isdir(library):
            self._state = "offline"
            return False
        if not os.access(library, os.W_OK | os.X_OK):
            self._state = "read_only"
            return False
        self._state = "ready"
        return self._refused is None or self._refused != _identity(self._places[0])

    def _rebuild(self, kept: Path, reason: str) -> None:
        """The index file was put aside: what is there now is empty until the next look at the disk."""
        self._complete, self._replaced = False, True
        message = (
            f"The index could not be used ({reason}) and is being made anew; the old file was kept as {kept.name}."
        )
        self._troubles.report(f"{self._subject}/{self._places[0].name}", "index_rebuilt", message)

    def _follow_file(self) -> None:
        """Open the index again when its file was replaced, deleted, or belongs elsewhere by now."""
        with self._opening:
            database = self._database
            if database is None:
                return
            usable = self._usable()
            if self._state == "offline":
                return
            place = self._places[0 if usable or self._nowhere else 1]
            if database.path == place and _identity(place) == self._file:
                return
            database.close_sync()
            self._database, self._complete = None, False

    def close(self) -> None:
        """Stop a look that is under way at its next folder, and close the file."""
        self._stopped = True
        with self._running, self._opening:
            if self._database is not None:
                self._database.close_sync()
                self._database = None

    # -- looking at the disk -----------------------------------------------------------------------------------------

    def reconcile(self) -> Summary | None:
        """Look at the whole library. None when it is away; `state` says so.

        Raises:
            PumasError: the index cannot be written.
        """
        with self._running:
            if self._stopped:
                return None
            first = not self._complete
            self._busy = True
            try:
                summary = self._reconcile()
            finally:
                self._busy = False
            if first:
                # Who was told that the library is being read hears of the end, also when nothing was found.
                self._tell_counts(self.database())
            if summary is not None and summary.added + summary.changed > _MANY_CHANGES:
                footprint.give_back()
            if summary is not None and self._reconciler(self.database()).tidy():
                footprint.give_back()
            if summary is not None:
                self.database().keep_copy_sync(lambda: self._stopped)
            return summary

    def _reconcile(self) -> Summary | None:
        self._follow_file()
        database = self.database()
        reconciler = self._reconciler(database)
        self._meanwhile.clear()
        self._replaced = self._failed = False
        try:
            summary = self._run(reconciler)
        except LibraryOffline as error:
            self._state, self._complete = "offline", True
            self._troubles.report(self._subject, LibraryOffline.kind, f"{error} Nothing was removed from the index.")
            return None
        except PumasError as error:
            # What the index holds is still served; the next call tries again.
            self._failed = self._complete = True
            if isinstance(error, ReadOnly):
                self._state = "read_only"
            self._troubles.report(self._subject, STALE, f"The index cannot be brought up to date: {error}")
            raise
        for kind in (LibraryOffline.kind, STALE):
            self._troubles.clear_kind(kind)
        self._above = database.read_sync(lambda c: store.folders_above_models(c, _SHALLOW_FOLDERS))
        self._complete = True
        return summary

    def _run(self, reconciler: Reconciler) -> Summary:
        for _ in range(DAMAGED_FILES):
            try:
                summary = reconciler.run()
                break
            except PumasError:
                if not self._replaced:
                    raise
                # The index was damaged and put aside: bring what took its place up to date.
                self._replaced = False
        else:
            summary = reconciler.run()
        if self._meanwhile:
            reconciler.refresh(self._meanwhile[:])
        return summary

    def _reconciler(self, database: Database) -> Reconciler:
        return Reconciler(
            self._layout.library,
            database,
            self._troubles,
            subject=self._subject,
            identify=self._identify,
            readers=reader_count(),
            on_changes=lambda changes: self._tell(database, changes),
            stop=lambda: self._stopped,
        )

    def shallow_changed(self) -> bool:
        """Whether a folder above the models changed since the last look: a model came or went. About a millisecond."""
        if not self._complete or self._failed:
            return True
        root = os.fspath(self._layout.library)
        for path, mtime_ns, inode in self._above:
            try:
                status = os.stat(f"{root}/{path}" if path else root)
            except OSError:
                return True
            # The library's own folder changes with every journal of the index; its children are looked at below.
            if path and (status.st_mtime_ns != mtime_ns or status.st_ino != inode):
                return True
        return self._top_changed(root)

    def _top_changed(self, root: str) -> bool:
        known = {path for path, _, _ in self._above if path and "/" not in path}
        if len(self._above) >= _SHALLOW_FOLDERS:
            return False
        try:
            with os.scandir(root) as entries:
                found = {e.name for e in entries if e.name[0] != "." and e.is_dir(follow_symlinks=False)}
        except OSError:
            return self._state != "offline"
        return bool(found - known - self._top_models())

    def _top_models(self) -> set[str]:
        rows = self.database().read_sync(lambda c: store.children(c, "", "", limit=_SHALLOW_FOLDERS))
        return {row[1] for row in rows}

    def _tell_counts(self, database: Database) -> None:
        revision, count = database.read_sync(lambda c: (store.state(c).revision, store.model_count(c)))
        self._events.publish_threadsafe("library.changed", {"revision": revision, "model_count": count})

    def _tell(self, database: Database, changes: Changes) -> None:
        if changes.count > EVENTS_PER_BATCH:
            self._tell_counts(database)
            return
        for topic, ids in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
            for model_id in ids:
                self._events.publish_threadsafe(f"model.{topic}", {"model_id": model_id})

    # -- what import, trash, metadata and verify ask (see index.py) ----------------------------------------------------

    def refresh(self, model_ids: Sequence[str]) -> None:
        database = self._note(model_ids)
        self._reconciler(database).refresh(model_ids)

    def remove(self, model_ids: Sequence[str]) -> None:
        database = self._note(model_ids)
        self._reconciler(database).remove(model_ids)

    def _note(self, model_ids: Sequence[str]) -> Database:
        # A look under way may have read these folders before the change: it reads them once more at its end.
        if self._busy:
            self._meanwhile.extend(model_ids)
        return self.database()

    def find_by_sha256(self, digest: str) -> list[str]:
        return self._ask(lambda c: store.ids_by_sha256(c, digest.lower()))

    def find_by_size(self, primary_size: int) -> list[str]:
        return self._ask(lambda c: store.ids_by_primary_size(c, primary_size))

    def duplicated(self) -> list[str]:
        return self._ask(store.ids_of_duplicates)

    def contains(self, model_id: str) -> bool:
        return self._ask(lambda c: store.contains(c, model_id))

    def model_ids(self) -> list[str]:
        return self._ask(store.ids)

    def mappable(self) -> list[store.Mappable]:
        """What decides where each model's files belong, in order of ids."""
        return self._ask(store.mappable)

    def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Answers are about all models, so a first look must have been finished."""
        if not self._complete:
            self.reconcile()
        return self.database().read_sync(query)


class Catalog:
    """The index for the event loop."""

    def __init__(
        self, layout: Layout, events: EventStream, troubles: Troubles, *, identify: Identify = identify_file
    ) -> None:
        self.index = LibraryIndex(layout, events, troubles, identify=identify)
        self._layout = layout
        self._searcher = search.Searcher()
        self._task: asyncio.Task[Summary | None] | None = None
        self._shallow_at = self._full_at = float("-inf")
        self._full_took = 0.0
        self._totals: _Totals | None = None
        self._models: tuple[int, bytes] | None = None
        self._packing = asyncio.Lock()
        self._facets: tuple[tuple[int, Mapping[str, Sequence[str]]], FacetCounts] | None = None

    async def close(self) -> None:
        await asyncio.to_thread(self.index.close)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def reconcile(self, wait_s: float = FIRST_WAIT_S) -> Summary | None:
        """Look at the whole library now. None when it takes longer than `wait_s` (it goes on), or is away.

        Raises:
            PumasError: the index cannot be written.
        """
        end = time.monotonic() + wait_s
        if self._task is not None:
            # One that is under way may have passed what the caller just changed.
            await asyncio.wait({self._task}, timeout=wait_s)
        task = self._start()
        await asyncio.wait({task}, timeout=max(end - time.monotonic(), 0))
        return task.result() if task.done() else None

    async def search(
        self,
        text: str,
        *,
        filters: search.Filters | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: search.Sort = "relevance",
    ) -> search.Page:
        """See `search.Searcher.search`. Raises TimedOut after one second, or nine in another order than by match."""
        await self._fresh()
        chosen = filters or search.Filters()
        return await self._read(
            lambda c: self._searcher.search(c, text, filters=chosen, limit=limit, offset=offset, sort=sort),
            deadline_s=search.DEADLINE_S if sort == "relevance" else search.SORTED_DEADLINE_S,
        )

    async def models_json(self) -> bytes:
        """All models as one JSON object: id to `{path, size, addedDate, modelType, officialName, …}`."""
        await self._fresh()
        totals = await self._current()
        async with self._packing:
            if self._models is None or self._models[0] != totals.revision:
                self._models = await self._read(_pack_models)
                await asyncio.to_thread(footprint.give_back)
            packed = self._models[1]
        return await asyncio.to_thread(zlib.decompress, packed)

    async def facets(
        self,
        text: str = "",
        *,
        filters: search.Filters = _NO_FILTERS,
        models_of: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> FacetCounts:
        """Count what `search` finds by what can be filtered; see `search.Searcher.facets`. Raises TimedOut."""
        await self._fresh()
        whole = not search.terms(text) and filters.none
        question = ((await self._current()).revision, models_of)
        if whole and self._facets is not None and self._facets[0] == question:
            return self._facets[1]
        counts = await self._read(
            lambda c: self._searcher.facets(c, text, filters, models_of), deadline_s=_FACETS_DEADLINE_S
        )
        if whole:
            self._facets = question, counts
        return counts

    async def storage_scan(self) -> StorageScan:
        await self._fresh()
        totals = await self._current()
        workflows = await asyncio.to_thread(_count, self._layout.workflows, folders=False)
        nodes = await asyncio.to_thread(_count, self._layout.root / "shared-resources/custom_nodes_cache", folders=True)
        return StorageScan(totals.models, workflows, nodes, totals.size)

    async def status(self) -> Status:
        """Never waits for a look at the disk, but starts one when it is due."""
        await self._fresh(wait=False)
        # Asked first: a look that ends meanwhile may not lend its "done" to the count from before.
        busy = self.index.busy or not self.index.complete
        totals = await self._current()
        return Status(busy, totals.models, totals.pending, totals.last_scan, self.index.state)

    async def get(self, model_id: str) -> search.Hit | None:
        await self._fresh()
        return await self._read(lambda c: search.one(c, model_id))

    async def find_by_sha256(self, digest: str) -> list[str]:
        await self._fresh()
        return await self._read(lambda c: store.ids_by_sha256(c, digest.lower()))

    async def from_hub(self) -> list[tuple[str, str]]:
        """Id and hub repository (`owner/name`) of each model that is known to be from one."""
        await self._fresh()
        return await self._read(store.from_hub)

    # -- freshness ---------------------------------------------------------------------------------------------------

    async def fresh(self) -> None:
        """Wait as any question about models does: for the first look, and shortly for one that is due."""
        await self._fresh()

    async def _fresh(self, *, wait: bool = True) -> None:
        if not self.index.complete:
            task = self._task or self._start()
            if wait:
                await asyncio.wait({task}, timeout=FIRST_WAIT_S)
                if task.done() and not self.index.complete:
                    # No index in any place: the failure is the answer.
                    task.result()
            return
        moment = time.monotonic()
        if self._task is not None or moment - self._shallow_at < SHALLOW_EVERY_S:
            return
        self._shallow_at = moment
        if await asyncio.to_thread(self.index.shallow_changed):
            task = self._task or self._start()
            if wait:
                await asyncio.wait({task}, timeout=CHANGED_WAIT_S)
        elif moment - self._full_at >= max(FULL_EVERY_S, self._full_took / _FULL_SHARE):
            self._start()

    def _start(self) -> asyncio.Task[Summary | None]:
        if self._task is None:
            self._task = asyncio.create_task(self._look())
            self._task.add_done_callback(self._ended)
        return self._task

    async def _look(self) -> Summary | None:
        started = time.monotonic()
        try:
            return await asyncio.to_thread(self.index.reconcile)
        finally:
            self._full_at = self._shallow_at = time.monotonic()
            self._full_took = self._full_at - started

    def _ended(self, task: asyncio.Task[Summary | None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("the library's index could not be brought up to date: %s", error)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def _read(self, query: Callable[[sqlite3.Connection], T], *, deadline_s: float | None = None) -> T:
        for _ in range(DAMAGED_FILES):
            database = self.index.opened or await asyncio.to_thread(self.index.database)
            try:
                return await database.read(query, deadline_s=deadline_s)
            except PumasError:
                if self.index.complete:
                    raise
            # The index was damaged and put aside under this very query: ask what took its place.
            await self._fresh()
        database = self.index.opened or await asyncio.to_thread(self.index.database)
        return await database.read(query, deadline_s=deadline_s)

    async def _current(self) -> _Totals:
        known = self._totals

        def query(c: sqlite3.Connection) -> _Totals:
            state = store.state(c)
            if known is not None and known.revision == state.revision:
                return _Totals(known.revision, known.models, known.size, known.pending, state.last_scan)
            models, size, pending = store.totals(c)
            return _Totals(state.revision, models, size, pending, state.last_scan)

        self._totals = await self._read(query)
        return self._totals


def _pack_models(c: sqlite3.Connection) -> tuple[int, bytes]:
    """(revision, the object of all models, compressed): kept, it takes a fifth of the memory."""
    packer = zlib.compressobj(1)
    packed = [packer.compress(b"{")]
    after, separator = "", ""
    while (piece := store.entry_objects(c, after, _MODELS_PER_PIECE)) is not None:
        members, after = piece
        packed.append(packer.compress(f"{separator}{members}".encode()))
        separator = ","
    packed.append(packer.compress(b"}") + packer.flush())
    return store.state(c).revision, b"".join(packed)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _count(folder: Path, *, folders: bool) -> int:
    """Files (or folders) directly in a folder; 0 when there is none."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.is_dir() if folders else entry.is_file() for entry in entries)
    except OSError:
        return 0
