"""Wire models of the system methods. Units: percent 0 to 100, GiB (1024^3 bytes), degrees Celsius; null = no sensor."""

from __future__ import annotations

from pydantic import Field

from pumas.rpc.models import Result


class AppProcess(Result):
    pid: int
    app_id: str
    source: str
    tag: str | None
    cpu_usage: float = Field(description="Percent of one core; may exceed 100.")
    ram_memory: float
    gpu_memory: float
    pid_file: str | None = None
    cmd: str | None = None


class AppResources(Result):
    cpu: float
    ram_memory: float
    gpu_memory: float


class ReleaseInfo(Result):
    has_update: bool
    latest_version: str | None
    current_version: str | None


class Status(Result):
    version: str
    deps_ready: bool
    missing_deps: list[str]
    patched: bool
    menu_shortcut: bool
    desktop_shortcut: bool
    shortcut_version: str | None
    comfyui_running: bool
    running_processes: list[AppProcess]
    app_resources: dict[str, AppResources] = Field(
        description="Sums over the processes of each app that runs, by its id; empty when none runs."
    )
    message: str = Field(description="Non-empty only when the user should act.")
    release_info: ReleaseInfo
    last_launch_log: str | None
    last_launch_error: str | None


class DiskSpace(Result):
    total: int = Field(description="Bytes of the file system that holds the launcher root.")
    used: int
    free: int
    percent: float


class Cpu(Result):
    usage: float
    temp: float | None


class Gpu(Result):
    usage: float
    memory: float = Field(description="GiB in use.")
    memory_total: float
    temp: float | None


class NamedGpu(Gpu):
    name: str | None


class Ram(Result):
    usage: float
    used: float
    total: float


class Disk(Result):
    usage: float
    used: float
    total: float
    free: float


class Resources(Result):
    cpu: Cpu
    gpu: Gpu = Field(description="The first NVIDIA GPU; zeros without one.")
    gpus: list[NamedGpu]
    ram: Ram
    disk: Disk


class ResourcesReply(Result):
    resources: Resources


class Sandbox(Result):
    is_sandboxed: bool
    sandbox_type: str
    limitations: list[str]
