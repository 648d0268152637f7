"""The index as the rest of the program uses it: always there, as fresh as a cheap look can make it, never in the way.

The first use after a start waits for the first reconcile, but not for long; later uses look at the few folders above
the models at most once a second and start a full look in the background now and then. Nothing runs while nobody asks.
`LibraryIndex` is the same for worker threads. Nothing here knows the wire.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from pumas import footprint
from pumas.config import Layout
from pumas.errors import PumasError
from pumas.events.stream import EventStream
from pumas.library import search, store
from pumas.library.facets import FacetCounts
from pumas.library.library_index import LibraryIndex, State
from pumas.library.reading import Identify, identify_file
from pumas.library.reconcile import Summary
from pumas.storage.database import DAMAGED_FILES
from pumas.storage.troubles import Troubles

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_WAIT_S = 8.0
CHANGED_WAIT_S = 0.5
SHALLOW_EVERY_S = 1.0
FULL_EVERY_S = 10.0
# A full look at a huge library may take at most this share of one processor.
_FULL_SHARE = 0.05
_MODELS_PER_PIECE = 500
# Counting all models of a huge library by everything takes most of a second on a slow machine.
_FACETS_DEADLINE_S = 9.0
_NO_FILTERS = search.Filters()


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


def _count(folder: Path, *, folders: bool) -> int:
    """Files (or folders) directly in a folder; 0 when there is none."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.is_dir() if folders else entry.is_file() for entry in entries)
    except OSError:
        return 0
