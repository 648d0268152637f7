"""Downloads as their callers see them: start, follow, pause, resume, cancel, order, limit.

Each download is a job of the kind `download`; `downloading.py` carries it out on a thread of its own. What one is at
while it runs is answered from memory. Knows jobs and the hub, nothing of the wire.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from pumas.config import Layout
from pumas.downloads.bandwidth import Bandwidth
from pumas.downloads.meter import FileProgress, Meter, Snapshot
from pumas.downloads.patience import PATIENCE_S
from pumas.downloads.plan import DownloadPlan, DownloadRequest, make_plan
from pumas.downloads.queue import MOST_AT_ONCE, Queue
from pumas.downloads.schedule import Gate, Schedule, Watch
from pumas.downloads.settings import DownloadSettings, SettingsFile
from pumas.downloads.space import Space
from pumas.downloads.staged import arrived, parts_of
from pumas.errors import (
    ConnectionFailed,
    DownloadNotFound,
    DuplicateModel,
    Interrupted,
    JobNotFound,
    PumasError,
    WrongJobState,
)
from pumas.events.stream import EventStream
from pumas.jobs.service import JobContext, JobService
from pumas.jobs.store import Job, JobState, Json
from pumas.library.service import LibraryParts
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles

if TYPE_CHECKING:
    from pumas.hub.client import HubClient
    from pumas.net.client import NetworkClient

log = logging.getLogger(__name__)

T = TypeVar("T")

DOWNLOAD = "download"
_TICK_S = 0.5
# How long a start waits for the hub, and how many ask it at a time; who hangs there holds up nobody else.
START_S = 8.0
_ASKERS = 8
# How long the answer to a pause waits for the download to have stopped.
_PAUSE_S = 2.0
_SHOWN_FILES = 16
_UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)
_STATUS = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "downloading",
    JobState.PAUSED: "paused",
    JobState.COMPLETED: "completed",
    JobState.CANCELLED: "cancelled",
    JobState.FAILED: "error",
}
# What a running download is at -> the word for it on the wire.
_ACTIVITY = {"publishing": "verifying", "copying": "downloading"}


@dataclass(frozen=True)
class Download:
    """One download at this moment; sizes in bytes, `speed` in bytes per second.

    `status`: `queued downloading retrying waiting verifying cancelling paused completed cancelled error`. `message` is
    a sentence about a wait, a retry or a restart, or "". `place` is how many wait before it, None when it does not
    wait.
    """

    id: str
    repo_id: str
    revision: str
    title: str
    quant: str
    status: str
    downloaded: int
    total: int
    speed: float
    eta_s: float | None
    error: str
    error_code: str
    message: str
    restarts: int
    retries: int
    place: int | None
    result: Json | None
    created_at: str
    finished_at: str | None
    file_count: int
    files: list[FileProgress] = field(default_factory=list[FileProgress])

    @property
    def progress(self) -> float:
        """0.0 to 1.0."""
        if self.status == "completed":
            return 1.0
        return min(1.0, self.downloaded / self.total) if self.total else 0.0


@dataclass(frozen=True)
class Limits:
    """`open` says whether the schedule lets downloads run now."""

    bytes_per_second: int | None
    at_once: int
    schedule: Schedule | None
    open: bool


@dataclass(frozen=True)
class _Live:
    context: JobContext
    plan: DownloadPlan
    meter: Meter


class DownloadService:
    def __init__(
        self,
        layout: Layout,
        events: EventStream,
        troubles: Troubles,
        jobs: JobService,
        library: LibraryParts,
        network: NetworkClient,
        hub: HubClient,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._layout = layout
        self._events = events
        self._jobs = jobs
        self._library = library
        self._network = network
        self._hub = hub
        self._patience_s = patience_s
        self._file = SettingsFile(layout.download_settings, StateLock(layout.state_lock), troubles)
        self._settings = DownloadSettings()
        self._queue = Queue(self._settings.at_once)
        self._bandwidth = Bandwidth()
        self._gate = Gate()
        self._watch_clock = Watch(self._gate, self._tell_limits)
        self._space = Space(layout.library)
        self._live: dict[str, _Live] = {}
        # What killed downloads had brought, until they run again: their jobs do not know how far they were.
        self._found: dict[str, int] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._askers: ThreadPoolExecutor | None = None
        self._closed = False
        # Two equal calls at once get one download, and two different ones not the same room on the disk.
        self._starting = asyncio.Lock()
        # Settings are read, changed and written; two changes at once would undo each other.
        self._changing = asyncio.Lock()
        jobs.register(DOWNLOAD, self._run, turns=self._queue, keeps_failed=True, ended=self._ended)

    @property
    def bandwidth(self) -> Bandwidth:
        """The limit that the user set, for whoever else brings large files."""
        return self._bandwidth

    def room(self) -> int:
        """Bytes that a new download may take of the library's disk. Blocks; raises the disk's failures."""
        return self._space.room()

    async def open(self) -> None:
        """Go on with what a stop or a kill interrupted, in its order. Call after jobs and library are open."""
        self._settings = await asyncio.to_thread(self._file.load)
        self._apply(self._settings)
        self._watch_clock.follow(self._gate.is_open())
        paused = await self._jobs.list(kind=DOWNLOAD, states=(JobState.PAUSED,), limit=10_000)
        known = {job.id for job in paused}
        order = [job_id for job_id in self._settings.order if job_id in known]
        self._queue.add(order)
        self._queue.add(job.id for job in reversed(paused))
        killed = [job for job in paused if job.error_code == Interrupted.kind]
        self._found = await asyncio.to_thread(lambda: {job.id: self._arrived(job) for job in killed})
        interrupted = {job.id for job in killed}
        for job_id in [job_id for job_id in self._queue.order if job_id in interrupted]:
            await self._jobs.resume(job_id)

    def close(self) -> None:
        """Let go of the threads; running downloads stop at their next block and go on at the next start."""
        self._closed = True
        self._watch_clock.stop()
        if self._ticker is not None:
            self._ticker.cancel()
        for threads in (self._threads, self._askers):
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def start(self, request: DownloadRequest) -> Download:
        """Ask the hub what there is and begin; the same download that is not finished yet goes on instead.

        Raises:
            DuplicateModel: the library has all of its weights.
            NotEnoughSpace: not with what other downloads were promised.
            InvalidInput, PickleNotAcknowledged, RepoNotFound, GatedRepo, NetworkError, …: as `plan.make_plan`.
        """
        plan = await self._plan(request)
        async with self._starting:
            same = await self._unfinished_like(plan)
            if same is not None:
                return self._describe(await self._gone_on(same))
            await self._in_thread(lambda: self._require_new_with_room(plan))
            job = await self._jobs.start(DOWNLOAD, _params(plan), title=plan.title)
            self._queue.add([job.id])
            self._space.keep(job.id, lambda: plan.total_bytes)
            await self._keep_order()
        return self._describe(job)

    async def _plan(self, request: DownloadRequest) -> DownloadPlan:
        if self._askers is None:
            self._askers = ThreadPoolExecutor(_ASKERS, thread_name_prefix="download-plan")
        asking = asyncio.get_running_loop().run_in_executor(self._askers, make_plan, self._hub, request)
        try:
            return await asyncio.wait_for(asking, START_S)
        except TimeoutError:
            host = urlsplit(self._hub.endpoint).netloc
            raise ConnectionFailed(host, "did not answer in time", "timeout") from None

    async def _gone_on(self, job: Job) -> Job:
        """The same job, running again if it had stopped or was about to."""
        if job.state not in (JobState.PAUSED, JobState.FAILED) and not self._jobs.is_pausing(job.id):
            return job
        try:
            return await self._jobs.resume(job.id)
        except WrongJobState:  # it came to its end meanwhile
            return await self._jobs.get(job.id)

    async def status(self, download_id: str, *, files: bool = False) -> Download:
        """Raises DownloadNotFound."""
        job = await self._job(download_id)
        found = self._describe(job)
        live = self._live.get(job.id)
        return replace(found, files=live.meter.files() if live else _files_of(job)) if files else found

    async def list(self, *, finished: bool, limit: int) -> list[Download]:
        """Unfinished ones in the order of the queue, failed ones, then finished ones, newest first."""
        unfinished = await self._jobs.list(kind=DOWNLOAD, states=_UNFINISHED, limit=limit)
        place = {job_id: number for number, job_id in enumerate(self._queue.order)}
        unfinished.sort(key=lambda job: place.get(job.id, len(place)))
        states = (JobState.FAILED, *((JobState.COMPLETED, JobState.CANCELLED) if finished else ()))
        rest = await self._jobs.list(kind=DOWNLOAD, states=states, limit=limit)
        return [self._describe(job) for job in [*unfinished, *rest][:limit]]

    async def pause(self, download_id: str) -> Download:
        """What has arrived stays. The answer waits a little for the end of what was under way.

        Raises DownloadNotFound, WrongJobState.
        """
        await self._job(download_id)
        await self._jobs.pause(download_id)
        return self._describe(await self._jobs.wait(download_id, _PAUSE_S))

    async def resume(self, download_id: str) -> Download:
        """Go on with a paused or failed one. Raises DownloadNotFound, WrongJobState."""
        await self._job(download_id)
        return self._describe(await self._jobs.resume(download_id))

    async def cancel(self, download_id: str) -> Download:
        """Stop for good and remove what has arrived. Raises DownloadNotFound, WrongJobState."""
        await self._job(download_id)
        return self._describe(await self._jobs.cancel(download_id))

    async def move_first(self, download_ids: Sequence[str]) -> list[Download]:
        """These come first in the queue, in this order. Raises DownloadNotFound before anything is moved."""
        for download_id in download_ids:
            await self._job(download_id)
        self._queue.move_first(download_ids)
        await self._keep_order()
        self._events.publish("download.order", {"first": list(download_ids)})
        return await self.list(finished=False, limit=1000)

    def limits(self) -> Limits:
        settings = self._settings
        return Limits(settings.bytes_per_second, settings.at_once, settings.schedule, self._gate.is_open())

    def _tell_limits(self, is_open: bool) -> None:
        self._events.publish("download.limits", asdict(replace(self.limits(), open=is_open)))

    async def set_limits(self, change: Callable[[DownloadSettings], DownloadSettings]) -> Limits:
        """Change what `change` changes, at once for all running downloads. Raises the disk's failures."""
        async with self._changing:
            settings = change(self._settings)
            await self._in_thread(lambda: self._file.save(settings))
            self._settings = settings
            self._apply(settings)
            limits = self.limits()
            self._tell_limits(limits.open)
            self._watch_clock.follow(limits.open)
        return limits

    # -- one download ------------------------------------------------------------------------------------------------

    async def _run(self, context: JobContext, params: Json) -> Json:
        plan = DownloadPlan.from_json(params["plan"])
        shown = max(context.done, self._found.pop(context.job_id, 0))
        meter = Meter([(file.path, file.size) for file in plan.files], shown)
        live = self._live[context.job_id] = _Live(context, plan, meter)
        self._watch()
        try:
            return await self._in_thread(lambda: self._carry_out(context, plan, meter))
        finally:
            self._tell(live, last=True)
            del self._live[context.job_id]

    def _carry_out(self, context: JobContext, plan: DownloadPlan, meter: Meter) -> Json:
        # Imported here: it takes 20 ms, for which nobody else should have to wait.
        from pumas.downloads.downloading import Download as Run
        from pumas.downloads.downloading import Tools

        tools = Tools(
            self._layout,
            self._library,
            self._hub,
            self._network,
            self._bandwidth,
            self._gate,
            self._space,
            self._patience_s,
        )
        return Run(tools, context, plan, meter).run()

    async def _ended(self, job: Job) -> None:
        """It stopped, or never ran, whichever method was called for that."""
        self._space.release(job.id)
        if job.state is not JobState.PAUSED:
            self._queue.forget(job.id)
            await self._keep_order()

    def _arrived(self, job: Job) -> int:
        try:
            files = DownloadPlan.from_json(job.params["plan"]).files
            return arrived(files, _done_of(job), parts_of(self._library.staging, job.id))
        except (PumasError, KeyError, TypeError, ValueError):
            return 0  # it says what is wrong when it runs

    def _watch(self) -> None:
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.create_task(self._tick(), name="downloads")

    async def _tick(self) -> None:
        while self._live:
            for live in list(self._live.values()):
                self._tell(live)
            await asyncio.sleep(_TICK_S)

    def _tell(self, live: _Live, *, last: bool = False) -> None:
        now = live.meter.snapshot()
        live.context.report(stage=_word(now), done=now.downloaded, total=now.total, item=live.plan.repo_id, last=last)
        moving = [file for file in live.meter.files() if file.state == "downloading"] if len(live.plan.files) else []
        self._events.publish(
            "download.progress",
            {
                "download_id": live.context.job_id,
                "repo_id": live.plan.repo_id,
                "status": _word(now),
                "downloaded_bytes": now.downloaded,
                "total_bytes": now.total,
                "speed": now.speed,
                "eta_seconds": now.eta_s,
                "message": now.note,
                "files": [{"path": f.path, "size": f.size, "downloaded": f.downloaded} for f in moving[:_SHOWN_FILES]],
            },
        )

    def _describe(self, job: Job) -> Download:
        plan, live = job.params["plan"], self._live.get(job.id)
        now = live.meter.snapshot() if live else None
        status = _word(now) if now and job.state is JobState.RUNNING else _STATUS[job.state]
        done = job.state is JobState.COMPLETED
        total = int(job.params["total_bytes"])
        return Download(
            id=job.id,
            repo_id=plan["repo_id"],
            revision=plan["commit"],
            title=job.title,
            quant=plan["quant"],
            status="cancelling" if self._jobs.is_cancelling(job.id) else status,
            downloaded=total if done else now.downloaded if now else max(job.done, self._found.get(job.id, 0)),
            total=total,
            speed=now.speed if now and job.state is JobState.RUNNING else 0.0,
            eta_s=now.eta_s if now and job.state is JobState.RUNNING else None,
            error=(job.error or "The download failed.") if job.state is JobState.FAILED else "",
            error_code=(job.error_code or "") if job.state is JobState.FAILED else "",
            message=now.note if now else "",
            restarts=now.restarts if now else 0,
            retries=now.retries if now else 0,
            place=self._queue.place_of(job.id),
            result=job.result,
            created_at=job.created_at,
            finished_at=job.finished_at,
            file_count=len(plan["files"]),
        )

    async def _job(self, download_id: str) -> Job:
        try:
            job = await self._jobs.get(download_id)
        except JobNotFound:
            raise DownloadNotFound(download_id) from None
        if job.kind != DOWNLOAD:
            raise DownloadNotFound(download_id)
        return job

    # -- starting ----------------------------------------------------------------------------------------------------

    async def _unfinished_like(self, plan: DownloadPlan) -> Job | None:
        """One that brings the same files. Under another name, too: the library would refuse them a second time."""
        states = (*_UNFINISHED, JobState.FAILED)
        for job in await self._jobs.list(kind=DOWNLOAD, states=states, limit=1000):
            if self._jobs.is_cancelling(job.id):
                continue
            given = job.params["plan"]
            if (given["repo_id"], given["commit"]) == (plan.repo_id, plan.commit):
                other = DownloadPlan.from_json(given)
                again = plan.request == other.request or not plan.request.allow_duplicate
                if again and plan.fetches_the_same_as(other):
                    return job
        return None

    def _require_new_with_room(self, plan: DownloadPlan) -> None:
        weights = {
            (file.sha256, file.size) for file in plan.files if file.path in plan.weights and file.sha256 is not None
        }
        if weights and not plan.request.allow_duplicate:
            twin = self._library.holdings.model_with(weights)
            if twin is not None:
                raise DuplicateModel(twin)
        self._space.require(plan.total_bytes)

    async def _keep_order(self) -> None:
        if self._closed:
            return
        async with self._changing:
            order = tuple(self._queue.order)
            self._settings = await self._in_thread(lambda: self._file.save_order(self._settings, order))

    def _apply(self, settings: DownloadSettings) -> None:
        self._bandwidth.limit(settings.bytes_per_second)
        self._gate.set(settings.schedule)
        self._queue.limit(settings.at_once)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MOST_AT_ONCE + 4, thread_name_prefix="download")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _word(now: Snapshot) -> str:
    return _ACTIVITY.get(now.activity, now.activity)


def _params(plan: DownloadPlan) -> Json:
    return {"plan": plan.to_json(), "total_bytes": plan.total_bytes}


def _done_of(job: Job) -> Json:
    return (job.checkpoint or {}).get("done") or {}


def _files_of(job: Job) -> list[FileProgress]:
    """Of one that does not run: what its checkpoint says."""
    done = _done_of(job)
    whole = job.state is JobState.COMPLETED
    return [
        FileProgress(f["path"], f["size"], f["size"] if whole or f["path"] in done else 0,
                     "done" if whole or f["path"] in done else "waiting")
        for f in job.params["plan"]["files"]
    ]  # fmt: skip
