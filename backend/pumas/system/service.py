"""Facts about the machine and this installation: what `get_status`, `get_system_resources` and their like report.

Role: keeps one shared reading of everything that blocks (`sampling.py`), so that polling costs nothing and neither the
event loop nor a caller waits for a disk. It knows no other domain: who is running comes through `RunningApps`, which
the domain that starts apps implements.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pumas import __version__
from pumas.errors import InstallFailed
from pumas.system import dependencies, disk, sandbox
from pumas.system.dependencies import Dependencies
from pumas.system.disk import DiskSpace
from pumas.system.resources import Nvml, ResourceMonitor, Resources
from pumas.system.sampling import Pace, Sampler, when_asked
from pumas.system.sandbox import Sandbox

if TYPE_CHECKING:
    from pumas.system.installing import Installer

DISK_MAX_AGE = 2.0
COMFYUI = "comfyui"
DEPENDENCIES = Pace(max_age=6.0, interval=5.0, park_after=10.0)
"""Often, because the user may be installing what was missing. While somebody polls, the thread lives: starting one
costs the event loop more than all the rest of an answer."""


@dataclass(frozen=True, slots=True)
class AppProcess:
    """A running app with all its children; `pid` is its first process.

    `cpu_usage` in percent of one core (may exceed 100), `ram_memory` and `gpu_memory` in GiB. `source` is `pid_file`,
    and then `pid_file` says which, or `process_scan`, and then `cmd` is its command line.
    """

    pid: int
    source: str
    tag: str | None
    cpu_usage: float
    ram_memory: float
    gpu_memory: float
    pid_file: str | None = None
    cmd: str | None = None
    app_id: str = COMFYUI


@dataclass(frozen=True, slots=True)
class ReleaseInfo:
    """The last known release check of the app; nothing known, nothing claimed."""

    has_update: bool = False
    latest_version: str | None = None
    current_version: str | None = None


@dataclass(frozen=True, slots=True)
class AppsReport:
    """What is known of the apps; without anything to report, nothing runs and nothing was launched.

    All but `processes` is about ComfyUI. `message` is a sentence only when the user should act.
    """

    processes: tuple[AppProcess, ...] = ()
    active_tag: str | None = None
    last_launch_log: str | None = None
    last_launch_error: str | None = None
    patched: bool = False
    menu_shortcut: bool = False
    desktop_shortcut: bool = False
    release_info: ReleaseInfo = ReleaseInfo()
    message: str = ""


class RunningApps(Protocol):
    """Who knows the apps. Asked twice a second: it answers from memory."""

    async def report(self) -> AppsReport: ...


@dataclass(frozen=True, slots=True)
class AppResources:
    """Sums over an app's processes: `cpu` in percent of one core, `ram_memory` and `gpu_memory` in GiB."""

    cpu: float
    ram_memory: float
    gpu_memory: float


@dataclass(frozen=True, slots=True)
class Status:
    """The facts of `get_status`.

    `message` is a sentence only when the user should act. `app_resources` has an entry for each app that runs.
    `shortcut_version` is the active tag of ComfyUI.
    """

    version: str
    deps_ready: bool
    missing_deps: tuple[str, ...]
    message: str
    running_processes: tuple[AppProcess, ...]
    app_resources: Mapping[str, AppResources]
    shortcut_version: str | None
    last_launch_log: str | None
    last_launch_error: str | None
    patched: bool = False
    menu_shortcut: bool = False
    desktop_shortcut: bool = False
    release_info: ReleaseInfo = field(default_factory=ReleaseInfo)

    @property
    def comfyui_running(self) -> bool:
        return COMFYUI in self.app_resources


