"""The library as its callers see it: find, import, change, delete, bring back, verify.

Puts the parts together and moves their blocking work off the event loop; what each part promises is written there.
Knows jobs, nothing of the wire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ParamSpec, TypeVar

from pumas.config import Layout
from pumas.errors import PumasError
from pumas.jobs.service import JobService
from pumas.jobs.store import Job, JobState, Json
from pumas.library.catalog import Catalog
from pumas.library.companions import Companions, NoCompanions
from pumas.library.facets import FacetCounts
from pumas.library.holdings import Holdings
from pumas.library.import_plan import ImportRequest
from pumas.library.importing import ImportService
from pumas.library.index import Index
from pumas.library.metadata import ModelMetadata
from pumas.library.publishing import Publisher
from pumas.library.search import Filters, Page, Sort
from pumas.library.staging import Staging
from pumas.library.trash import Trash, TrashEntry
from pumas.library.verify import VerifyService
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# No call takes longer than 10 s; what is not done by then goes on as a job.
ANSWER_WITHIN_S = 9.0
IMPORT, VERIFY = "import", "verify"


@dataclass(frozen=True)
class ImportAnswer:
    """What is done so far. `results` are in the order of the requests; `pending` of them are not among them yet."""

    job_id: str | None
    results: list[Json]
    pending: int


@dataclass(frozen=True)
class ModelDetail:
    model_id: str
    folder: str
    metadata: Json
    overrides: Json


@dataclass(frozen=True)
class LibraryParts:
    """What another domain needs that brings models in by itself. Calls block; they come from worker threads."""

    index: Index
    staging: Staging
    publisher: Publisher
    models: ModelMetadata
    trash: Trash
    holdings: Holdings


class LibraryService:
    def __init__(
        self,
        layout: Layout,
        catalog: Catalog,
        jobs: JobService,
        troubles: Troubles,
        companions: Companions | None = None,
    ) -> None:
        self.catalog = catalog
        self._companions = companions or NoCompanions()
        self._library = layout.library
        self._jobs = jobs
        self._troubles = troubles
        lock = StateLock(layout.state_lock)
        index = catalog.index
        self._staging = Staging(layout.library, layout.staging)
        self._models = ModelMetadata(layout.library, lock, index)
        self._trash = Trash(layout.library, layout.trash, lock, index, self._companions)
        self._imports = ImportService(layout, lock, self._staging, index)
        self.parts = LibraryParts(
            index, self._staging, self._imports.publisher, self._models, self._trash, self._imports.holdings
        )
        self._verify = VerifyService(layout, self._models, index, troubles)
        jobs.register(IMPORT, self._imports.run, at_once=2)
        jobs.register(VERIFY, self._verify.run)

    async def open(self) -> None:
        """Finish what a killed process left half done. Call after the jobs are open."""
        unfinished = await self._jobs.list(states=(JobState.PAUSED, JobState.FAILED), limit=10_000)
        await asyncio.to_thread(self._recover, {job.id for job in unfinished})

    def _recover(self, open_jobs: set[str]) -> None:
        steps: tuple[Callable[[], object], ...] = (
            self._trash.recover,
            partial(self._staging.sweep, open_jobs.__contains__),
            self._report_leftovers,
        )
        for step in steps:
            try:
                step()
            except PumasError as error:
                # A library on a drive that is away or read-only: nothing is lost, the next start tries again.
                log.warning("not everything left by an earlier run could be finished: %s", error)

    def _report_leftovers(self) -> None:
        for leftover in self._staging.leftovers():
            self._troubles.report(leftover.path, "leftover", leftover.message)

    async def close(self) -> None:
        self._imports.close()
        self._verify.close()
        await self.catalog.close()

    def troubles(self) -> Troubles:
        """What is wrong with files and folders."""
        return self._troubles

    def folder_of(self, model_id: str) -> str:
        """The absolute path of an indexed model's folder."""
        return f"{self._library}/{model_id}"

    def verifying(self) -> bool:
        """Whether a verification runs or waits."""
        return self._jobs.is_active(VERIFY)

    # -- finding -------------------------------------------------------------------------------------------------------

    async def search(
        self,
        text: str,
        filters: Filters,
        apps: Sequence[str],
        *,
        limit: int,
        offset: int,
        sort: Sort = "relevance",
    ) -> Page:
        """See `Catalog.search`; with `apps` only among the models that one of these apps uses."""
        among = await self._among(filters, apps)
        return await self.catalog.search(text, filters=among, limit=limit, offset=offset, sort=sort)

    async def facets(self, text: str, filters: Filters, apps: Sequence[str]) -> FacetCounts:
        """See `Catalog.facets`."""
        used_by = await asyncio.to_thread(self._companions.used_by)
        return await self.catalog.facets(text, filters=await self._among(filters, apps), models_of=used_by)

    async def _among(self, filters: Filters, apps: Sequence[str]) -> Filters:
        if not apps:
            return filters
        used_by = await asyncio.to_thread(self._companions.used_by)
        return replace(filters, ids=sorted({model_id for app in apps for model_id in used_by.get(app, ())}))

    # -- one model ---------------------------------------------------------------------------------------------------

    async def detail(self, model_id: str) -> ModelDetail:
        """Raises ModelNotFound, UnsafePath, CorruptState."""

        def read() -> ModelDetail:
            folder = self._models.folder(model_id)
            return ModelDetail(model_id, str(folder), self._models.load(model_id), self._models.overrides(model_id))

        return await asyncio.to_thread(read)

    async def overrides(self, model_id: str) -> Json:
        """Raises ModelNotFound, UnsafePath, CorruptState."""
        return await asyncio.to_thread(self._models.overrides, model_id)

    async def update_overrides(self, model_id: str, overrides: Json) -> None:
        """Raises InvalidInput, ModelNotFound, UnsafePath, CorruptState, and the disk's failures."""
        await asyncio.to_thread(self._models.update_overrides, model_id, overrides)

    async def mark_manual(self, model_id: str) -> None:
        """Raises ModelNotFound, UnsafePath, CorruptState, and the disk's failures."""
        await asyncio.to_thread(self._models.mark_manual, model_id)

    async def edit(self, model_id: str, changes: Json) -> None:
        """Raises ModelNotFound, UnsafePath, CorruptState, and the disk's failures."""
        await asyncio.to_thread(self._models.edit, model_id, changes)

    # -- import and verify -------------------------------------------------------------------------------------------

    async def import_models(self, requests: Sequence[ImportRequest], wait_s: float = ANSWER_WITHIN_S) -> ImportAnswer:
        """Start an import and answer with what is done within `wait_s` seconds; the job goes on with the rest.

        With 0 nothing is done yet, however fast it is.
        """
        if not requests:
            return ImportAnswer(None, [], 0)
        first = requests[0].path.rstrip("/").rpartition("/")[2]
        title = f"Import {first}" if len(requests) == 1 else f"Import {len(requests)} items"
        job = await self._jobs.start(IMPORT, self._imports.job_params(requests), title=title)
        return _answer(await self._jobs.wait(job.id, wait_s) if wait_s else job, requests)

    async def verify(self, model_ids: Sequence[str] | None) -> Job:
        """Start hashing all models, or these. Raises ModelNotFound, UnsafePath when one of them does not exist."""
        if model_ids is not None:
            await asyncio.to_thread(lambda: [self._models.folder(model_id) for model_id in model_ids])
        title = "Verify the library" if model_ids is None else f"Verify {len(model_ids)} models"
        return await self._jobs.start(VERIFY, self._verify.job_params(model_ids), title=title)

    # -- trash -------------------------------------------------------------------------------------------------------

    async def delete(self, model_id: str, *, dry_run: bool) -> TrashEntry:
        """Raises ModelNotFound, UnsafePath, and the disk's failures."""
        return await asyncio.to_thread(self._trash.delete, model_id, dry_run=dry_run)

    async def trash(self) -> list[TrashEntry]:
        return await asyncio.to_thread(self._trash.list)

    async def restore(self, trash_id: str, *, dry_run: bool) -> TrashEntry:
        """Raises TrashEntryNotFound, AlreadyExists, and the disk's failures."""
        return await asyncio.to_thread(self._trash.restore, trash_id, dry_run=dry_run)

    async def empty_trash(
        self, trash_ids: Sequence[str] | None, *, older_than_days: float, dry_run: bool
    ) -> Sequence[TrashEntry]:
        """Raises TrashEntryNotFound before anything is removed, and the disk's failures."""
        return await asyncio.to_thread(
            partial(self._trash.empty, trash_ids, older_than_days=older_than_days, dry_run=dry_run)
        )


def _answer(job: Job, requests: Sequence[ImportRequest]) -> ImportAnswer:
    if job.state is JobState.COMPLETED:
        return ImportAnswer(job.id, list((job.result or {})["results"]), 0)
    done: list[Json] = list((job.checkpoint or {}).get("results") or [])
    if job.state in (JobState.QUEUED, JobState.RUNNING):
        return ImportAnswer(job.id, done, len(requests) - len(done))
    # The job itself ended early (cancelled, interrupted, a full disk): the items it had not reached say why.
    rest: list[Any] = [
        {"path": request.path, "success": False, "error": job.error or f"The import is {job.state}.",
         "error_code": job.error_code or str(job.state)}
        for request in requests[len(done) :]
    ]  # fmt: skip
    return ImportAnswer(job.id, done + rest, 0)
