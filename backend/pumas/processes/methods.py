"""The methods about running apps: start, stop, list, log, and the server's title."""

from __future__ import annotations

import asyncio

from pumas.errors import (
    AlreadyRunning,
    CannotPatch,
    CorruptState,
    DependencyFailed,
    DiskError,
    FileUnavailable,
    InvalidInput,
    LaunchFailed,
    NoActiveVersion,
    NotEnoughSpace,
    NotRunning,
    ProcessNotFound,
    ReadOnly,
    StopFailed,
    TimedOut,
    UnknownApp,
    Unsupported,
    VersionNotFound,
)
from pumas.processes import contract as wire
from pumas.processes.ledger import OnExit
from pumas.processes.patching import Patching
from pumas.processes.service import ProcessService
from pumas.processes.status import COMFYUI, AppsStatus
from pumas.processes.values import RunInfo, RunState, Stopped
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods

_DISK = (DiskError, NotEnoughSpace, ReadOnly)
_START = (AlreadyRunning, DependencyFailed, LaunchFailed, Unsupported, *_DISK)


def register(methods: Methods, processes: ProcessService, patching: Patching, status: AppsStatus) -> None:
    @methods.row("is_comfyui_running", NoParams, bool)
    async def is_comfyui_running(_p: NoParams) -> bool:
        """Say whether a ComfyUI runs that a sidecar of this root started."""
        return processes.running(COMFYUI) is not None

    @methods.row("launch_comfyui", wire.LaunchComfyui, wire.Launched, errors=[NoActiveVersion, *_START])
    async def launch_comfyui(p: wire.LaunchComfyui) -> wire.Launched:
        """Start the active version of ComfyUI and open its page once it is ready.

        Answers within ten seconds, `ready: false` when it takes longer. A version that lacks packages is not started;
        the error says what brings them.
        """
        return _launched(await processes.launch(COMFYUI, remember=True, open_page=p.open_page))

    @methods.row(
        "launch_version",
        wire.LaunchVersion,
        wire.Launched,
        errors=[UnknownApp, VersionNotFound, InvalidInput, FileUnavailable, CorruptState, *_START],
    )
    async def launch_version(p: wire.LaunchVersion) -> wire.Launched:
        """Make a version the active one and start it. Answers within ten seconds, as `launch_comfyui`."""
        asked = processes.launch(p.app_id, p.tag, p.extra_args or (), switch=True, open_page=p.open_page)
        return _launched(await asked)

    @methods.row(
        "launch_app",
        wire.LaunchApp,
        wire.Launched,
        errors=[UnknownApp, NoActiveVersion, VersionNotFound, InvalidInput, FileUnavailable, *_START],
    )
    async def launch_app(p: wire.LaunchApp) -> wire.Launched:
        """Start a version of any app, by default the active one, which stays as it is.

        Answers within ten seconds, `ready: false` when the app takes longer; the event `process.state` tells when it
        is ready. `process.log` brings what it prints.
        """
        asked = processes.launch(p.app_id, p.tag, p.extra_args or (), port=p.port, open_page=p.open_page)
        return _launched(await asked)

    @methods.row("stop_comfyui", NoParams, wire.Stopped, errors=[NotRunning, StopFailed])
    async def stop_comfyui(_p: NoParams) -> wire.Stopped:
        """Stop ComfyUI with all its processes, if a sidecar of this root started it; nothing else is ever touched."""
        return _stopped(await processes.stop(COMFYUI))

    @methods.row("stop_app", wire.WhichRun, wire.Stopped, errors=[UnknownApp, ProcessNotFound, NotRunning, StopFailed])
    async def stop_app(p: wire.WhichRun) -> wire.Stopped:
        """Stop an app, or one run, with all its processes: asked to end first, killed after five seconds."""
        return _stopped(await processes.stop(p.app_id, p.run_id))

    @methods.row("list_processes", wire.ListProcesses, wire.Processes)
    async def list_processes(p: wire.ListProcesses) -> wire.Processes:
        """List the apps that run, newest first, with what each uses together with all its processes.

        Made to be polled: it answers from memory.
        """
        return wire.Processes(processes=[_process(run) for run in processes.list(ended=p.ended)])

    @methods.row(
        "get_process_log",
        wire.WhichLog,
        wire.ProcessLog,
        errors=[UnknownApp, ProcessNotFound, FileUnavailable, DiskError],
    )
    async def get_process_log(p: wire.WhichLog) -> wire.ProcessLog:
        """Show the last lines of what an app printed, of its newest run when none is named; it may have ended."""
        found = await processes.log(p.app_id, p.run_id, p.lines)
        return wire.ProcessLog(log_path=found.log_path, lines=list(found.lines), truncated=found.cut)

    @methods.row("get_process_settings", NoParams, wire.ProcessSettings)
    async def get_process_settings(_p: NoParams) -> wire.ProcessSettings:
        """Show what becomes of running apps when the sidecar ends."""
        return wire.ProcessSettings(on_exit=processes.on_exit.value)

    @methods.row("set_process_settings", wire.SetProcessSettings, wire.ProcessSettings, errors=_DISK)
    async def set_process_settings(p: wire.SetProcessSettings) -> wire.ProcessSettings:
        """Choose what becomes of running apps when the sidecar ends: `stop` them (the default) or `keep` them.

        Kept ones, and those of a sidecar that was killed, are found again by the next one. A `process.settings` event
        tells everybody what was chosen.
        """
        await asyncio.to_thread(processes.set_on_exit, OnExit(p.on_exit))
        return wire.ProcessSettings(on_exit=processes.on_exit.value)

    @methods.row("is_patched", wire.WhichVersion, bool, errors=[InvalidInput, VersionNotFound])
    async def is_patched(p: wire.WhichVersion) -> bool:
        """Say whether a version's `main.py` gives the server a title of its own; without any version it does not."""
        return await patching.is_patched(p.tag)

    @methods.row(
        "patch_main_py",
        wire.WhichVersion,
        bool,
        errors=[InvalidInput, NoActiveVersion, VersionNotFound, CannotPatch, *_DISK],
    )
    async def patch_main_py(p: wire.WhichVersion) -> bool:
        """Give the server a title that task managers show; false when it has it. A backup is kept as `main.py.bak`."""
        return await patching.patch(p.tag)

    @methods.row(
        "revert_main_py",
        wire.WhichVersion,
        bool,
        errors=[InvalidInput, NoActiveVersion, VersionNotFound, CannotPatch, *_DISK],
    )
    async def revert_main_py(p: wire.WhichVersion) -> bool:
        """Take the server's title out of `main.py` again; false when there is none."""
        return await patching.revert(p.tag)

    @methods.row(
        "toggle_patch",
        wire.WhichVersion,
        wire.Toggled,
        errors=[InvalidInput, NoActiveVersion, VersionNotFound, CannotPatch, *_DISK],
    )
    async def toggle_patch(p: wire.WhichVersion) -> wire.Toggled:
        """Patch what is not patched, and the other way round; `patched` is the new state."""
        return wire.Toggled(patched=await patching.toggle(p.tag))

    @methods.row("get_comfyui_version", NoParams, str, errors=[TimedOut])
    async def get_comfyui_version(_p: NoParams) -> str:
        """Name the version of ComfyUI in use; `Unknown` when none is installed."""
        return (await status.release(anew=True)).current_version or "Unknown"

    @methods.row("check_for_new_release", wire.CheckRelease, wire.NewRelease, errors=[TimedOut])
    async def check_for_new_release(p: wire.CheckRelease) -> wire.NewRelease:
        """Compare the version of ComfyUI in use with the newest release that is known. Asks nobody outside."""
        return wire.NewRelease.model_validate(await status.release(anew=p.force_refresh))


def _launched(run: RunInfo) -> wire.Launched:
    runs = run.state is not RunState.EXITED
    return wire.Launched(
        success=runs,
        ready=run.ready if runs else None,
        log_path=run.log_path,
        error=run.error or (None if runs else "It was stopped before it was ready."),
        error_code=None if runs else LaunchFailed.kind,
        run_id=run.run_id,
        pid=run.pid,
        port=run.port,
        url=run.url,
    )


def _stopped(stopped: Stopped) -> wire.Stopped:
    return wire.Stopped(stopped=stopped.processes, killed=stopped.killed)


def _process(run: RunInfo) -> wire.Process:
    return wire.Process(
        run_id=run.run_id,
        app_id=run.app_id,
        tag=run.tag,
        state=run.state.value,
        ready=run.ready,
        pid=run.pid,
        port=run.port,
        url=run.url,
        log_path=run.log_path,
        started_at=run.started_at,
        adopted=run.adopted,
        exit_code=run.exit_code,
        error=run.error,
        cpu_usage=run.usage.cpu,
        ram_memory=run.usage.ram,
        gpu_memory=run.usage.gpu,
    )
