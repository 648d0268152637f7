"""What waiting for a job means, decided once for both clients: which events matter and when a job has come to rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from pumas.client import wire
from pumas.client.sse import READY, RESYNC, Event

if TYPE_CHECKING:
    from pumas.client.types import JobInfo

TOPICS = ("job",)
AT_REST = ("completed", "failed", "cancelled", "paused")


def must_look(event: Event, job_id: str) -> bool:
    """Whether to ask for the job: at the start of the stream, after missed events, and when it came to rest."""
    if event.topic in (READY, RESYNC):
        return True
    return event.topic == "job.state" and event.data.get("job_id") == job_id and event.data.get("state") in AT_REST


def is_progress(event: Event, job_id: str) -> bool:
    return event.topic == "job.progress" and event.data.get("job_id") == job_id


def snapshot(job: JobInfo) -> dict[str, Any]:
    """The keys of a `job.progress` event, from a job that was asked for."""
    keys = ("job_id", "kind", "stage", "item", "done", "total", "unit", "progress")
    values = cast(Mapping[str, Any], job)
    return {key: values[key] for key in keys}


def outcome(job: JobInfo, *, check: bool) -> JobInfo:
    """The job at rest.

    Raises:
        CallFailed: `check` is set and the job did not complete; the class is that of the job's `error_code`.
    """
    if check and job["state"] != "completed":
        kind = job["error_code"] or ("interrupted" if job["state"] == "paused" else "operation_failed")
        message = job["error"] or f"The job is {job['state']}."
        raise wire.failure(kind, message, None, cast(Mapping[str, Any], job))
    return job
