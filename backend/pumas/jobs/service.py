"""Long work with an id: start, follow, pause, resume, cancel, and go on after a crash.

A domain registers one runner per kind of job. A runner is an async function that gets a `JobContext` (to report, to
keep a checkpoint, and to learn that it should stop) and the job's parameters; it returns the result object or raises.
Runners must be able to start again from their checkpoint. This module knows no kind by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pumas.errors import Cancelled, Interrupted, JobNotFound, PumasError, WrongJobState
from pumas.events.stream import EventStream
from pumas.jobs.store import Job, JobState, JobStore, Json, changed, now

log = logging.getLogger(__name__)

# Progress is told at most this often per job; the first and last word always.
PROGRESS_INTERVAL_S = 0.25
PARK_TIMEOUT_S = 0.7


class Runner(Protocol):
    def __call__(self, context: JobContext, params: Json) -> Awaitable[Json]: ...


@dataclass
class _Kind:
    run: Runner
    slots: asyncio.Semaphore


@dataclass
class _Active:
    """A job in memory. `stop` is what the runner should raise at its next check; None means go on."""

    job: Job
    stop: type[PumasError] | None = None
    pause: bool = False
    task: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class JobContext:
    """What a runner sees of its job. `check` and `report` may be called from any thread."""

    def __init__(self, service: JobService, active: _Active) -> None:
        self._service = service
        self._active = active
        self._last_report = 0.0
        self._lock = threading.Lock()

    @property
    def job_id(self) -> str:
        return self._active.job.id

    @property
    def checkpoint(self) -> Json:
        """What the runner saved last, `{}` at the first start."""
        return dict(self._active.job.checkpoint or {})

    def check(self) -> None:
        """Raise Cancelled or Interrupted when the job should stop. Cheap: call it per block of work."""
        if self._active.stop is not None:
            raise self._active.stop("The job was stopped.")

    def report(self, *, stage: str, done: int, total: int, item: str = "", unit: str = "bytes") -> None:
        """Say how far the work is. Calls beyond a few per second are dropped, except at a new stage and at the end."""
        moment = time.monotonic()
        with self._lock:
            new_stage = stage != self._active.job.stage
            if not new_stage and done < total and moment - self._last_report < PROGRESS_INTERVAL_S:
                return
            self._last_report = moment
        self._service.progressed(self._active, stage=stage, done=done, total=total, item=item, unit=unit)

    async def save_checkpoint(self, state: Json) -> None:
        """Keep `state` durably; a restarted runner finds it in `checkpoint`."""
        await self._service.keep(self._active, state)

    def save_checkpoint_sync(self, state: Json) -> None:
        self._service.keep_sync(self._active, state)


class JobService:
    def __init__(self, store: JobStore, events: EventStream) -> None:
        self._store = store
        self._events = events
        self._kinds: dict[str, _Kind] = {}
        self._active: dict[str, _Active] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    def register(self, kind: str, run: Runner, *, at_once: int = 1) -> None:
        """Name the runner of a kind. At most `at_once` of them run; further ones wait as `queued`."""
        self._kinds[kind] = _Kind(run, asyncio.Semaphore(at_once))

    async def open(self) -> None:
        """Park what a killed process left running."""
        self._loop = asyncio.get_running_loop()
        parked = await asyncio.to_thread(
            self._store.park_unfinished_sync,
            "Interrupted: the sidecar stopped while this job ran. Resume it to go on.",
            Interrupted.kind,
        )
        if parked:
            log.warning("%d interrupted job(s) parked; resume_job continues them", parked)

    async def close(self) -> None:
        """Park all running jobs: they stop at their next check, or are left for the next start to park."""
        self._closing = True
        tasks = [a.task for a in self._active.values() if a.task is not None]
        for active in list(self._active.values()):
            active.pause, active.stop = True, Interrupted
        if tasks:
            await asyncio.wait(tasks, timeout=PARK_TIMEOUT_S)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def start(self, kind: str, params: Json, *, title: str) -> Job:
        """Accept the job and return at once; it runs as soon as its kind has a free slot."""
        moment = now()
        job = Job(
            id=f"{kind}-{secrets.token_hex(8)}",
            kind=kind,
            title=title,
            state=JobState.QUEUED,
            params=params,
            created_at=moment,
            updated_at=moment,
        )
        await self._store.save(job)
        self._launch(job)
        return job

    async def get(self, job_id: str) -> Job:
        active = self._active.get(job_id)
        job = active.job if active else await self._store.get(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def list(
        self, *, kind: str | None = None, states: tuple[JobState, ...] = (), limit: int = 100, offset: int = 0
    ) -> list[Job]:
        """Newest first, with the live progress of running ones."""
        rows = await self._store.list(kind=kind, states=states, limit=limit, offset=offset)
        return [self._active[job.id].job if job.id in self._active else job for job in rows]

    async def wait(self, job_id: str, timeout_s: float) -> Job:
        """The job once it is final or paused, or as it is when the time is over."""
        active = self._active.get(job_id)
        if active is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(active.ended.wait(), timeout_s)
        return await self.get(job_id)

    async def cancel(self, job_id: str) -> Job:
        """Ask the job to stop for good. The state says when it has.

        Raises:
            JobNotFound, WrongJobState: unknown, or already finished.
        """
        job = await self.get(job_id)
        if job.state.final:
            raise WrongJobState(f"Job {job_id} is already {job.state}.")
        active = self._active.get(job_id)
        if active is None:
            # Paused: the runner still has to clean up what it staged, so it runs once more, told to stop at once.
            active = self._launch(changed(job, state=JobState.QUEUED), stop=Cancelled)
        else:
            active.pause, active.stop = False, Cancelled
        return active.job

    async def pause(self, job_id: str) -> Job:
        job = await self.get(job_id)
        active = self._active.get(job_id)
        if active is None or job.state.final:
            raise WrongJobState(f"Job {job_id} is {job.state}; only a queued or running job can be paused.")
        active.pause, active.stop = True, Interrupted
        return active.job

    async def resume(self, job_id: str) -> Job:
        """Run a paused job from its checkpoint, or a failed one again."""
        job = await self.get(job_id)
        if job_id in self._active or job.state not in (JobState.PAUSED, JobState.FAILED):
            raise WrongJobState(f"Job {job_id} is {job.state}; only a paused or failed job can be resumed.")
        job = changed(job, state=JobState.QUEUED, error=None, error_code=None, finished_at=None)
        await self._store.save(job)
        return self._launch(job).job

    # -- running -----------------------------------------------------------------------------------------------------

    def _launch(self, job: Job, *, stop: type[PumasError] | None = None) -> _Active:
        active = _Active(job, stop=stop)
        self._active[job.id] = active
        self._tell_state(job)
        active.task = asyncio.create_task(self._run(active), name=f"job {job.id}")
        return active

    async def _run(self, active: _Active) -> None:
        kind = self._kinds.get(active.job.kind)
        try:
            if kind is None:
                raise WrongJobState(f"This version cannot run jobs of kind {active.job.kind!r}.")
            async with kind.slots:
                if active.stop is None:
                    await self._set(active, state=JobState.RUNNING)
                result = await kind.run(JobContext(self, active), active.job.params)
            await self._set(active, state=JobState.COMPLETED, result=result, finished_at=now(), done=active.job.total)
        except Cancelled:
            await self._set(
                active, state=JobState.CANCELLED, finished_at=now(), error="Cancelled.", error_code="cancelled"
            )
        except Interrupted as error:
            reason = "Interrupted: the sidecar stopped. Resume it to go on." if self._closing else None
            await self._set(active, state=JobState.PAUSED, error=reason, error_code=error.kind if reason else None)
        except PumasError as error:
            await self._set(active, state=JobState.FAILED, finished_at=now(), error=str(error), error_code=error.kind)
        except Exception:
            log.exception("job %s failed by a bug", active.job.id)
            await self._set(
                active,
                state=JobState.FAILED,
                finished_at=now(),
                error="Internal error; the log has the details.",
                error_code="internal_error",
            )
        finally:
            self._active.pop(active.job.id, None)
            active.ended.set()

    async def _set(self, active: _Active, **values: Any) -> None:
        active.job = changed(active.job, **values)
        try:
            await self._store.save(active.job)
        except PumasError as error:
            # A full disk must not hide how the job ended from those who listen now; the next start parks the row.
            log.error("state of job %s not saved: %s", active.job.id, error)
        self._tell_state(active.job)

    def progressed(self, active: _Active, **values: Any) -> None:
        active.job = changed(active.job, **values)
        job = active.job
        self._events.publish_threadsafe(
            "job.progress",
            {
                "job_id": job.id,
                "kind": job.kind,
                "stage": job.stage,
                "item": job.item,
                "done": job.done,
                "total": job.total,
                "unit": job.unit,
                "progress": job.progress,
            },
        )

    async def keep(self, active: _Active, state: Json) -> None:
        active.job = changed(active.job, checkpoint=state)
        await self._store.save(active.job)

    def keep_sync(self, active: _Active, state: Json) -> None:
        active.job = changed(active.job, checkpoint=state)
        self._store.save_sync(active.job)

    def _tell_state(self, job: Job) -> None:
        self._events.publish(
            "job.state",
            {
                "job_id": job.id,
                "kind": job.kind,
                "title": job.title,
                "state": job.state,
                "error": job.error,
                "error_code": job.error_code,
            },
        )
