"""The jobs methods: follow and steer long work."""

from __future__ import annotations

from pumas.errors import JobNotFound, WrongJobState
from pumas.jobs.contract import JobId, JobInfo, JobList, ListJobs, OneJob
from pumas.jobs.service import JobService
from pumas.jobs.store import Job, JobState
from pumas.rpc.registry import Methods


def register(methods: Methods, jobs: JobService) -> None:
    @methods.row("list_jobs", ListJobs, JobList)
    async def list_jobs(p: ListJobs) -> JobList:
        """List jobs, newest first, with their progress."""
        states = tuple(JobState(state) for state in p.states)
        found = await jobs.list(kind=p.kind, states=states, limit=p.limit, offset=p.offset)
        return JobList(jobs=[info(job) for job in found])

    @methods.row("get_job", JobId, OneJob, errors=[JobNotFound])
    async def get_job(p: JobId) -> OneJob:
        """Show one job."""
        return OneJob(job=info(await jobs.get(p.job_id)))

    @methods.row("cancel_job", JobId, OneJob, errors=[JobNotFound, WrongJobState])
    async def cancel_job(p: JobId) -> OneJob:
        """Ask a job to stop for good.

        The answer comes at once; the state turns to `cancelled` when the work has stopped and cleaned up.
        """
        return OneJob(job=info(await jobs.cancel(p.job_id)))

    @methods.row("pause_job", JobId, OneJob, errors=[JobNotFound, WrongJobState])
    async def pause_job(p: JobId) -> OneJob:
        """Ask a queued or running job to stop where it is, to be resumed later."""
        return OneJob(job=info(await jobs.pause(p.job_id)))

    @methods.row("resume_job", JobId, OneJob, errors=[JobNotFound, WrongJobState])
    async def resume_job(p: JobId) -> OneJob:
        """Go on with a paused or interrupted job, or try a failed one again."""
        return OneJob(job=info(await jobs.resume(p.job_id)))


def info(job: Job) -> JobInfo:
    return JobInfo(
        job_id=job.id,
        kind=job.kind,
        title=job.title,
        state=job.state.value,
        progress=job.progress,
        stage=job.stage,
        item=job.item,
        done=job.done,
        total=job.total,
        unit=job.unit,
        error=job.error,
        error_code=job.error_code,
        result=job.result,
        created_at=job.created_at,
        updated_at=job.updated_at,
        finished_at=job.finished_at,
    )
