"""Wire models of the download methods. Sizes are bytes, times ISO-8601 UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pumas.hub.contract import ADDRESS
from pumas.hub.model import DEFAULT_REVISION
from pumas.rpc.models import Name, Params, Result, Text

Status = Literal[
    "queued", "downloading", "retrying", "waiting", "verifying", "cancelling", "paused", "completed", "cancelled",
    "error",
]  # fmt: skip
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ShortText = Annotated[str, Field(max_length=500)]

STATUS = (
    "`retrying`: no bytes come, and it is tried again. `waiting`: for room on the disk, or for the schedule's hours. "
    "`verifying`: all bytes are here. `paused` and `error` can be resumed."
)


class StartDownload(Params):
    repo_id: Name = Field(description=ADDRESS)
    family: ShortText = Field("", description="Empty: found out.")
    official_name: ShortText = Field("", description="Empty: the repository's name.")
    model_type: ShortText = Field("", description="`llm`, `diffusion`, …; empty: found out.")
    subtype: ShortText = ""
    quant: ShortText = Field("", description="Only this quantisation, with the configuration files; empty: all.")
    filename: ShortText = Field("", description="Only this file, or what fits this shell pattern.")
    filenames: Annotated[list[Name], Field(max_length=1000)] = Field([], description="As `filename`, for several.")
    revision: ShortText = Field(DEFAULT_REVISION, description="Branch, tag or commit.")
    security_acknowledged: bool = Field(False, description="Accept files that can run code when loaded (pickle).")
    allow_duplicate: bool = Field(False, description="Download although the library has these weights.")


class StartedDownload(Result):
    download_id: str
    total_bytes: int
    repo_id: str
    revision: str = Field(description="The commit that the download is pinned to.")
    status: Status
    files: int


class DownloadId(Params):
    download_id: Name = Field(description="The id that the start answered with.")


class GetStatus(DownloadId):
    files: bool = Field(False, description="Also list each file.")


class FileStatus(Result):
    path: str
    size: int
    downloaded: int
    state: Literal["waiting", "downloading", "verifying", "done"]


class DownloadStatus(Result):
    download_id: str
    repo_id: str
    revision: str
    title: str
    quant: str
    status: Status = Field(description=STATUS)
    progress: float = Field(ge=0, le=1, description="Falls only when a file has to be begun again; see `restarts`.")
    downloaded_bytes: int
    total_bytes: int
    speed: float = Field(description="Bytes per second over the last seconds.")
    eta_seconds: float | None
    error: str = Field(description="Empty when fine.")
    error_code: str
    message: str = Field(description="About a wait, a retry or a restart; may be empty.")
    restarts: int = Field(description="How often a file was begun again in this run.")
    retries: int
    place: int | None = Field(description="How many wait before it; null when it does not wait.")
    model_id: str | None = Field(description="Once completed.")
    model_path: str | None
    warnings: list[str] = Field(description="Once completed.")
    created_at: str
    finished_at: str | None
    files: list[FileStatus] | None = None


class ListDownloads(Params):
    finished: bool = Field(True, description="Also those that are completed or cancelled.")
    limit: int = Field(100, ge=1, le=1000)


class DownloadList(Result):
    downloads: list[DownloadStatus] = Field(description="Unfinished ones in the order of the queue, then the others.")


class ReorderDownloads(Params):
    download_ids: Annotated[list[Name], Field(min_length=1, max_length=1000)] = Field(
        description="These come first, in this order; the others follow as they were. Running ones are not stopped."
    )


class WireSchedule(Params):
    start: Annotated[Text, Field(description="Local time such as `22:30`.")]
    end: Annotated[Text, Field(description="Earlier than `start`: on the next day.")]
    days: Annotated[list[Weekday], Field(max_length=7)] = Field([], description="On which it begins; empty: all.")


class SetLimits(Params):
    bytes_per_second: int | None = Field(
        None, ge=0, le=2**50, description="For all downloads together; 0: no limit; left out: as it is."
    )
    at_once: int | None = Field(None, ge=1, le=16, description="How many downloads run at a time.")
    schedule: WireSchedule | None = Field(None, description="The hours in which downloads run.")
    any_time: bool = Field(False, description="Remove the schedule.")


class ScheduleInfo(Result):
    start: str
    end: str
    days: list[str]


class LimitsInfo(Result):
    bytes_per_second: int | None = Field(description="null: no limit.")
    at_once: int
    schedule: ScheduleInfo | None
    open: bool = Field(description="Whether the schedule lets downloads run now.")