class SystemService:
    """Everything here may be polled. Raises `TimedOut` where the machine does not answer within two seconds."""

    def __init__(
        self,
        root: Path,
        *,
        apps: RunningApps | None = None,
        load_nvml: Callable[[], Nvml | None] | None = None,
        detect_sandbox: Callable[[], Sandbox] = sandbox.detect,
        look_for_dependencies: Callable[[], Dependencies] = dependencies.look,
        offline: Callable[[], bool] = lambda: False,
        installer: Installer | None = None,
    ) -> None:
        """`root` is the launcher root, whose disk is measured; `offline` says that nothing may be fetched; the other
        callables stand in for the machine in tests."""
        self._apps = apps
        self._offline, self._installer = offline, installer
        self._resources = ResourceMonitor(root, load_nvml=load_nvml)
        self._disk = when_asked("free disk space", lambda: disk.measure(root), max_age=DISK_MAX_AGE)
        self._sandbox = when_asked("sandbox", detect_sandbox, max_age=math.inf)
        self._look = look_for_dependencies
        self._dependencies = Sampler("dependencies", lambda: nullcontext(look_for_dependencies), DEPENDENCIES)

    async def resources(self) -> Resources:
        """The load of processor, memory, disk and GPUs, at most three seconds old. Raises `DiskError`."""
        return await self._resources.latest()

    async def processes(self) -> tuple[AppProcess, ...]:
        """The apps that run, with what they use. Raises `TimedOut`."""
        return (await self._apps.report()).processes if self._apps else ()

    async def disk_space(self) -> DiskSpace:
        """The filesystem of the launcher root. Raises `DiskError`."""
        return await self._disk.latest()

    async def sandbox(self) -> Sandbox:
        """The sandbox around the sidecar; it cannot change while the process lives."""
        return await self._sandbox.latest()

    async def has_git(self) -> bool:
        return (await self._dependencies.latest()).git

    async def has_brave(self) -> bool:
        return (await self._dependencies.latest()).brave

    async def has_setproctitle(self) -> bool:
        return (await self._dependencies.latest()).setproctitle

    async def missing_dependencies(self) -> tuple[str, ...]:
        """Names of packages that the sidecar needs and does not have; a whole installation has none."""
        return (await self._dependencies.latest()).missing

    async def install_missing(self) -> None:
        """Install what `missing_dependencies` names into our own environment; at once when there is nothing.

        Raises:
            Offline, InstallFailed: it is still missing. TimedOut: the installation goes on.
        """
        if (missing := (await asyncio.to_thread(self._look)).missing) == ():
            return
        if self._installer is None:
            from pumas.system.installing import Installer

            self._installer = Installer(offline=self._offline)
        await self._installer.install(missing)
        if still := (await asyncio.to_thread(self._look)).missing:
            raise InstallFailed("packages", f"Still missing after the installation: {', '.join(still)}.")

    async def status(self) -> Status:
        """The state of the launcher; never the network, never another program."""
        found = await self._dependencies.recent()
        apps = await self._apps.report() if self._apps else AppsReport()
        return Status(
            version=__version__,
            deps_ready=found.ready,
            missing_deps=found.missing,
            message=_message(found) or apps.message,
            running_processes=apps.processes,
            app_resources={app_id: _sum(apps.processes, app_id) for app_id in _ids(apps.processes)},
            shortcut_version=apps.active_tag,
            last_launch_log=apps.last_launch_log,
            last_launch_error=apps.last_launch_error,
            patched=apps.patched,
            menu_shortcut=apps.menu_shortcut,
            desktop_shortcut=apps.desktop_shortcut,
            release_info=apps.release_info,
        )

    async def close(self) -> None:
        """Stop all reading; callers still waiting get `Interrupted`."""
        if self._installer is not None:
            await self._installer.close()
        await asyncio.gather(
            self._resources.close(), self._disk.close(), self._sandbox.close(), self._dependencies.close()
        )


def _message(found: Dependencies) -> str:
    if found.ready:
        return ""
    return f"Parts of this installation are missing ({', '.join(found.missing)}); run './launcher setup' to add them."


def _ids(processes: tuple[AppProcess, ...]) -> dict[str, None]:
    """Each app once, in the order of its first process."""
    return dict.fromkeys(process.app_id for process in processes)


def _sum(processes: tuple[AppProcess, ...], app_id: str) -> AppResources:
    own = [process for process in processes if process.app_id == app_id]
    return AppResources(
        cpu=round(sum(process.cpu_usage for process in own), 1),
        ram_memory=round(sum(process.ram_memory for process in own), 2),
        gpu_memory=round(sum(process.gpu_memory for process in own), 2),
    )
