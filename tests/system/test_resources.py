"""Units and nulls, with the real psutil and an NVIDIA library of our own."""

import asyncio
import sys
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pumas.errors import DiskError, TimedOut
from pumas.system import resources
from pumas.system.resources import GIB, NO_GPU, WATCHED, CpuLoad, GpuLoad, ResourceMonitor

QUICK = replace(WATCHED, window=0.02)


class NvmlFault(Exception):
    """What the library raises: not supported, GPU lost, driver not loaded."""


@dataclass
class Device:
    name: str = "NVIDIA Test"
    usage: int = 42
    used: int = 3 * GIB
    total: int = 24 * GIB
    temp: int = 61


@dataclass
class FakeNvml:
    """The part of pynvml that is used; `refused` names functions that fail, for all GPUs or for one."""

    devices: list[Device] = field(default_factory=lambda: [Device()])
    refused: set[str | tuple[str, int]] = field(default_factory=set)
    opened: int = 0
    NVMLError: type[Exception] = NvmlFault
    NVML_TEMPERATURE_GPU: int = 0

    def _ask(self, function: str, index: int = -1) -> None:
        if function in self.refused or (function, index) in self.refused or self.opened < 1:
            raise NvmlFault(function)

    def nvmlInit(self) -> None:
        if "nvmlInit" in self.refused:
            raise NvmlFault("nvmlInit")
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self._ask("nvmlShutdown")
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        self._ask("nvmlDeviceGetCount")
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._ask("nvmlDeviceGetHandleByIndex", index)
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        self._ask("nvmlDeviceGetName", handle)
        return self.devices[handle].name

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        self._ask("nvmlDeviceGetMemoryInfo", handle)
        return SimpleNamespace(used=self.devices[handle].used, total=self.devices[handle].total)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        self._ask("nvmlDeviceGetUtilizationRates", handle)
        return SimpleNamespace(gpu=self.devices[handle].usage, memory=1)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._ask("nvmlDeviceGetTemperature", handle)
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self.devices[handle].temp


