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
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from pumas.errors import Cancelled, Interrupted, JobNotFound, PumasError, WrongJobState
from pumas.events.stream import EventStream
from pumas.jobs.store import Job, JobState, JobStore, Json, changed, now

log = logging.getLogger(__name__)

# Progress is told at most this often per job; the first and last word always.
PROGRESS_INTERVAL_S = 0.25
PARK_TIMEOUT_S = 0.5
# How long `resume` waits for a job that was told to pause and has not stopped yet.
STOP_S = 5.0
_MOST_INTERRUPTED = 10_000


class Runner(Protocol):
    def __call__(self, context: JobContext, params: Json) -> Awaitable[Json]: ...


class Turns(Protocol):
    """Who of a kind may run now. Called on the event loop."""

    async def take(self, job_id: str) -> None:
        """Return when it is this job's turn. May be cancelled; then no turn was taken."""
        ...

    def give_back(self, job_id: str) -> None:
        """The job that had a turn has stopped."""
        ...


class Slots:
    """At most `at_once` run, the others follow in the order they came."""

    def __init__(self, at_once: int) -> None:
        self._slots = asyncio.Semaphore(at_once)

    async def take(self, job_id: str) -> None:  # noqa: ARG002 - all jobs are alike here
        await self._slots.acquire()

    def give_back(self, job_id: str) -> None:  # noqa: ARG002
        self._slots.release()


Ended = Callable[[Job], Awaitable[None]]


async def _nothing(_job: Job) -> None:
    return


@dataclass
class _Kind:
    run: Runner
    turns: Turns
    keeps_failed: bool
    ended: Ended


@dataclass
class _Active:
    """A job in memory. `stop` is what the runner should raise at its next check; None means go on.

    `fresh` says that it never ran, so that there is nothing to clean up when it is cancelled. `failure` is what ended
    it, for those who wait; the job keeps its words alone.
    """

    job: Job
    fresh: bool
    stop: type[PumasError] | None = None
    failure: PumasError | None = None
    task: asyncio.Task[None] | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, stop: type[PumasError]) -> None:
        """Tell the runner to stop. A request to cancel is never weakened to a pause."""
        if self.stop is not Cancelled:
            self.stop = stop
        self.asked.set()

    def change(self, **values: Any) -> Job:
        """Worker threads report and save checkpoints at the same time; none may undo what another wrote."""
        with self.lock:
            self.job = changed(self.job, **values)
            return self.job


class JobContext:
    """What a runner sees of its job. `check` and `report` may be called from any thread."""

    def __init__(self, service: JobService, active: _Active) -> None:
        self._service = service
        self._active = active
        self._last_report = 0.0
        self._told: tuple[str, bool] | None = None
        self._lock = threading.Lock()

    @property
    def job_id(self) -> str:
        return self._active.job.id

    @property
    def done(self) -> int:
        """What was reported last, also by an earlier run."""
        return self._active.job.done

    @property
    def checkpoint(self) -> Json:
        """What the runner saved last, `{}` at the first start."""
        return dict(self._active.job.checkpoint or {})

    def check(self) -> None:
        """Raise Cancelled or Interrupted when the job should stop. Cheap: call it per block of work."""
        if self._active.stop is not None:
            raise self._active.stop("The job was stopped.")

    def report(
        self, *, stage: str, done: int, total: int, item: str = "", unit: str = "bytes", last: bool = False
    ) -> None:
        """Say how far the work is. Calls beyond a few per second are dropped, except at a new stage and at its end.

        `last` is for a runner that stops before the end: what is kept of the job then says how far it came.
        """
        moment = time.monotonic()
        telling = (stage, 0 < total <= done)
        with self._lock:
            if not last and telling == self._told and moment - self._last_report < PROGRESS_INTERVAL_S:
                return
            self._last_report, self._told = moment, telling
        self._service.progressed(self._active, stage=stage, done=done, total=total, item=item, unit=unit)

    def save_checkpoint_sync(self, state: Json) -> None:
        """Keep `state` durably; a restarted runner finds it in `checkpoint`. Blocks."""
        self._service.keep_sync(self._active, state)


@contextlib.asynccontextmanager
async def _turn(turns: Turns, job_id: str, asked: asyncio.Event) -> AsyncGenerator[None]:
    """Hold a turn; a job that is asked to stop while it waits for one goes on without."""
    turn, stop = asyncio.ensure_future(turns.take(job_id)), asyncio.ensure_future(asked.wait())
    try:
        await asyncio.wait((turn, stop), return_when=asyncio.FIRST_COMPLETED)
        yield
    finally:
        stop.cancel()
        if turn.done() and not turn.cancelled():
            turns.give_back(job_id)
        else:
            turn.cancel()


