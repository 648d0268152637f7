"""The version methods: wire models in, plain values out, and back."""

from __future__ import annotations

from typing import Any

from pumas.errors import (
    AlreadyExists,
    Busy,
    CorruptState,
    DiskError,
    InvalidInput,
    NetworkError,
    NotEnoughSpace,
    NothingToRollBack,
    RateLimited,
    ReadOnly,
    ReleaseNotFound,
    TimedOut,
    TooManyCalls,
    TrashEntryNotFound,
    UnknownApp,
    VersionInUse,
    VersionNotFound,
    WrongJobState,
)
from pumas.jobs.store import Job
from pumas.rpc.models import Done, NoParams
from pumas.rpc.registry import Methods
from pumas.versions import contract as wire
from pumas.versions import size_methods as sizes
from pumas.versions.service import VersionService
from pumas.versions.values import Dependencies, Offered

_ON_DISK = (CorruptState, DiskError, NotEnoughSpace, ReadOnly)
_OF_TAG = (UnknownApp, InvalidInput, VersionNotFound)


def register(methods: Methods, versions: VersionService) -> None:
    _register_lists(methods, versions)
    _register_choice(methods, versions)
    _register_releases(methods, versions)
    _register_installing(methods, versions)
    _register_removing(methods, versions)
    sizes.register(methods, versions)


def _register_lists(methods: Methods, versions: VersionService) -> None:
    @methods.row("list_apps", NoParams, wire.AppList, errors=[])
    async def list_apps(_: NoParams) -> wire.AppList:
        """The apps that can be installed, and what is installed of each.

        A further app is a description in `launcher-data/apps`.
        """
        return wire.AppList(
            apps=[
                wire.AppInfo(
                    app_id=app.id,
                    name=app.name,
                    description=app.description,
                    homepage=app.homepage,
                    folder=app.folder,
                    repository=app.releases.repository,
                    port=app.launch.port,
                    has_python=app.python is not None,
                    takes_models=app.models is not None,
                    installed=tags,
                    active=active,
                )
                for app, tags, active in await versions.apps()
            ]
        )

    @methods.row("get_installed_versions", wire.AppChoice, list[str], errors=[UnknownApp])
    async def get_installed_versions(p: wire.AppChoice) -> list[str]:
        """Tags that are listed and whole on disk, newest first."""
        return [version.tag for version in await versions.installed(p.app_id)]

    @methods.row("get_version_status", wire.AppChoice, wire.VersionStatus, errors=[UnknownApp])
    async def get_version_status(p: wire.AppChoice) -> dict[str, Any]:
        """What is installed, with its dependencies as its metadata on disk says; starts no program."""
        found = await versions.overview(p.app_id)
        return {
            "installedCount": len(found.versions),
            "activeVersion": found.active,
            "defaultVersion": found.default,
            "versions": {
                one.version.tag: {
                    "info": _stored(one.version.info),
                    "dependencies": _dependencies(one.dependencies).model_dump(),
                    "isActive": one.active,
                }
                for one in found.versions
            },
        }

    @methods.row("get_version_info", wire.VersionChoice, wire.VersionInfo | None, errors=[UnknownApp])
    async def get_version_info(p: wire.VersionChoice) -> dict[str, Any] | None:
        """What is kept about an installed version; null when it is not installed."""
        try:
            return _stored((await versions.get(p.tag, p.app_id)).info)
        except (VersionNotFound, InvalidInput):
            return None

    @methods.row("check_version_dependencies", wire.VersionChoice, wire.DependencyStatus, errors=[*_OF_TAG])
    async def check_version_dependencies(p: wire.VersionChoice) -> wire.DependencyStatus:
        """Which packages a version has and lacks; one of a version that does not fit counts as missing."""
        return _dependencies(await versions.dependencies(p.tag, p.app_id))

    @methods.row(
        "validate_installations",
        wire.Validate,
        wire.ValidationReport,
        errors=[UnknownApp, DiskError, NotEnoughSpace, ReadOnly],
    )
    async def validate_installations(p: wire.Validate) -> wire.ValidationReport:
        """Compare the list of versions with the disk. Reports; never deletes."""
        found = await versions.validate(p.app_id, rebuild=p.rebuild)
        result = wire.ValidationResult(
            had_invalid=bool(found.incomplete or found.missing), removed=[], valid=found.valid
        )
        return wire.ValidationReport(
            **result.model_dump(),
            incomplete=found.incomplete,
            missing=found.missing,
            unknown=found.unknown,
            result=result,
        )


