"""What apps use: sums over real processes, GPUs played by a stand-in for the driver."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pumas.processes import kernel
from pumas.processes.kernel import Seen
from pumas.processes.usage import Usage, UsageMonitor, gpu_memory, usage_source
from pumas.system.sampling import Pace

GIB = 1024**3
BUSY = "x = bytearray(200 << 20); print(flush=True)\nwhile True: pass"


class Refused(Exception):
    pass


class Driver:
    """The part of pynvml that is asked. `compute` and `graphics` hold (pid, bytes) per GPU, or a refusal."""

    NVMLError = Refused

    def __init__(self, compute: list[Any], graphics: list[Any]) -> None:
        self.compute, self.graphics = compute, graphics
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.compute)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return self._given(self.compute[handle])

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle: int) -> list[Any]:
        return self._given(self.graphics[handle])

    @staticmethod
    def _given(listed: Any) -> list[Any]:
        if isinstance(listed, Exception):
            raise listed
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in listed]


@pytest.mark.parametrize(
    ("compute", "graphics", "expected"),
    [
        ([], [], {}),
        ([[]], [[]], {}),
        ([[(1, 5), (2, 7)]], [[]], {1: 5, 2: 7}),
        ([[(1, 5)], [(1, 6)]], [[], []], {1: 11}),
        ([[(1, 5)]], [[(1, 8)]], {1: 8}),
        ([[(1, None)]], [[]], {1: 0}),
        ([Refused()], [[(3, 1)]], {3: 1}),
        ([[(1, 5)], Refused()], [Refused(), Refused()], {1: 5}),
    ],
)
def test_gpu_memory(compute: list[Any], graphics: list[Any], expected: dict[int, int]) -> None:
    assert gpu_memory(Driver(compute, graphics)) == expected  # type: ignore[arg-type]


@pytest.fixture
def busy() -> Iterator[list[Seen]]:
    """Two processes that compute and hold 200 MiB each."""
    both = [subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) for _ in range(2)]
    found: list[Seen] = []
    for process in both:
        assert process.stdout is not None
        process.stdout.readline()
        seen = kernel.look(process.pid)
        assert seen is not None
        found.append(seen)
    yield found
    for process in both:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_sums_over_all_processes(busy: list[Seen]) -> None:
    driver = Driver([[(busy[0].pid, 3 * GIB), (busy[1].pid, GIB), (1, 9 * GIB)]], [[]])
    runs = {"one": busy[:1], "other": busy[1:], "none": []}
    with usage_source(lambda: runs, lambda: driver) as read:  # type: ignore[arg-type, return-value]
        assert read()["one"].cpu == 0.0, "load is a difference"
        time.sleep(0.3)
        used = read()
        runs = {"both": busy}
        time.sleep(0.3)
        both = read()["both"]
        assert driver.open == 1
    assert driver.open == 0
    assert used["none"] == Usage(0.0, 0.0, 0.0)
    assert (used["one"].gpu, used["other"].gpu, both.gpu) == (3.0, 1.0, 4.0)
    assert 0.4 <= both.ram <= 0.6 and 0.2 <= used["one"].ram <= 0.3
    assert used["one"].cpu > 3.0 and used["other"].cpu > 3.0 and both.cpu > 6.0


def test_a_process_that_ends_or_whose_number_is_anothers_counts_nothing(busy: list[Seen]) -> None:
    gone = Seen(2**22 + 7, 1, 1, 1, 1, False)
    runs: dict[str, list[Seen]] = {"a": [*busy, gone]}
    with usage_source(lambda: runs, lambda: None) as read:
        read()
        assert read()["a"].ram >= 0.4
        runs["a"] = [gone]
        assert read()["a"] == Usage()


async def test_the_latest_reading_is_given_without_waiting() -> None:
    asked: list[int] = []

    def families() -> dict[str, list[Seen]]:
        asked.append(1)
        return {"x": []}

    monitor = UsageMonitor(families, load_nvml=lambda: None, pace=Pace(max_age=60.0, answer_within=5.0))
    assert monitor.latest() == {}
    assert await monitor.fresh() == {"x": Usage()}
    assert monitor.latest() == {"x": Usage()} and len(asked) == 1
    await monitor.close()
    assert monitor.latest() == {"x": Usage()}, "a closed one goes on to say what it knew"


async def test_a_reading_that_fails_takes_nothing_away() -> None:
    def families() -> dict[str, list[Seen]]:
        raise OSError("no table")

    monitor = UsageMonitor(families, load_nvml=lambda: None, pace=Pace(max_age=0.0))
    for _ in range(3):
        assert monitor.latest() == {}
        with pytest.raises(OSError, match="no table"):
            await monitor.fresh()
    await monitor.close()
