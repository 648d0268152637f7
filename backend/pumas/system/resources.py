"""Load of the machine: processor, memory, the launcher's disk, NVIDIA GPUs.

`service.py` owns one `ResourceMonitor`. The machine and the GPUs are two sources with a thread each (`sampling.py`),
so that a GPU driver that hangs takes no number but its own. psutil and pynvml are imported by those threads at the
first reading: together they cost 100 ms and 14 MB, and most runs of a sidecar never ask. What single programs use is
not known here; the `processes` domain measures those.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, Protocol, TypeVar, cast

from pumas.errors import TimedOut
from pumas.system import disk
from pumas.system.sampling import Pace, Sampler

P = ParamSpec("P")
V = TypeVar("V")

GIB = 1024**3

WATCHED = Pace(max_age=3.0, interval=1.0, park_after=10.0, window=0.1)
"""Readings live longer than the interval, so that a watcher never waits. The first CPU load covers the window, later
ones the time since the reading before."""

CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-thermal", "soc_thermal", "acpitz")
"""Linux hwmon chips that measure the processor, best first (https://docs.kernel.org/hwmon/)."""

NVIDIA_MARKS: dict[str, tuple[str, ...]] = {
    "linux": ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libnvidia-ml.so.1"),
    "win32": (r"C:\Windows\System32\nvml.dll",),
}
"""Files of which one exists where an NVIDIA driver is loaded, by `sys.platform`; looking costs less than pynvml."""


@dataclass(frozen=True, slots=True)
class CpuLoad:
    """`usage` of all cores together in percent 0-100; `temp` in degrees Celsius, None without a sensor."""

    usage: float
    temp: float | None


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """`usage` in percent 0-100, `memory` used and `memory_total` in GiB, `temp` in degrees Celsius or None.

    A number that the driver does not give (virtual and partitioned GPUs) is zero, as for a machine without a GPU.
    """

    name: str | None
    usage: float
    memory: float
    memory_total: float
    temp: float | None


NO_GPU = GpuLoad(name=None, usage=0.0, memory=0.0, memory_total=0.0, temp=None)


@dataclass(frozen=True, slots=True)
class RamLoad:
    """`usage` in percent 0-100; `used` (what programs cannot get) and `total` in GiB."""

    usage: float
    used: float
    total: float


@dataclass(frozen=True, slots=True)
class DiskLoad:
    """The filesystem of the launcher root: `usage` in percent 0-100; `used`, `total` and `free` in GiB."""

    usage: float
    used: float
    total: float
    free: float


@dataclass(frozen=True, slots=True)
class HostLoad:
    """What one reading of the machine gives, without its GPUs."""

    cpu: CpuLoad
    ram: RamLoad
    disk: DiskLoad


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything at once. `gpu` is the first NVIDIA GPU or `NO_GPU`; `gpus` are all, in the driver's order."""

    cpu: CpuLoad
    gpu: GpuLoad
    gpus: tuple[GpuLoad, ...]
    ram: RamLoad
    disk: DiskLoad


class ResourceMonitor:
    """The load of this machine, read in the background while somebody asks for it."""

    def __init__(self, root: Path, *, load_nvml: Callable[[], Nvml | None] | None = None, pace: Pace = WATCHED) -> None:
        """`root` is on the disk to watch; `load_nvml` stands in for `installed_nvml`."""
        load = load_nvml or installed_nvml
        self._host = Sampler("machine's load", lambda: host_source(root), pace)
        self._gpus = Sampler("GPUs", lambda: gpu_source(load), pace)

    @property
    def awake(self) -> bool:
        """Whether anything is being read; False when nobody has asked for a while."""
        return self._host.awake or self._gpus.awake

    async def latest(self) -> Resources:
        """The load now, at most `max_age` old.

        Raises `DiskError` when the launcher's disk cannot be read, `TimedOut` when the machine does not answer. GPUs
        that do not answer in time are left out.
        """
        self._gpus.wake()  # both sources start before either is waited for
        host = await self._host.latest()
        try:
            gpus = await self._gpus.latest()
        except TimedOut:
            gpus = ()
        return Resources(host.cpu, gpus[0] if gpus else NO_GPU, gpus, host.ram, host.disk)

    async def close(self) -> None:
        await asyncio.gather(self._host.close(), self._gpus.close())


# The machine


class Temperature(Protocol):
    """One sensor of a chip as psutil reports it."""

    @property
    def current(self) -> float | None: ...


@contextmanager
def host_source(root: Path) -> Generator[Callable[[], HostLoad]]:
    """Readings of processor, memory and the disk of `root`; they raise `DiskError`."""
    import psutil

    psutil.cpu_percent()  # the start of the first window; psutil keeps it for this thread

    def read() -> HostLoad:
        memory, space = psutil.virtual_memory(), disk.measure(root)
        used = memory.total - memory.available
        return HostLoad(
            CpuLoad(disk.percent(psutil.cpu_percent(), 100.0), cpu_temperature(_chips())),
            RamLoad(disk.percent(used, memory.total), _gib(used), _gib(memory.total)),
            DiskLoad(space.percent, _gib(space.used), _gib(space.total), _gib(space.free)),
        )

    yield read


def _chips() -> Mapping[str, Sequence[Temperature]]:
    import psutil

    sensors = getattr(psutil, "sensors_temperatures", None)  # not on macOS and Windows
    try:
        return cast("Mapping[str, Sequence[Temperature]]", sensors()) if sensors else {}
    except (OSError, ValueError):  # a chip that went away, or writes something that is not a number
        return {}


def cpu_temperature(chips: Mapping[str, Sequence[Temperature]]) -> float | None:
    """Degrees Celsius of the first processor sensor, None without one. The package comes before its cores."""
    found = (sensor.current for name in CPU_SENSORS for sensor in chips.get(name, ()))
    return next((round(degrees, 1) for degrees in found if degrees is not None and math.isfinite(degrees)), None)


def _gib(size: int) -> float:
    return round(size / GIB, 1)


# NVIDIA GPUs


class NvmlMemory(Protocol):
    """Bytes of one GPU's memory."""

    @property
    def total(self) -> int: ...
    @property
    def used(self) -> int: ...


class NvmlUtilization(Protocol):
    """Percent of the last driver period in which the GPU was busy."""

    @property
    def gpu(self) -> int: ...


class Nvml(Protocol):
    """The part of the module `pynvml` that is used here.

    https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
    """

    @property
    def NVMLError(self) -> type[Exception]: ...
    @property
    def NVML_TEMPERATURE_GPU(self) -> int: ...
    def nvmlInit(self) -> object: ...
    def nvmlShutdown(self) -> object: ...
    def nvmlDeviceGetCount(self) -> int: ...
    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> object: ...
    def nvmlDeviceGetName(self, handle: object, /) -> str: ...
    def nvmlDeviceGetMemoryInfo(self, handle: object, /) -> NvmlMemory: ...
    def nvmlDeviceGetUtilizationRates(self, handle: object, /) -> NvmlUtilization: ...
    def nvmlDeviceGetTemperature(self, handle: object, sensor: int, /) -> int: ...


def installed_nvml(marks: Sequence[str] | None = None) -> Nvml | None:
    """The NVIDIA library if one of `marks` (this platform's by default) exists, else None; imports pynvml only then."""
    if not any(os.path.exists(mark) for mark in (NVIDIA_MARKS.get(sys.platform, ()) if marks is None else marks)):
        return None
    try:
        import pynvml
    except ImportError:  # an incomplete installation, which `dependencies.py` reports
        return None
    return cast("Nvml", pynvml)


@contextmanager
def gpu_source(load: Callable[[], Nvml | None]) -> Generator[Callable[[], tuple[GpuLoad, ...]]]:
    """Readings of every NVIDIA GPU; none when there is no driver or it refuses.

    The driver is let go when nobody watches: an open one keeps the GPU of a laptop from sleeping.
    """
    nvml = load()
    if nvml is None:
        yield tuple
        return
    with suppress(nvml.NVMLError):  # a driver that refuses here refuses to count its GPUs, too
        nvml.nvmlInit()
    try:
        yield lambda: tuple(_gpus(nvml))
    finally:
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _gpus(nvml: Nvml) -> Iterator[GpuLoad]:
    for index in range(_given(nvml, nvml.nvmlDeviceGetCount) or 0):
        handle = _given(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
        if handle is not None:  # else it fell off the bus, or belongs to somebody else
            yield _gpu(nvml, handle)


def _gpu(nvml: Nvml, handle: object) -> GpuLoad:
    rates = _given(nvml, nvml.nvmlDeviceGetUtilizationRates, handle)
    memory = _given(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    temp = _given(nvml, nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    return GpuLoad(
        name=_given(nvml, nvml.nvmlDeviceGetName, handle),
        usage=disk.percent(rates.gpu, 100.0) if rates else 0.0,
        memory=_gib(memory.used) if memory else 0.0,
        memory_total=_gib(memory.total) if memory else 0.0,
        temp=None if temp is None else float(temp),
    )


def _given(nvml: Nvml, ask: Callable[P, V], *args: P.args, **kwargs: P.kwargs) -> V | None:
    """The driver's answer, None where it has none: which questions a GPU answers depends on its kind."""
    try:
        return ask(*args, **kwargs)
    except nvml.NVMLError:
        return None
