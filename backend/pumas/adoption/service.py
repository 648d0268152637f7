"""Adoption as its callers see it: scan other programs' stores, take models in without copying, list, undo.

Scans and adoptions are jobs that are answered at once when they are quick. The last scan is kept in memory, so that an
id from it is found again without another look; ids from older ones are looked up by a new scan.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pumas.adoption.adopting import Adopter, find_model
from pumas.adoption.found import Look
from pumas.adoption.locations import Surroundings, known_locations, locations_in
from pumas.adoption.planning import AdoptMode, AdoptRequest
from pumas.adoption.scan import Scan, Scanner
from pumas.adoption.store import Adoption, Journal
from pumas.adoption.undoing import Undoer, Undone
from pumas.config import Layout
from pumas.errors import InvalidInput, JobNotFound, PumasError, StoredModelNotFound, TimedOut
from pumas.jobs.service import JobContext, JobService
from pumas.jobs.store import Job, JobState, Json
from pumas.library.metadata import METADATA
from pumas.library.references import REFERENCES, State, references, state_of
from pumas.library.service import ANSWER_WITHIN_S, LibraryParts
from pumas.storage import json_file
from pumas.storage.database import Database
from pumas.storage.paths import caller_path

log = logging.getLogger(__name__)

T = TypeVar("T")

SCAN, ADOPT = "scan_stores", "adopt"
_KEPT_SCANS = 2
# Finding what to adopt and then answering with what is done must not take longer than a call may.
FIND_WITHIN_S = 4.0
ADOPT_WITHIN_S = 5.0


@dataclass(frozen=True)
class ScanAnswer:
    """`scan` is None while the job still looks."""

    job_id: str
    scan: Scan | None


@dataclass(frozen=True)
class Wanted:
    """One thing to adopt: by the id of a scan, or by store and name."""

    id: str | None = None
    store: str | None = None
    name: str | None = None
    revision: str | None = None
    official_name: str = ""
    family: str = ""
    model_type: str = ""
    subtype: str = ""
    tags: tuple[str, ...] = ()
    security_acknowledged: bool = False
    allow_duplicate: bool = False


@dataclass(frozen=True)
class AdoptAnswer:
    """What is done so far; `pending` items are not among the results yet."""

    job_id: str | None
    results: list[Json]
    pending: int


@dataclass(frozen=True)
class ListedAdoption:
    """A row with what is true now. `present`: the model is in its place; `files` say where the owner's are."""

    row: Adoption
    present: bool
    state: State
    official_name: str = ""
    files: tuple[str, ...] = field(default=())


