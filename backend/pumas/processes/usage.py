"""What running apps use: processor, memory and GPU memory, each with all its processes, read in the background.

`service.py` owns one `UsageMonitor`, which reads while somebody asks and something runs (`pumas.system.sampling`).
psutil and pynvml are imported by its thread at the first reading. It knows no app: who belongs to one is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, cast

from pumas.processes.kernel import Seen
from pumas.processes.values import Usage
from pumas.system.resources import GIB, WATCHED, Nvml, installed_nvml
from pumas.system.sampling import Pace, Sampler

if TYPE_CHECKING:
    import psutil

Families = Callable[[], Mapping[str, Sequence[Seen]]]
"""The processes of each run, by the run's id; asked on the sampling thread."""


class UsageMonitor:
    def __init__(
        self, families: Families, *, load_nvml: Callable[[], Nvml | None] | None = None, pace: Pace = WATCHED
    ) -> None:
        load = load_nvml or installed_nvml
        self._sampler: Sampler[dict[str, Usage]] = Sampler("apps' load", lambda: usage_source(families, load), pace)
        self._last: Mapping[str, Usage] = {}

    def latest(self) -> Mapping[str, Usage]:
        """The newest reading that is there, by the run's id, and the wish for newer ones. Never waits, never raises."""
        with suppress(Exception):  # a reading that failed is logged nowhere: the next comes in a second
            reading = self._sampler.wake()
            if reading.done():
                self._last = reading.result()
        return self._last

    async def fresh(self) -> Mapping[str, Usage]:
        """A reading that is not older than the pace allows. Raises TimedOut, Interrupted."""
        self._last = await self._sampler.latest()
        return self._last

    async def close(self) -> None:
        await self._sampler.close()


@contextmanager
def usage_source(families: Families, load: Callable[[], Nvml | None]) -> Generator[Callable[[], dict[str, Usage]]]:
    """Readings for a sampler. Handles of processes are kept between readings: load is a difference."""
    nvml = load()
    if nvml is not None:
        with suppress(nvml.NVMLError):
            nvml.nvmlInit()
    handles: dict[tuple[int, int], psutil.Process] = {}

    def read() -> dict[str, Usage]:
        runs = families()
        present = {(seen.pid, seen.start) for run in runs.values() for seen in run}
        for gone in handles.keys() - present:
            del handles[gone]
        on_gpu = gpu_memory(nvml) if nvml is not None and present else {}
        return {run_id: _sum(run, handles, on_gpu) for run_id, run in runs.items()}

    try:
        yield read
    finally:
        if nvml is not None:
            with suppress(nvml.NVMLError):
                nvml.nvmlShutdown()


def _sum(run: Sequence[Seen], handles: dict[tuple[int, int], psutil.Process], on_gpu: Mapping[int, int]) -> Usage:
    import psutil

    cpu, ram, gpu = 0.0, 0, 0
    for seen in run:
        with suppress(psutil.Error, OSError):  # it ended meanwhile
            process = handles.get((seen.pid, seen.start))
            if process is None:
                process = handles[seen.pid, seen.start] = psutil.Process(seen.pid)
            with process.oneshot():
                cpu += process.cpu_percent()
                ram += process.memory_info().rss
            gpu += on_gpu.get(seen.pid, 0)
    return Usage(round(cpu, 1), round(ram / GIB, 2), round(gpu / GIB, 2))


class NvmlProcess(Protocol):
    """A process on a GPU. The memory is in bytes, None where the driver does not tell."""

    @property
    def pid(self) -> int: ...
    @property
    def usedGpuMemory(self) -> int | None: ...


class NvmlProcesses(Protocol):
    """https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html"""

    def nvmlDeviceGetComputeRunningProcesses(self, handle: object, /) -> Sequence[NvmlProcess]: ...
    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: object, /) -> Sequence[NvmlProcess]: ...


def gpu_memory(nvml: Nvml) -> dict[int, int]:
    """Bytes on all GPUs, by process. One that computes and draws is in both lists of a GPU, and counts once."""
    lists = cast(NvmlProcesses, nvml)
    total: dict[int, int] = {}
    with suppress(nvml.NVMLError):
        for index in range(nvml.nvmlDeviceGetCount()):
            here: dict[int, int] = {}
            with suppress(nvml.NVMLError):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                for listed in (
                    lists.nvmlDeviceGetComputeRunningProcesses,
                    lists.nvmlDeviceGetGraphicsRunningProcesses,
                ):
                    with suppress(nvml.NVMLError):
                        for process in listed(handle):
                            here[process.pid] = max(here.get(process.pid, 0), process.usedGpuMemory or 0)
            for pid, size in here.items():
                total[pid] = total.get(pid, 0) + size
    return total
