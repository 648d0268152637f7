"""Wire models of running apps. Memory is in GiB (1024^3 bytes), load in percent of one core, times in UTC."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pumas.rpc.models import Name, Params, Result

AppId = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Argument = Annotated[str, StringConstraints(max_length=4096)]
Arguments = Annotated[list[Argument], Field(max_length=200)]
State = Literal["starting", "ready", "not_answering", "stopping", "exited"]
OnExit = Literal["stop", "keep"]


OpenPage = Annotated[bool, Field(description="Open its page in the browser once it is ready.")]


class LaunchComfyui(Params):
    open_page: OpenPage = True


class LaunchVersion(Params):
    tag: Name
    extra_args: Arguments | None = Field(None, description="For the app itself, after its own arguments.")
    app_id: AppId = "comfyui"
    open_page: OpenPage = True


class LaunchApp(Params):
    app_id: AppId
    tag: Name | None = Field(None, description="Left out: the active version.")
    extra_args: Arguments | None = Field(None, description="For the app itself, after its own arguments.")
    port: int | None = Field(None, ge=1, le=65535, description="Left out: the app's own when it is free, else any.")
    open_page: OpenPage = False


class WhichRun(Params):
    app_id: AppId | None = Field(None, description="Left out, without a run: comfyui.")
    run_id: Name | None = Field(None, description="One run; goes before `app_id`.")


class WhichLog(WhichRun):
    lines: int = Field(200, ge=1, le=2000, description="How many of the last ones.")


class ListProcesses(Params):
    ended: bool = Field(False, description="Also those that ended since the sidecar started, the last 20.")


class WhichVersion(Params):
    tag: Name | None = Field(None, description="Left out: the active version.")


class SetProcessSettings(Params):
    on_exit: OnExit = Field(description="What becomes of running apps when the sidecar ends.")


class Launched(Result):
    """Older clients read `success`, `error`, `log_path`, `ready`."""

    success: bool = Field(description="Whether the app runs; it may not be ready yet.")
    ready: bool | None = Field(description="Whether it answers already; null when it does not run.")
    log_path: str | None
    error: str | None
    error_code: str | None = Field(None, exclude_if=lambda value: value is None)
    run_id: str | None
    pid: int | None = Field(description="The first process.")
    port: int | None
    url: str | None = Field(description="Where its page is.")


class Stopped(Result):
    stopped: int = Field(description="How many processes were told to end.")
    killed: int = Field(description="How many of them had to be killed.")


class Process(Result):
    run_id: str
    app_id: str
    tag: str
    state: State
    ready: bool
    pid: int = Field(description="The first process.")
    port: int
    url: str
    log_path: str
    started_at: str
    adopted: bool = Field(description="An earlier sidecar of this root started it.")
    exit_code: int | None = Field(description="Negative: the signal that ended it. Null while it runs or when unknown.")
    error: str | None
    cpu_usage: float
    ram_memory: float
    gpu_memory: float


class Processes(Result):
    processes: list[Process]


class ProcessLog(Result):
    log_path: str
    lines: list[str] = Field(description="Oldest first, without control characters.")
    truncated: bool = Field(description="There are more before them.")


class ProcessSettings(Result):
    on_exit: OnExit


class Toggled(Result):
    patched: bool


class NewRelease(Result):
    has_update: bool
    latest_version: str | None
    current_version: str | None


class CheckRelease(Params):
    force_refresh: bool = Field(False, description="Compare anew instead of giving what was found a moment ago.")