def _register_choice(methods: Methods, versions: VersionService) -> None:
    @methods.row("get_active_version", wire.AppChoice, str, errors=[UnknownApp])
    async def get_active_version(p: wire.AppChoice) -> str:
        """The tag in use; empty when none is installed."""
        active = await versions.active(p.app_id)
        return active.tag if active else ""

    @methods.row("get_default_version", wire.AppChoice, str, errors=[UnknownApp])
    async def get_default_version(p: wire.AppChoice) -> str:
        """The tag that is preferred at start; empty when there is none."""
        return await versions.default(p.app_id) or ""

    @methods.row("set_default_version", wire.SetDefault, Done, errors=[*_OF_TAG, *_ON_DISK])
    async def set_default_version(p: wire.SetDefault) -> Done:
        """Prefer a version at start, or with null none."""
        await versions.set_default(p.tag, p.app_id)
        return Done()

    @methods.row("switch_version", wire.VersionChoice, Done, errors=[*_OF_TAG, *_ON_DISK])
    async def switch_version(p: wire.VersionChoice) -> Done:
        """Make an installed version the one in use."""
        await versions.switch(p.tag, p.app_id)
        return Done()

    @methods.row(
        "rollback_version",
        wire.AppChoice,
        wire.TagReply,
        errors=[UnknownApp, NothingToRollBack, Busy, *_ON_DISK],
    )
    async def rollback_version(p: wire.AppChoice) -> wire.TagReply:
        """Take the last switch, update or new build of a version back. Answers the tag that is in use then."""
        return wire.TagReply(tag=await versions.rollback(p.app_id))


def _register_releases(methods: Methods, versions: VersionService) -> None:
    @methods.row(
        "get_available_versions",
        wire.GetAvailable,
        wire.AvailableVersions,
        errors=[UnknownApp, ReleaseNotFound, NetworkError, TimedOut],
    )
    async def get_available_versions(p: wire.GetAvailable) -> dict[str, Any]:
        """Releases that can be installed, newest first.

        Without `force_refresh` from memory or disk at once, and a stale list is refreshed behind. When GitHub cannot be
        asked, the list that is known is shown; `rate_limited` says that it wants no call now.
        """
        try:
            offered = await versions.offers.offered(p.app_id, force=p.force_refresh)
        except RateLimited as error:
            return _limited(error)
        status = await versions.offers.cache_status(p.app_id)
        return {
            "success": True,
            "versions": [_release(one) for one in offered],
            "rate_limited": status.limited_s > 0,
            "retry_after_secs": int(status.limited_s + 1) if status.limited_s > 0 else None,
            "stale": not status.is_valid,
        }

    @methods.row("get_github_cache_status", wire.AppChoice, wire.CacheStatusReply, errors=[UnknownApp])
    async def get_github_cache_status(p: wire.AppChoice) -> wire.CacheStatusReply:
        """How old the list of releases is. Never asks the network."""
        found = await versions.offers.cache_status(p.app_id)
        status = wire.CacheStatusInfo(
            has_cache=found.has_cache,
            is_valid=found.is_valid,
            is_fetching=found.is_fetching,
            age_seconds=found.age_s,
            last_fetched=found.last_fetched or None,
            ttl=found.ttl,
            releases_count=found.count,
        )
        return wire.CacheStatusReply(
            **status.model_dump(),
            status=status,
            error=found.error or None,
            retry_after_secs=int(found.limited_s + 1) if found.limited_s > 0 else None,
        )

    @methods.row("has_background_fetch_completed", NoParams, wire.FetchCompleted, errors=[])
    async def has_background_fetch_completed(_: NoParams) -> wire.FetchCompleted:
        """Whether ComfyUI's releases were fetched in the background since the last reset."""
        return wire.FetchCompleted(completed=versions.offers.fetched_behind)

    @methods.row("should_update_ui_from_background_fetch", NoParams, bool, errors=[])
    async def should_update_ui_from_background_fetch(_: NoParams) -> bool:
        """As `has_background_fetch_completed`, as a bare bool."""
        return versions.offers.fetched_behind

    @methods.row("reset_background_fetch_flag", NoParams, Done, errors=[])
    async def reset_background_fetch_flag(_: NoParams) -> Done:
        """Forget that a background fetch completed."""
        versions.offers.reset_fetched_behind()
        return Done()


