"""Adoption as its callers see it: scan other programs' stores, take models in without copying, list, undo.

Scans and adoptions are jobs that are answered at once when they are quick. The last scans are kept in memory, so that
an id from them is found again without another look; older ids are looked up by a new scan. The work itself is
`work.py`, loaded when it is first needed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pumas.adoption.store import Journal
from pumas.adoption.values import ListedAdoption, Wanted
from pumas.config import Layout
from pumas.errors import InvalidInput, JobNotFound, PumasError, TimedOut
from pumas.jobs.service import JobContext, JobService
from pumas.jobs.store import Job, JobState, Json
from pumas.library.service import ANSWER_WITHIN_S, LibraryParts
from pumas.storage.database import Database

if TYPE_CHECKING:
    from pumas.adoption.locations import Surroundings
    from pumas.adoption.scan import Scan
    from pumas.adoption.undoing import Undone
    from pumas.adoption.work import AdoptionWork

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
class AdoptAnswer:
    """What is done so far; `pending` items are not among the results yet."""

    job_id: str | None
    results: list[Json]
    pending: int


class AdoptionService:
    def __init__(
        self,
        layout: Layout,
        parts: LibraryParts,
        jobs: JobService,
        database: Database,
        around: Callable[[], Surroundings] | None = None,
    ) -> None:
        """`around` says where programs keep their models; by default what this machine says."""
        self._jobs = jobs
        self._journal = Journal(database)
        self._make_work: Callable[[], AdoptionWork] = lambda: _work(layout, parts, self._journal, around)
        self._work: AdoptionWork | None = None
        self._making = threading.Lock()
        self._scans: dict[str, Scan] = {}
        self._threads: ThreadPoolExecutor | None = None
        jobs.register(SCAN, self._run_scan)
        jobs.register(ADOPT, self._run_adopt)

    async def open(self) -> None:
        """Finish or take back what a killed process left half done. Call after the library is open."""
        try:
            if await asyncio.to_thread(lambda: self._journal.exists and bool(self._journal.unfinished())):
                await asyncio.to_thread(lambda: self.work.recover())
        except PumasError as error:
            log.warning("not every adoption of an earlier run could be looked after: %s", error)

    @property
    def work(self) -> AdoptionWork:
        """Loads much at its first use: from worker threads only."""
        with self._making:
            if self._work is None:
                self._work = self._make_work()
            return self._work

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
        paths = await asyncio.to_thread(_checked, folders)
        params: Json = {"folders": paths, "known": known}
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
        scan = await self._in_thread(
            lambda: self.work.scan(params["folders"], known=params["known"], check=context.check)
        )
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

    async def adopt(self, wanted: Sequence[Wanted], mode: str, folders: Sequence[str], *, dry_run: bool) -> AdoptAnswer:
        """Take models in and answer with what is done within ten seconds; the job goes on with the rest.

        Args:
            folders: where else to look for ids, as they were given to the scan.

        Raises:
            StoredModelNotFound, InvalidInput, UnsafePath, TimedOut: one of `wanted` cannot be found; nothing was done.
        """
        if not wanted:
            return AdoptAnswer(None, [], 0)
        finding = asyncio.ensure_future(
            asyncio.to_thread(
                lambda: self.work.requests(wanted, mode, folders, list(self._scans.values()), dry_run=dry_run)
            )
        )
        try:
            requests = await asyncio.wait_for(asyncio.shield(finding), FIND_WITHIN_S)
        except TimeoutError:
            finding.add_done_callback(lambda done: done.exception())
            raise TimedOut("Finding these models took too long; scan first, then adopt by stored_id.") from None
        title = f"Adopt {requests[0].name}" if len(requests) == 1 else f"Adopt {len(requests)} models"
        job = await self._jobs.start(ADOPT, {"requests": [request.to_json() for request in requests]}, title=title)
        job = await self._jobs.wait(job.id, ADOPT_WITHIN_S)
        return _answer(job, [(request.store, request.name) for request in requests])

    async def _run_adopt(self, context: JobContext, params: Json) -> Json:
        return await self._in_thread(lambda: self.work.adopt(context, params["requests"]))

    # -- adoptions ---------------------------------------------------------------------------------------------------

    async def adoptions(self, *, undone: bool, limit: int, offset: int) -> tuple[list[ListedAdoption], int]:
        """(newest first, number of all). Raises the disk's failures."""

        def read() -> tuple[list[ListedAdoption], int]:
            if not self._journal.exists:
                return [], 0
            return self.work.adoptions(undone=undone, limit=limit, offset=offset)

        return await asyncio.to_thread(read)

    async def undo(self, *, adoption_id: str | None, model_id: str | None, dry_run: bool) -> Undone:
        """See `Undoer.undo`. Raises InvalidInput unless exactly one of the two is given."""
        if (adoption_id is None) == (model_id is None):
            raise InvalidInput("adoption_id", "give either adoption_id or model_id")
        return await asyncio.to_thread(
            lambda: self.work.undo(adoption_id=adoption_id, model_id=model_id, dry_run=dry_run)
        )


def _work(
    layout: Layout, parts: LibraryParts, journal: Journal, around: Callable[[], Surroundings] | None
) -> AdoptionWork:
    from pumas.adoption.work import AdoptionWork

    return AdoptionWork(layout, parts, journal, around)


def _checked(folders: Sequence[str]) -> list[str]:
    """Raises UnsafePath, InvalidInput."""
    from pumas.adoption.work import given_folders

    return [str(path) for path in given_folders(folders)]


def _answer(job: Job, requests: Sequence[tuple[str, str]]) -> AdoptAnswer:
    if job.state is JobState.COMPLETED:
        return AdoptAnswer(job.id, list((job.result or {})["results"]), 0)
    done: list[Json] = list((job.checkpoint or {}).get("results") or [])
    if job.state in (JobState.QUEUED, JobState.RUNNING):
        return AdoptAnswer(job.id, done, len(requests) - len(done))
    # The job itself ended early (cancelled, interrupted, a full disk): the items it had not reached say why.
    rest: list[Json] = [
        {
            "store": store,
            "name": name,
            "success": False,
            "error": job.error or f"The adoption is {job.state}.",
            "error_code": job.error_code or str(job.state),
        }
        for store, name in requests[len(done) :]
    ]
    return AdoptAnswer(job.id, done + rest, 0)
