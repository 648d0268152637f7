"""The system methods: the machine, this installation, and the summary that a shell polls."""

from __future__ import annotations

from typing import Any

from pumas.errors import DiskError, InstallFailed, Offline, TimedOut
from pumas.rpc.models import Done, NoParams
from pumas.rpc.registry import Methods
from pumas.system import contract as wire
from pumas.system.service import Status, SystemService


def register(methods: Methods, system: SystemService) -> None:
    shown: tuple[Status, dict[str, Any]] | None = None

    @methods.row("get_status", NoParams, wire.Status, errors=[TimedOut])
    async def get_status(_p: NoParams) -> dict[str, Any]:
        """Summarise the launcher: what runs, what is missing, what the user should do.

        Made to be polled twice a second: it reads neither disk nor network.
        """
        nonlocal shown
        facts = await system.status()
        if shown is None or shown[0] != facts:
            shown = facts, status(facts).model_dump(mode="json")
        return shown[1]

    @methods.row("get_disk_space", NoParams, wire.DiskSpace, errors=[DiskError, TimedOut])
    async def get_disk_space(_p: NoParams) -> wire.DiskSpace:
        """Say how full the file system of the launcher root is, in bytes."""
        return wire.DiskSpace.model_validate(await system.disk_space())

    @methods.row("get_system_resources", NoParams, wire.ResourcesReply, errors=[DiskError, TimedOut])
    async def get_system_resources(_p: NoParams) -> wire.ResourcesReply:
        """Show the load of processor, memory, disk and NVIDIA GPUs, sampled in the background while somebody asks."""
        return wire.ResourcesReply(resources=wire.Resources.model_validate(await system.resources()))

    @methods.row("get_sandbox_info", NoParams, wire.Sandbox, errors=[TimedOut])
    async def get_sandbox_info(_p: NoParams) -> wire.Sandbox:
        """Say whether the sidecar runs in a sandbox (Flatpak, Snap, Docker, AppImage) and what that takes away."""
        found = await system.sandbox()
        return wire.Sandbox(
            is_sandboxed=found.is_sandboxed, sandbox_type=found.kind.value, limitations=list(found.limitations)
        )

    @methods.row("check_git", NoParams, bool, errors=[TimedOut])
    async def check_git(_p: NoParams) -> bool:
        """Say whether git is installed; only custom nodes need it."""
        return await system.has_git()

    @methods.row("check_brave", NoParams, bool, errors=[TimedOut])
    async def check_brave(_p: NoParams) -> bool:
        """Say whether the Brave browser is installed; it is optional."""
        return await system.has_brave()

    @methods.row("check_setproctitle", NoParams, bool, errors=[TimedOut])
    async def check_setproctitle(_p: NoParams) -> bool:
        """Say whether the Python package setproctitle is there; it is optional."""
        return await system.has_setproctitle()

    @methods.row("get_missing_dependencies", NoParams, list[str], errors=[TimedOut])
    async def get_missing_dependencies(_p: NoParams) -> list[str]:
        """List the packages that the sidecar needs and does not have."""
        return list(await system.missing_dependencies())

    @methods.row("install_missing_dependencies", NoParams, bool, errors=[TimedOut, Offline, InstallFailed])
    async def install_missing_dependencies(_p: NoParams) -> bool:
        """Install the packages that the sidecar is missing into its own environment; true when nothing is missing then.

        System programs are never installed. Answers within ten seconds; what takes longer goes on.
        """
        await system.install_missing()
        return True

    @methods.row("install_deps", NoParams, Done, errors=[TimedOut, Offline, InstallFailed])
    async def install_deps(_p: NoParams) -> Done:
        """Do the same as `install_missing_dependencies`, and say why when it fails."""
        await system.install_missing()
        return Done()


def status(facts: Status) -> wire.Status:
    return wire.Status(
        version=facts.version,
        deps_ready=facts.deps_ready,
        missing_deps=list(facts.missing_deps),
        patched=facts.patched,
        menu_shortcut=facts.menu_shortcut,
        desktop_shortcut=facts.desktop_shortcut,
        shortcut_version=facts.shortcut_version,
        comfyui_running=facts.comfyui_running,
        running_processes=[wire.AppProcess.model_validate(process) for process in facts.running_processes],
        app_resources={app_id: wire.AppResources.model_validate(used) for app_id, used in facts.app_resources.items()},
        message=facts.message,
        release_info=wire.ReleaseInfo.model_validate(facts.release_info),
        last_launch_log=facts.last_launch_log,
        last_launch_error=facts.last_launch_error,
    )
