"""The methods about the launcher itself: its version, updates, restart."""

from __future__ import annotations

from collections.abc import Callable

from pumas.errors import (
    DiskError,
    GitFailed,
    LocalChanges,
    NotEnoughSpace,
    NotOurCheckout,
    Offline,
    ReadOnly,
    Unsupported,
    UpdateFailed,
)
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods
from pumas.updates import contract as wire
from pumas.updates.service import UpdateService


def register(methods: Methods, updates: UpdateService, stop: Callable[[], None]) -> None:
    @methods.row("get_launcher_version", NoParams, wire.LauncherVersion)
    async def get_launcher_version(_p: NoParams) -> wire.LauncherVersion:
        """Say which version of the launcher runs."""
        one = await updates.current()
        return wire.LauncherVersion(
            version=one.version, branch=one.branch, isGitRepo=one.is_checkout, currentCommit=one.commit
        )

    @methods.row("check_launcher_updates", wire.CheckUpdates, wire.Updates)
    async def check_launcher_updates(p: wire.CheckUpdates) -> wire.Updates:
        """Look whether there are newer commits of the launcher's branch on GitHub."""
        found = await updates.check(force=p.force_refresh)
        return wire.Updates(
            hasUpdate=found.has_update,
            currentCommit=found.current,
            latestCommit=found.latest,
            commitsBehind=found.behind,
            commits=[wire.CommitInfo(**commit, hash=commit["sha"]) for commit in found.commits],
            branch=found.branch,
            stale=found.stale,
            error=found.error,
        )

    @methods.row(
        "apply_launcher_update",
        NoParams,
        wire.UpdateApplied,
        errors=[NotOurCheckout, LocalChanges, GitFailed, Offline, UpdateFailed, DiskError, NotEnoughSpace, ReadOnly],
    )
    async def apply_launcher_update(_p: NoParams) -> wire.UpdateApplied:
        """Go to the newest commit of the launcher's branch: tried aside first, taken back when it does not install.

        Refused when files of the launcher were changed here. The new version runs after `restart_launcher`.
        """
        job_id, done = await updates.update()
        if done is None:
            message, new, before = "The update goes on; get_job tells how far it is.", None, None
        else:
            new, before = done["now"], done["before"]
            message = "The launcher is up to date." if new == before else "Updated; restart the launcher to use it."
        return wire.UpdateApplied(
            message=message, newCommit=new, previousCommit=before, job_id=job_id, pending=done is None
        )

    @methods.row("restart_launcher", NoParams, wire.Restarting, errors=[Unsupported])
    async def restart_launcher(_p: NoParams) -> wire.Restarting:
        """Stop this sidecar after the answer; the launcher starts again, unless a desktop shell does so first."""
        await updates.prepare_restart()
        stop()
        return wire.Restarting(message="The launcher is starting again.")
