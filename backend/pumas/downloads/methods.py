"""The download methods: wire models in, plain values out, and back."""

from __future__ import annotations

from dataclasses import replace

from pumas.downloads import contract as wire
from pumas.downloads.plan import DownloadRequest
from pumas.downloads.schedule import Schedule, days_of
from pumas.downloads.service import Download, DownloadService
from pumas.downloads.settings import DownloadSettings
from pumas.errors import (
    DiskError,
    DownloadNotFound,
    DuplicateModel,
    GatedRepo,
    InvalidInput,
    NetworkError,
    NotEnoughSpace,
    PickleNotAcknowledged,
    ReadOnly,
    RepoNotFound,
    RevisionNotFound,
    TokenRefused,
    WrongJobState,
)
from pumas.rpc.models import Done, NoParams
from pumas.rpc.registry import Methods

_ON_DISK = (DiskError, NotEnoughSpace, ReadOnly)
_FROM_HUB = (
    InvalidInput,
    RepoNotFound,
    RevisionNotFound,
    GatedRepo,
    TokenRefused,
    NetworkError,
    PickleNotAcknowledged,
    DuplicateModel,
)


def register(methods: Methods, downloads: DownloadService) -> None:
    async def start(p: wire.StartDownload) -> wire.StartedDownload:
        names = (*p.filenames, *((p.filename,) if p.filename else ()))
        request = DownloadRequest(
            p.repo_id,
            p.revision,
            p.quant,
            names,
            p.family,
            p.official_name,
            p.model_type,
            p.subtype,
            p.security_acknowledged,
            p.allow_duplicate,
        )
        found = await downloads.start(request)
        return wire.StartedDownload.model_validate(
            {
                "download_id": found.id,
                "total_bytes": found.total,
                "repo_id": found.repo_id,
                "revision": found.revision,
                "status": found.status,
                "files": found.file_count,
            }
        )

    @methods.row(
        "start_model_download_from_hf",
        wire.StartDownload,
        wire.StartedDownload,
        errors=[*_FROM_HUB, *_ON_DISK],
    )
    async def start_model_download_from_hf(p: wire.StartDownload) -> wire.StartedDownload:
        """Download a model from the Hugging Face hub into the library.

        One question to the hub pins the commit and the files; the rest is a job. A wrong or half file is never visible:
        the model appears whole, when every digest is right. Starting what is not finished yet goes on with it.
        """
        return await start(p)

    @methods.row(
        "download_model_from_hf",
        wire.StartDownload,
        wire.StartedDownload,
        errors=[*_FROM_HUB, *_ON_DISK],
    )
    async def download_model_from_hf(p: wire.StartDownload) -> wire.StartedDownload:
        """As `start_model_download_from_hf`; `get_model_download_status` has the `model_path` once it is completed."""
        return await start(p)

    @methods.row("get_model_download_status", wire.GetStatus, wire.DownloadStatus, errors=[DownloadNotFound])
    async def get_model_download_status(p: wire.GetStatus) -> wire.DownloadStatus:
        """How far a download is.

        Asks neither the disk nor the network while it runs; `download.progress` events tell the same.
        """
        return _status(await downloads.status(p.download_id, files=p.files), files=p.files)

    @methods.row("list_model_downloads", wire.ListDownloads, wire.DownloadList, errors=[])
    async def list_model_downloads(p: wire.ListDownloads) -> wire.DownloadList:
        """List downloads: unfinished ones in the order of the queue, then failed and finished ones, newest first."""
        found = await downloads.list(finished=p.finished, limit=p.limit)
        return wire.DownloadList(downloads=[_status(one) for one in found])

    @methods.row("pause_model_download", wire.DownloadId, wire.DownloadStatus, errors=[DownloadNotFound, WrongJobState])
    async def pause_model_download(p: wire.DownloadId) -> wire.DownloadStatus:
        """Stop where it is; what has arrived stays, also over restarts."""
        return _status(await downloads.pause(p.download_id))

    @methods.row(
        "resume_model_download", wire.DownloadId, wire.DownloadStatus, errors=[DownloadNotFound, WrongJobState]
    )
    async def resume_model_download(p: wire.DownloadId) -> wire.DownloadStatus:
        """Go on with a paused download, or try a failed one again, from where it was."""
        return _status(await downloads.resume(p.download_id))

    @methods.row("cancel_model_download", wire.DownloadId, Done, errors=[DownloadNotFound, WrongJobState])
    async def cancel_model_download(p: wire.DownloadId) -> Done:
        """Stop for good and remove what has arrived."""
        await downloads.cancel(p.download_id)
        return Done()

    @methods.row(
        "reorder_model_downloads", wire.ReorderDownloads, wire.DownloadList, errors=[DownloadNotFound, *_ON_DISK]
    )
    async def reorder_model_downloads(p: wire.ReorderDownloads) -> wire.DownloadList:
        """Put downloads first in the queue; a `download.order` event tells everybody."""
        return wire.DownloadList(downloads=[_status(one) for one in await downloads.move_first(p.download_ids)])

    @methods.row("get_download_limits", NoParams, wire.LimitsInfo, errors=[])
    async def get_download_limits(_: NoParams) -> wire.LimitsInfo:
        """The speed limit, how many run at once, and the schedule."""
        return wire.LimitsInfo.model_validate(downloads.limits())

    @methods.row("set_download_limits", wire.SetLimits, wire.LimitsInfo, errors=[InvalidInput, *_ON_DISK])
    async def set_download_limits(p: wire.SetLimits) -> wire.LimitsInfo:
        """Change limits; running downloads follow at once, and they hold over restarts.

        A `download.limits` event tells everybody what they are then, and again each time the schedule opens or closes.
        """
        return wire.LimitsInfo.model_validate(await downloads.set_limits(lambda settings: _changed(settings, p)))


def _changed(settings: DownloadSettings, p: wire.SetLimits) -> DownloadSettings:
    if p.bytes_per_second is not None:
        settings = replace(settings, bytes_per_second=p.bytes_per_second or None)
    if p.at_once is not None:
        settings = replace(settings, at_once=p.at_once)
    if p.schedule is not None and p.any_time:
        raise InvalidInput("any_time", "cannot be true together with a schedule")
    if p.schedule is not None or p.any_time:
        given = p.schedule
        schedule = Schedule(given.start, given.end, days_of(given.days)) if given else None
        settings = replace(settings, schedule=schedule)
    return settings


def _status(found: Download, *, files: bool = False) -> wire.DownloadStatus:
    result = found.result or {}
    return wire.DownloadStatus.model_validate(
        {
            "download_id": found.id,
            "repo_id": found.repo_id,
            "revision": found.revision,
            "title": found.title,
            "quant": found.quant,
            "status": found.status,
            "progress": found.progress,
            "downloaded_bytes": found.downloaded,
            "total_bytes": found.total,
            "speed": round(found.speed, 1),
            "eta_seconds": None if found.eta_s is None else round(found.eta_s, 1),
            "error": found.error,
            "error_code": found.error_code,
            "message": found.message,
            "restarts": found.restarts,
            "retries": found.retries,
            "place": found.place,
            "model_id": result.get("model_id"),
            "model_path": result.get("model_path"),
            "warnings": result.get("warnings", []),
            "created_at": found.created_at,
            "finished_at": found.finished_at,
            "files": found.files if files else None,
        }
    )
