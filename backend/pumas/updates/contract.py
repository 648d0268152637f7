"""Wire models of the launcher's own updates. Names and case are those of existing clients."""

from __future__ import annotations

from pydantic import Field

from pumas.rpc.models import Params, Result


class CheckUpdates(Params):
    force_refresh: bool = Field(False, description="Ask now, also when the last answer is younger than an hour.")


class LauncherVersion(Result):
    version: str = Field(description="The first seven digits of the commit, or the package's version.")
    branch: str
    isGitRepo: bool
    currentCommit: str


class CommitInfo(Result):
    sha: str
    hash: str = Field(description="The same as `sha`.")
    message: str = Field(description="The first line.")
    author: str
    date: str


class Updates(Result):
    hasUpdate: bool
    currentCommit: str
    latestCommit: str
    commitsBehind: int = Field(description="At most 10.")
    commits: list[CommitInfo]
    branch: str
    stale: bool = Field(description="Of an earlier look: nobody answered now.")
    error: str | None = Field(description="Why it could not be found out.")


class UpdateApplied(Result):
    message: str
    newCommit: str | None = Field(description="null while the job is at it.")
    previousCommit: str | None
    job_id: str
    pending: bool


class Restarting(Result):
    message: str
