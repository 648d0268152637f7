"""Wire models of the jobs methods."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pumas.rpc.models import Name, Params, Result

StateName = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]


class JobId(Params):
    job_id: Name = Field(description="The id that the call which started the job answered with.")


class ListJobs(Params):
    kind: Name | None = Field(None, description="Only jobs of this kind, for example `import`.")
    states: Annotated[list[StateName], Field(max_length=6)] = Field([], description="Only jobs in these states.")
    limit: int = Field(100, ge=1, le=1000)
    offset: int = Field(0, ge=0, le=2**31)


class JobInfo(Result):
    job_id: str
    kind: str
    title: str
    state: StateName
    progress: float = Field(ge=0, le=1)
    stage: str
    item: str = Field(description="What the stage is at, for example a file name.")
    done: int
    total: int = Field(description="0 while unknown.")
    unit: str = Field(description="What `done` and `total` count.")
    error: str | None
    error_code: str | None
    result: dict[str, Any] | None = Field(description="What the work produced, once completed.")
    created_at: str
    updated_at: str
    finished_at: str | None


class JobList(Result):
    jobs: list[JobInfo]


class OneJob(Result):
    job: JobInfo