class JobService:
    def __init__(self, store: JobStore, events: EventStream) -> None:
        self._store = store
        self._events = events
        self._kinds: dict[str, _Kind] = {}
        self._active: dict[str, _Active] = {}
        # What the disk refused to take: told from here, and written as soon as it can be.
        self._unwritten: dict[str, Job] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False
        # Cancel, pause and resume look at a job and then act on it; two at once could both start it.
        self._steering = asyncio.Lock()

    def register(
        self,
        kind: str,
        run: Runner,
        *,
        at_once: int = 1,
        turns: Turns | None = None,
        keeps_failed: bool = False,
        ended: Ended = _nothing,
    ) -> None:
        """Name the runner of a kind. At most `at_once` of them run, or as `turns` says; others wait as `queued`.

        Args:
            keeps_failed: a failed job keeps what it had done for `resume`, so it can still be cancelled, and its runner
                then cleans up.
            ended: told of each job that has stopped, also of one that never ran; must not raise.
        """
        self._kinds[kind] = _Kind(run, turns or Slots(at_once), keeps_failed, ended)

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
            active.ask(Interrupted)
        if tasks:
            await asyncio.wait(tasks, timeout=PARK_TIMEOUT_S)
        await self._write_rest()

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
        self._launch(job, fresh=True)
        return job

    async def get(self, job_id: str) -> Job:
        """Raises JobNotFound."""
        await self._write_rest()
        active = self._active.get(job_id)
        job = active.job if active else self._unwritten.get(job_id) or await self._store.get(job_id)
        if job is None:
            raise JobNotFound(job_id)
        return job

    async def list(
        self, *, kind: str | None = None, states: tuple[JobState, ...] = (), limit: int = 100, offset: int = 0
    ) -> list[Job]:
        """Newest first, with the live progress of running ones."""
        await self._write_rest()
        # One that ends while the rows are read may stand in them as it was.
        at_first = dict(self._active)
        # Nor does a row hold a state before it is written.
        also = [job_id for job_id, job in self._known(at_first).items() if job.state in states]
        rows = await self._store.list(kind=kind, states=states, also=also, limit=limit, offset=offset)
        live = self._known(at_first | self._active)
        jobs = [live.get(job.id, job) for job in rows]
        return [job for job in jobs if not states or job.state in states]

    def _known(self, active: dict[str, _Active]) -> dict[str, Job]:
        """What is known better than from the rows."""
        return self._unwritten | {job_id: one.job for job_id, one in active.items()}

    async def _write_rest(self) -> None:
        """Write what the disk refused before."""
        with contextlib.suppress(PumasError):
            for job_id in list(self._unwritten):
                # Meanwhile it may have gone on, or ended in another way.
                if job_id not in self._active and (job := self._unwritten.get(job_id)) is not None:
                    await self._write(job)

    async def _write(self, job: Job) -> None:
        """Raises what the store raises; the job is kept until the disk takes it."""
        self._unwritten[job.id] = job
        await self._store.save(job)
        if self._unwritten.get(job.id) is job:
            del self._unwritten[job.id]

    def is_cancelling(self, job_id: str) -> bool:
        """Whether the job was told to stop for good and has not ended yet; answered from memory."""
        active = self._active.get(job_id)
        return active is not None and active.stop is Cancelled and not active.job.state.final

    def is_pausing(self, job_id: str) -> bool:
        """Whether the job was told to pause and has not stopped yet; answered from memory."""
        active = self._active.get(job_id)
        return active is not None and active.stop is Interrupted and not active.ended.is_set()

    def is_active(self, kind: str) -> bool:
        """Whether a job of this kind runs or waits; answered from memory."""
        return any(active.job.kind == kind for active in self._active.values())

    async def wait(self, job_id: str, timeout_s: float) -> Job:
        """The job once it is final or paused, or as it is when the time is over."""
        active = self._active.get(job_id)
        if active is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(active.ended.wait(), timeout_s)
        return await self.get(job_id)

    async def outcome(self, job_id: str, timeout_s: float) -> Json | None:
        """The result of a job, None when it is still under way when the time is over.

        Raises:
            PumasError: what its runner raised, or that it was stopped.
        """
        active = self._active.get(job_id)
        job = await self.wait(job_id, timeout_s)
        if job.state in (JobState.QUEUED, JobState.RUNNING):
            return None
        if job.state is JobState.COMPLETED:
            return job.result or {}
        failure = active.failure if active is not None else None
        raise failure or PumasError(job.error or f"{job.title}: the job is {job.state}.")

    async def go_on(self, kind: str) -> list[str]:
        """Resume what a stop or a kill interrupted, in the order it came; what the user paused stays paused. Their ids.

        Call at a start.
        """
        paused = await self.list(kind=kind, states=(JobState.PAUSED,), limit=_MOST_INTERRUPTED)
        ids = [job.id for job in reversed(paused) if job.error_code == Interrupted.kind]
        for job_id in ids:
            with contextlib.suppress(WrongJobState):
                await self.resume(job_id)
        return ids

    async def cancel(self, job_id: str) -> Job:
        """Ask the job to stop for good. The state says when it has.

        Raises:
            JobNotFound, WrongJobState: unknown, or already finished.
        """
        async with self._steering:
            job = await self.get(job_id)
            kind = self._kinds.get(job.kind)
            if job.state.final and not (job.state is JobState.FAILED and kind is not None and kind.keeps_failed):
                raise WrongJobState(f"Job {job_id} is already {job.state}.")
            active = self._active.get(job_id)
            if active is None:
                # Paused or failed: the runner still has to clean up what it staged, so it runs once more, told to stop.
                active = self._launch(changed(job, state=JobState.QUEUED), stop=Cancelled)
            else:
                active.ask(Cancelled)
            return active.job

    async def pause(self, job_id: str) -> Job:
        """Ask the job to stop where it is, to be resumed later.

        Raises:
            JobNotFound, WrongJobState: unknown, not under way, or told to cancel already.
        """
        async with self._steering:
            job = await self.get(job_id)
            active = self._active.get(job_id)
            if active is None or job.state.final:
                raise WrongJobState(f"Job {job_id} is {job.state}; only a queued or running job can be paused.")
            if active.stop is Cancelled:
                raise WrongJobState(f"Job {job_id} is being cancelled.")
            active.ask(Interrupted)
            return active.job

    async def resume(self, job_id: str) -> Job:
        """Run a paused job from its checkpoint, or a failed one again. Raises JobNotFound, WrongJobState."""
        async with self._steering:
            active = self._active.get(job_id)
            if active is not None and (
                self.is_pausing(job_id) or active.job.state in (JobState.PAUSED, JobState.FAILED)
            ):
                # It is about to stop, or shows its state already but is still recording it.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(active.ended.wait(), STOP_S)
            job = await self.get(job_id)
            if job_id in self._active or job.state not in (JobState.PAUSED, JobState.FAILED):
                raise WrongJobState(f"Job {job_id} is {job.state}; only a paused or failed job can be resumed.")
            job = changed(job, state=JobState.QUEUED, error=None, error_code=None, finished_at=None)
            await self._store.save(job)
            return self._launch(job).job

    # -- running -----------------------------------------------------------------------------------------------------

    def _launch(self, job: Job, *, fresh: bool = False, stop: type[PumasError] | None = None) -> _Active:
        active = _Active(job, fresh)
        if stop is not None or self._closing:
            active.ask(stop or Interrupted)
        self._active[job.id] = active
        self._unwritten.pop(job.id, None)
        self._tell_state(job)
        active.task = asyncio.create_task(self._run(active), name=f"job {job.id}")
        return active

    async def _run(self, active: _Active) -> None:
        kind = self._kinds.get(active.job.kind)
        try:
            if kind is None:
                raise WrongJobState(f"This version cannot run jobs of kind {active.job.kind!r}.")
            async with _turn(kind.turns, active.job.id, active.asked):
                if active.stop is not None and (active.fresh or active.stop is Interrupted):
                    raise active.stop("The job was stopped before it began.")
                if active.stop is None:
                    await self._set(active, state=JobState.RUNNING)
                result = await kind.run(JobContext(self, active), active.job.params)
            await self._set(active, state=JobState.COMPLETED, result=result, finished_at=now(), done=active.job.total)
        except PumasError as error:
            active.failure = error
            await self._set(active, **self._end_by(error))
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
            if kind is not None:
                await kind.ended(active.job)
            self._active.pop(active.job.id, None)
            active.ended.set()
            if active.stop is Cancelled and active.job.state is JobState.PAUSED and not self._closing:
                # Asked for while the pause was being recorded: what is staged still has to be cleaned up.
                self._launch(changed(active.job, state=JobState.QUEUED), stop=Cancelled)

    def _end_by(self, error: PumasError) -> dict[str, Any]:
        """What a job shows that such a failure ended."""
        if isinstance(error, Cancelled):
            return {
                "state": JobState.CANCELLED, "finished_at": now(), "error": "Cancelled.", "error_code": error.kind
            }  # fmt: skip
        if isinstance(error, Interrupted):
            reason = "Interrupted: the sidecar stopped. Resume it to go on." if self._closing else None
            return {"state": JobState.PAUSED, "error": reason, "error_code": error.kind if reason else None}
        return {"state": JobState.FAILED, "finished_at": now(), "error": str(error), "error_code": error.kind}

    async def _set(self, active: _Active, **values: Any) -> None:
        job = active.change(**values)
        try:
            await self._write(job)
        except PumasError as error:
            # A full disk must hide from nobody how the job ended. What is never written is parked by the next start.
            log.error("state of job %s not saved: %s", active.job.id, error)
        self._tell_state(job)

    def progressed(self, active: _Active, **values: Any) -> None:
        job = active.change(**values)
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

    def keep_sync(self, active: _Active, state: Json) -> None:
        self._store.save_sync(active.change(checkpoint=state))

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