class AdoptionService:
    def __init__(
        self,
        layout: Layout,
        parts: LibraryParts,
        jobs: JobService,
        database: Database,
        around: Callable[[], Surroundings] | None = None,
    ) -> None:
        self._layout = layout
        self._jobs = jobs
        self._journal = Journal(database)
        self._around = around or (lambda: Surroundings.real(layout))
        self._scanner = Scanner(layout, parts.index, self._around)
        self._adopter = Adopter(layout, self._scanner, self._journal, parts.staging, parts.publisher, parts.index)
        self._undoer = Undoer(layout.trash, parts.models, parts.trash, self._journal)
        self._scans: dict[str, Scan] = {}
        self._threads: ThreadPoolExecutor | None = None
        jobs.register(SCAN, self._run_scan)
        jobs.register(ADOPT, self._run_adopt)

    async def open(self) -> None:
        """Finish or take back what a killed process left half done. Call after the library is open."""
        try:
            await asyncio.to_thread(self._adopter.recover)
        except PumasError as error:
            log.warning("not every adoption of an earlier run could be looked after: %s", error)

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Jobs have threads of their own: they must not fill those that short calls wait for."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="adoption")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # -- scan --------------------------------------------------------------------------------------------------------

    async def scan(self, folders: Sequence[str], *, known: bool) -> ScanAnswer:
        """Look at the stores in `folders` and, with `known`, at those where programs keep theirs.

        Raises:
            UnsafePath: one of the folders is no absolute path.
            InvalidInput: one of them is no folder.
        """
        paths = await asyncio.to_thread(_folders, folders)
        params: Json = {"folders": [str(path) for path in paths], "known": known}
        job = await self._jobs.start(SCAN, params, title="Scan the model stores of other programs")
        return await self.scanned(job.id)

    async def scanned(self, job_id: str) -> ScanAnswer:
        """The scan of a job, waiting for it for some seconds.

        Raises:
            JobNotFound: no such scan, or it was too long ago.
            PumasError: the scan failed or was cancelled.
        """
        job = await self._jobs.wait(job_id, ANSWER_WITHIN_S)
        if job.kind != SCAN:
            raise JobNotFound(job_id)
        if job.state in (JobState.QUEUED, JobState.RUNNING):
            return ScanAnswer(job.id, None)
        scan = self._scans.get(job.id)
        if scan is None:
            if job.state is JobState.COMPLETED:
                raise JobNotFound(job_id)
            raise PumasError(job.error or f"The scan is {job.state}.")
        return ScanAnswer(job.id, scan)

    async def _run_scan(self, context: JobContext, params: Json) -> Json:
        folders = [Path(folder) for folder in params["folders"]]
        scan = await self._in_thread(lambda: self._scanner.scan(folders, known=params["known"], check=context.check))
        while len(self._scans) >= _KEPT_SCANS:
            self._scans.pop(next(iter(self._scans)))
        self._scans[context.job_id] = scan
        return {
            "stores": len(scan.stores),
            "models": sum(len(store.models) for store in scan.stores),
            "freed_bytes": scan.duplicates.freed_bytes,
            "seconds": scan.seconds,
        }

    # -- adopt -------------------------------------------------------------------------------------------------------

    async def adopt(
        self, wanted: Sequence[Wanted], mode: AdoptMode, folders: Sequence[str], *, dry_run: bool
    ) -> AdoptAnswer:
        """Take models in and answer with what is done within ten seconds; the job goes on with the rest.

        Args:
            folders: where else to look for ids, as they were given to the scan.

        Raises:
            StoredModelNotFound, InvalidInput, UnsafePath, TimedOut: one of `wanted` cannot be found; nothing was done.
        """
        if not wanted:
            return AdoptAnswer(None, [], 0)
        finding = asyncio.ensure_future(
            asyncio.to_thread(lambda: self._requests(wanted, mode, folders, dry_run=dry_run))
        )
        try:
            requests = await asyncio.wait_for(asyncio.shield(finding), FIND_WITHIN_S)
        except TimeoutError:
            finding.add_done_callback(lambda done: done.exception())
            raise TimedOut("Finding these models took too long; scan first, then adopt by stored_id.") from None
        title = f"Adopt {requests[0].name}" if len(requests) == 1 else f"Adopt {len(requests)} models"
        job = await self._jobs.start(ADOPT, {"requests": [request.to_json() for request in requests]}, title=title)
        job = await self._jobs.wait(job.id, ADOPT_WITHIN_S)
        return _answer(job, requests)

    async def _run_adopt(self, context: JobContext, params: Json) -> Json:
        requests = [AdoptRequest.from_json(value) for value in params["requests"]]
        return await self._in_thread(lambda: self._adopter.run(context, requests))

    def _requests(
        self, wanted: Sequence[Wanted], mode: AdoptMode, folders: Sequence[str], *, dry_run: bool
    ) -> list[AdoptRequest]:
        paths = _folders(folders)
        ids = {one.id for one in wanted if one.id is not None}
        by_id = {model.id: model for scan in self._scans.values() for model in scan.models() if model.id in ids}
        if ids - by_id.keys():
            fresh = self._scanner.scan(paths, known=True)
            by_id |= {model.id: model for model in fresh.models() if model.id in ids}
        requests: list[AdoptRequest] = []
        for one in wanted:
            if one.id is not None:
                if one.id not in by_id:
                    raise StoredModelNotFound(one.id)
                model = by_id[one.id]
                request = AdoptRequest(model.kind, model.store, model.name, model.revision)
            else:
                request = self._by_name(one)
            requests.append(
                replace(
                    request,
                    mode=mode,
                    official_name=one.official_name,
                    family=one.family,
                    model_type=one.model_type,
                    subtype=one.subtype,
                    tags=one.tags,
                    security_acknowledged=one.security_acknowledged,
                    allow_duplicate=one.allow_duplicate,
                    dry_run=dry_run,
                )
            )
        return requests

    def _by_name(self, one: Wanted) -> AdoptRequest:
        if one.store is None or one.name is None:
            raise InvalidInput("items", "each needs the stored_id of a scan, or store and name")
        (folder,) = _folders([one.store], "store")
        kinds = {location.path: location for location in known_locations(self._around())}
        for location in [kinds.get(found.path, found) for found in locations_in(folder)]:
            store = self._scanner.read(Look(), location)
            if any(model.name == one.name for model in store.models):
                model = find_model(store.models, one.name, one.revision)
                return AdoptRequest(location.kind, location.path, model.name, model.revision)
        raise StoredModelNotFound(one.name)

    # -- adoptions ---------------------------------------------------------------------------------------------------

    async def adoptions(self, *, undone: bool, limit: int, offset: int) -> tuple[list[ListedAdoption], int]:
        """(newest first, number of all). Raises the disk's failures."""

        def read() -> tuple[list[ListedAdoption], int]:
            if not self._journal.exists:
                return [], 0
            rows, total = self._journal.list(undone=undone, limit=limit, offset=offset)
            return [self._listed(row) for row in rows], total

        return await asyncio.to_thread(read)

    def _listed(self, row: Adoption) -> ListedAdoption:
        try:
            if not self._adopter.holds(row):
                return ListedAdoption(row, False, State.OK)
            metadata = json_file.load(self._layout.library / row.model_id / METADATA).value or {}
        except PumasError:
            return ListedAdoption(row, False, State.OK)
        outside = references(metadata.get(REFERENCES))
        name = metadata.get("official_name")
        files = tuple(reference.path for reference in outside)
        return ListedAdoption(row, True, state_of(outside), name if isinstance(name, str) else "", files)

    async def undo(self, *, adoption_id: str | None, model_id: str | None, dry_run: bool) -> Undone:
        """See `Undoer.undo`. Raises InvalidInput unless exactly one of the two is given."""
        if (adoption_id is None) == (model_id is None):
            raise InvalidInput("adoption_id", "give either adoption_id or model_id")
        return await asyncio.to_thread(
            lambda: self._undoer.undo(adoption_id=adoption_id, model_id=model_id, dry_run=dry_run)
        )


def _folders(texts: Sequence[str], field: str = "folders") -> list[Path]:
    """Raises UnsafePath, InvalidInput."""
    paths = [caller_path(text, field) for text in texts]
    for path in paths:
        if not path.is_dir():
            raise InvalidInput(field, f"{path.name[:100]} is no folder that can be looked into")
    return paths


def _answer(job: Job, requests: Sequence[AdoptRequest]) -> AdoptAnswer:
    if job.state is JobState.COMPLETED:
        return AdoptAnswer(job.id, list((job.result or {})["results"]), 0)
    done: list[Json] = list((job.checkpoint or {}).get("results") or [])
    if job.state in (JobState.QUEUED, JobState.RUNNING):
        return AdoptAnswer(job.id, done, len(requests) - len(done))
    # The job itself ended early (cancelled, interrupted, a full disk): the items it had not reached say why.
    rest: list[Json] = [
        {
            "store": request.store,
            "name": request.name,
            "success": False,
            "error": job.error or f"The adoption is {job.state}.",
            "error_code": job.error_code or str(job.state),
        }
        for request in requests[len(done) :]
    ]
    return AdoptAnswer(job.id, done + rest, 0)