def _register_installing(methods: Methods, versions: VersionService) -> None:
    @methods.row(
        "install_version",
        wire.InstallVersion,
        wire.InstallAccepted,
        errors=[
            UnknownApp,
            InvalidInput,
            TooManyCalls,
            ReleaseNotFound,
            VersionNotFound,
            AlreadyExists,
            Busy,
            *_ON_DISK,
        ],
    )
    async def install_version(p: wire.InstallVersion) -> wire.InstallAccepted:
        """Install a release. Answers at once; `get_installation_progress` and the job tell the rest.

        It is built beside what is there, started once, and put in place whole; until then nothing changes. What it
        takes the place of goes to the trash.
        """
        job = await versions.installs.install(p.tag, p.app_id, replace=p.reinstall, activate=p.activate)
        return wire.InstallAccepted(job_id=job.id)

    @methods.row(
        "update_version",
        wire.AppChoice,
        wire.UpdateAccepted,
        errors=[UnknownApp, TooManyCalls, ReleaseNotFound, AlreadyExists, Busy, *_ON_DISK],
    )
    async def update_version(p: wire.AppChoice) -> wire.UpdateAccepted:
        """Install the newest release and make it the one in use. `rollback_version` takes it back."""
        done = await versions.update(p.app_id)
        if isinstance(done, Job):
            return wire.UpdateAccepted(tag=str(done.params["plan"]["tag"]), job_id=done.id)
        return wire.UpdateAccepted(tag=done, job_id=None)

    @methods.row("get_installation_progress", wire.AppChoice, wire.InstallationProgress | None, errors=[])
    async def get_installation_progress(p: wire.AppChoice) -> dict[str, Any] | None:
        """How far the newest installation of the app is; null when there was none in this run.

        `completed_at` is there once it has ended, well or not. Answered from memory.
        """
        try:
            return await versions.installs.progress(p.app_id)
        except UnknownApp:
            return None

    @methods.row("cancel_installation", wire.CancelInstallation, Done, errors=[UnknownApp, TooManyCalls, WrongJobState])
    async def cancel_installation(p: wire.CancelInstallation) -> Done:
        """Stop an installation and remove what it built; without `app_id` of whichever app is installing."""
        await versions.installs.cancel(p.app_id)
        return Done()

    @methods.row(
        "install_version_dependencies", wire.VersionChoice, wire.InstallAccepted, errors=[*_OF_TAG, Busy, *_ON_DISK]
    )
    async def install_version_dependencies(p: wire.VersionChoice) -> wire.InstallAccepted:
        """Bring what an installed version lacks into its own environment, which is made when it has none; a job."""
        return wire.InstallAccepted(job_id=(await versions.installs.install_dependencies(p.tag, p.app_id)).id)


def _register_removing(methods: Methods, versions: VersionService) -> None:
    @methods.row(
        "remove_version",
        wire.RemoveVersion,
        wire.RemovedVersion,
        errors=[*_OF_TAG, TooManyCalls, VersionInUse, *_ON_DISK],
    )
    async def remove_version(p: wire.RemoveVersion) -> wire.RemovedVersion:
        """Move a version to the trash of its app, also one that is not whole.

        One that runs is not removed, and the active one only with `last`.
        """
        return wire.RemovedVersion(trash_id=(await versions.remove(p.tag, p.app_id, last=p.last)).id)

    @methods.row("list_removed_versions", wire.AppChoice, list[wire.RemovedVersionInfo], errors=[UnknownApp])
    async def list_removed_versions(p: wire.AppChoice) -> list[wire.RemovedVersionInfo]:
        """What is in the trash of an app, newest first; `replaced` are former builds of a version."""
        return [
            wire.RemovedVersionInfo.model_validate(
                {"trash_id": one.id, "tag": one.tag, "reason": one.reason, "removed_at": one.removed_at}
            )
            for one in await versions.removed(p.app_id)
        ]

    @methods.row(
        "restore_version",
        wire.TrashId,
        wire.TagReply,
        errors=[UnknownApp, TrashEntryNotFound, AlreadyExists, *_ON_DISK],
    )
    async def restore_version(p: wire.TrashId) -> wire.TagReply:
        """Put a version from the trash back."""
        return wire.TagReply(tag=await versions.restore(p.trash_id, p.app_id))

    @methods.row("purge_removed_version", wire.TrashId, Done, errors=[UnknownApp, TrashEntryNotFound, *_ON_DISK[1:]])
    async def purge_removed_version(p: wire.TrashId) -> Done:
        """Remove a version from the trash for good."""
        await versions.purge(p.trash_id, p.app_id)
        return Done()


def _dependencies(found: Dependencies) -> wire.DependencyStatus:
    return wire.DependencyStatus(installed=found.installed, missing=found.missing, requirementsFile=found.requirements)


def _stored(info: dict[str, Any]) -> dict[str, Any]:
    """What is written about a version, less the values that are not what their names promise."""
    promised = {name: int if name == "size" else str for name in wire.VersionInfo.model_fields}
    return {
        name: value
        for name, value in info.items()
        if name not in promised or value is None or isinstance(value, promised[name])
    }


def _limited(error: RateLimited) -> dict[str, Any]:
    return {
        "success": False,
        "versions": [],
        "error": str(error),
        "error_code": error.kind,
        "rate_limited": True,
        "retry_after_secs": int(error.retry_after_s + 1),
        "stale": True,
    }


def _release(one: Offered) -> dict[str, Any]:
    raw = one.release.raw
    return {
        **raw,
        "published_at": raw.get("published_at"),
        "body": raw.get("body"),
        "html_url": raw.get("html_url") or one.page,
        "total_size": one.total_size,
        "archive_size": one.archive_size,
        "dependencies_size": one.dependencies_size,
        "installing": one.installing,
    }