FIRST = GpuLoad("NVIDIA Test", usage=42.0, memory=3.0, memory_total=24.0, temp=61.0)
SECOND = GpuLoad("Other", usage=0.0, memory=1.5, memory_total=8.0, temp=30.0)
TWO = [Device(), Device("Other", 0, 3 * GIB // 2, 8 * GIB, 30)]


def without(*names: str) -> set[str | tuple[str, int]]:
    return set(names)


@pytest.mark.parametrize(
    ("nvml", "expected"),
    [
        (None, ()),
        (FakeNvml([]), ()),
        (FakeNvml(), (FIRST,)),
        (FakeNvml(TWO), (FIRST, SECOND)),
        (FakeNvml(refused=without("nvmlInit")), ()),
        (FakeNvml(refused=without("nvmlDeviceGetCount")), ()),
        (FakeNvml(TWO, refused={("nvmlDeviceGetHandleByIndex", 0)}), (SECOND,)),
        (FakeNvml(refused=without("nvmlDeviceGetUtilizationRates")), (replace(FIRST, usage=0.0),)),
        (FakeNvml(refused=without("nvmlDeviceGetMemoryInfo")), (replace(FIRST, memory=0.0, memory_total=0.0),)),
        (FakeNvml(refused=without("nvmlDeviceGetTemperature")), (replace(FIRST, temp=None),)),
        (FakeNvml(refused=without("nvmlDeviceGetName")), (replace(FIRST, name=None),)),
        (FakeNvml(refused=without("nvmlShutdown")), (FIRST,)),
        (FakeNvml([Device(usage=130)]), (replace(FIRST, usage=100.0),)),
        (FakeNvml([Device(used=GIB // 3)]), (replace(FIRST, memory=0.3),)),
    ],
)
def test_gpus(nvml: FakeNvml | None, expected: tuple[GpuLoad, ...]) -> None:
    with resources.gpu_source(lambda: nvml) as read:
        assert read() == expected
        assert read() == expected


def test_the_driver_is_let_go() -> None:
    nvml = FakeNvml()
    with pytest.raises(ZeroDivisionError), resources.gpu_source(lambda: nvml):
        assert nvml.opened == 1
        _ = 1 / 0
    assert nvml.opened == 0


def test_a_gpu_that_falls_off_the_bus_while_watched_comes_back_when_it_does() -> None:
    nvml = FakeNvml(TWO)
    with resources.gpu_source(lambda: nvml) as read:
        assert read() == (FIRST, SECOND)
        nvml.refused.add(("nvmlDeviceGetHandleByIndex", 1))
        assert read() == (FIRST,)
        nvml.refused.clear()
        assert read() == (FIRST, SECOND)


def test_pynvml_is_imported_only_where_a_driver_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    assert resources.installed_nvml([str(tmp_path / "nvidiactl")]) is None
    assert "pynvml" not in sys.modules
    (tmp_path / "nvidiactl").touch()
    nvml = resources.installed_nvml([str(tmp_path / "other"), str(tmp_path / "nvidiactl")])
    assert nvml is sys.modules["pynvml"]
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert resources.installed_nvml([str(tmp_path / "nvidiactl")]) is None, "a missing package is a missing GPU"


def test_the_real_library_has_everything_that_the_fake_one_has() -> None:
    import pynvml

    used = {name for name in dir(resources.Nvml) if name.lower().startswith("nvml")}
    assert {"nvmlInit", "NVMLError", "nvmlDeviceGetMemoryInfo"} <= used
    assert [name for name in used if not hasattr(pynvml, name) or not hasattr(FakeNvml(), name)] == []
    with resources.gpu_source(lambda: pynvml) as read:
        assert isinstance(read(), tuple), "also where there is no driver at all"


def sensors(**chips: list[float | None]) -> dict[str, list[SimpleNamespace]]:
    return {name: [SimpleNamespace(current=value) for value in values] for name, values in chips.items()}


@pytest.mark.parametrize(
    ("chips", "expected"),
    [
        ({}, None),
        (sensors(nvme=[40.0]), None),
        (sensors(coretemp=[51.04, 60.0]), 51.0),
        (sensors(acpitz=[27.8], k10temp=[63.25]), 63.2),
        (sensors(coretemp=[None, 55.0]), 55.0),
        (sensors(coretemp=[float("nan")], acpitz=[30.0]), 30.0),
        (sensors(coretemp=[]), None),
    ],
)
def test_cpu_temperature(chips, expected: float | None) -> None:
    assert resources.cpu_temperature(chips) == expected


@pytest.mark.parametrize("answer", [OSError("gone"), ValueError("text"), None])
def test_sensors_that_fail_or_are_not_there_are_none(tmp_path: Path, monkeypatch, answer: Exception | None) -> None:
    def fail() -> None:
        assert answer
        raise answer

    if answer:
        monkeypatch.setattr(psutil, "sensors_temperatures", fail, raising=False)
    else:
        monkeypatch.delattr(psutil, "sensors_temperatures", raising=False)
    with resources.host_source(tmp_path) as read:
        assert read().cpu.temp is None


def test_units_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total=16 * GIB, available=12 * GIB)
    space = resources.disk.DiskSpace(total=100 * GIB, used=25 * GIB + GIB // 4, free=70 * GIB, percent=25.3)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(psutil, "cpu_percent", lambda: 12.34)
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors(k10temp=[50.0]), raising=False)
    monkeypatch.setattr(resources.disk, "measure", lambda _path: space)
    with resources.host_source(tmp_path) as read:
        host = read()
    assert host.cpu == CpuLoad(usage=12.3, temp=50.0)
    assert host.ram == resources.RamLoad(usage=25.0, used=4.0, total=16.0)
    assert host.disk == resources.DiskLoad(usage=25.3, used=25.2, total=100.0, free=70.0)


def test_opening_starts_the_first_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []
    monkeypatch.setattr(psutil, "cpu_percent", lambda: calls.append(0.0) or 50.0)
    with resources.host_source(tmp_path) as read:
        assert len(calls) == 1, "else the first load of a new thread is the meaningless 0.0"
        assert read().cpu.usage == 50.0


def test_the_pace_of_watching() -> None:
    assert WATCHED.window >= 0.1, "psutil asks for this much between two looks at the processor times"
    assert WATCHED.max_age > 2 * WATCHED.interval, "a watcher never waits, also when one reading is late"
    assert WATCHED.park_after > 2.0, "a shell that asks every two seconds keeps it awake"


async def test_gpus_and_machine_are_read_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml_asked, measure = threading.Event(), resources.disk.measure

    def load() -> None:
        nvml_asked.set()

    def after_nvml(path: Path) -> resources.disk.DiskSpace:
        assert nvml_asked.wait(30)
        return measure(path)

    monkeypatch.setattr(resources.disk, "measure", after_nvml)
    monitor = ResourceMonitor(tmp_path, load_nvml=load, pace=QUICK)
    assert (await monitor.latest()).gpus == ()
    await monitor.close()


async def test_the_real_machine_at_work(tmp_path: Path) -> None:
    """A busy core must show: the first number is measured over the window, not the meaningless zero of a new handle."""
    monitor, done = ResourceMonitor(tmp_path, load_nvml=lambda: None), threading.Event()

    def burn() -> None:
        while not done.is_set():
            sum(range(1000))

    worker = threading.Thread(target=burn, daemon=True)
    worker.start()
    try:
        load = await monitor.latest()
    finally:
        done.set()
        worker.join()
        await monitor.close()
    assert 0.0 < load.cpu.usage <= 100.0
    assert load.ram.total == round(psutil.virtual_memory().total / GIB, 1)
    assert 0.0 < load.ram.usage < 100.0 and 0.0 < load.ram.used < load.ram.total
    assert load.disk.total == round(psutil.disk_usage(str(tmp_path)).total / GIB, 1)
    assert load.gpu == NO_GPU and load.gpus == ()


async def test_the_first_gpu_stands_for_all(tmp_path: Path) -> None:
    monitor = ResourceMonitor(tmp_path, load_nvml=lambda: FakeNvml(TWO), pace=QUICK)
    load = await monitor.latest()
    assert load.gpu == FIRST and load.gpus == (FIRST, SECOND)
    await monitor.close()


async def test_nothing_is_awake_before_the_first_question_and_after_the_last(tmp_path: Path) -> None:
    nvml = FakeNvml()
    monitor = ResourceMonitor(tmp_path, load_nvml=lambda: nvml, pace=replace(QUICK, interval=0.01, park_after=0.02))
    before = threading.active_count()
    assert not monitor.awake
    await monitor.latest()
    for thread in threading.enumerate():
        if thread.name.startswith("sample "):
            thread.join(30)
    assert not monitor.awake and threading.active_count() == before
    assert nvml.opened == 0, "the driver is let go with the thread"


async def test_a_gpu_driver_that_hangs_takes_only_the_gpus(tmp_path: Path) -> None:
    release = threading.Event()

    def hang() -> FakeNvml:
        release.wait(30)
        return FakeNvml()

    monitor = ResourceMonitor(tmp_path, load_nvml=hang, pace=replace(QUICK, answer_within=1.0))
    load = await monitor.latest()
    assert load.gpus == () and load.gpu == NO_GPU and load.ram.total > 0
    release.set()
    await monitor.close()


async def test_a_disk_that_hangs_is_an_error_in_time_and_not_a_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, measure = threading.Event(), resources.disk.measure

    def hang(path: Path) -> resources.disk.DiskSpace:
        release.wait(30)
        return measure(path)

    monkeypatch.setattr(resources.disk, "measure", hang)
    monitor = ResourceMonitor(tmp_path, load_nvml=lambda: None, pace=replace(QUICK, answer_within=0.05))
    with pytest.raises(TimedOut):
        await monitor.latest()
    release.set()
    await monitor.close()


async def test_a_root_that_is_gone_is_an_error_and_heals(tmp_path: Path) -> None:
    root = tmp_path / "unplugged"
    monitor = ResourceMonitor(root, load_nvml=lambda: None, pace=replace(QUICK, interval=0.01, max_age=0.05))
    with pytest.raises(DiskError):
        await monitor.latest()
    root.mkdir()

    async def healed() -> None:
        while True:
            try:
                await monitor.latest()
                return
            except DiskError:
                await asyncio.sleep(0)

    await asyncio.wait_for(healed(), 30)
    await monitor.close()
