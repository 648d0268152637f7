"""The service as `methods.py` will use it: plain facts, shared readings, honest empties."""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import pumas
from pumas.errors import DiskError, Interrupted
from pumas.system.dependencies import Dependencies
from pumas.system.sandbox import LIMITATIONS, Sandbox, SandboxKind
from pumas.system.service import AppProcess, AppResources, AppsReport, ReleaseInfo, Status, SystemService

WHOLE = Dependencies(git=True, brave=False, setproctitle=False, missing=())
BROKEN = Dependencies(git=False, brave=True, setproctitle=True, missing=("blake3", "orjson"))
IN_SNAP = Sandbox(SandboxKind.SNAP, LIMITATIONS[SandboxKind.SNAP])


class Apps:
    def __init__(self, report: AppsReport) -> None:
        self._report = report

    async def report(self) -> AppsReport:
        return self._report


class Counted:
    """A blocking look at the machine that counts how often it is made."""

    def __init__(self, found: Dependencies) -> None:
        self.found, self.looks = found, 0

    def __call__(self) -> Dependencies:
        assert threading.current_thread() is not threading.main_thread(), "never on the loop"
        self.looks += 1
        return self.found


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[SystemService]:
    service = SystemService(tmp_path, load_nvml=lambda: None, detect_sandbox=lambda: IN_SNAP)
    yield service
    await service.close()


def started(root: Path, found: Dependencies, report: AppsReport | None = None) -> SystemService:
    apps = Apps(report) if report else None
    return SystemService(root, apps=apps, load_nvml=lambda: None, look_for_dependencies=lambda: found)


def status(**facts: object) -> Status:
    nothing: dict[str, object] = {
        "version": pumas.__version__,
        "deps_ready": True,
        "missing_deps": (),
        "message": "",
        "running_processes": (),
        "app_resources": {},
        "shortcut_version": None,
        "last_launch_log": None,
        "last_launch_error": None,
    }
    return Status(**(nothing | facts))  # type: ignore[arg-type]


SERVER = AppProcess(7, "pid_file", "v1.2", 120.25, 1.25, 6.0, pid_file="/srv/pumas/comfyui.pid")
STRAY = AppProcess(9, "process_scan", None, 0.5, 0.12, 0.0, cmd="python main.py")
OTHER = AppProcess(11, "pid_file", "v9", 3.0, 0.5, 0.0, app_id="ollama")
UPDATE = ReleaseInfo(has_update=True, latest_version="v2", current_version="v1")


@pytest.mark.parametrize(
    ("found", "report", "expected"),
    [
        (WHOLE, None, status()),
        (WHOLE, AppsReport(), status()),
        (
            BROKEN,
            None,
            status(
                deps_ready=False,
                missing_deps=("blake3", "orjson"),
                message="Parts of this installation are missing (blake3, orjson); run './launcher setup' to add them.",
            ),
        ),
        (
            WHOLE,
            AppsReport((SERVER, STRAY), active_tag="v1.2", last_launch_log="/log"),
            status(
                running_processes=(SERVER, STRAY),
                app_resources={"comfyui": AppResources(cpu=120.8, ram_memory=1.37, gpu_memory=6.0)},
                shortcut_version="v1.2",
                last_launch_log="/log",
            ),
        ),
        (WHOLE, AppsReport(last_launch_error="port taken"), status(last_launch_error="port taken")),
        (
            WHOLE,
            AppsReport((OTHER,), patched=True, menu_shortcut=True, release_info=UPDATE, message="Do this."),
            status(
                running_processes=(OTHER,),
                app_resources={"ollama": AppResources(3.0, 0.5, 0.0)},
                patched=True,
                menu_shortcut=True,
                release_info=UPDATE,
                message="Do this.",
            ),
        ),
    ],
)
async def test_status(tmp_path: Path, found: Dependencies, report: AppsReport | None, expected: Status) -> None:
    service = started(tmp_path, found, report)
    assert await service.status() == expected
    assert expected.comfyui_running is any(one.app_id == "comfyui" for one in expected.running_processes)
    await service.close()


def test_what_no_part_has_reported_is_not_claimed() -> None:
    empty = status()
    assert not (empty.patched or empty.menu_shortcut or empty.desktop_shortcut or empty.comfyui_running)
    assert empty.release_info == ReleaseInfo(has_update=False, latest_version=None, current_version=None)


@pytest.mark.parametrize("found", [WHOLE, BROKEN])
async def test_checks(tmp_path: Path, found: Dependencies) -> None:
    service = started(tmp_path, found)
    assert await service.has_git() is found.git
    assert await service.has_brave() is found.brave
    assert await service.has_setproctitle() is found.setproctitle
    assert await service.missing_dependencies() == found.missing
    await service.close()


async def test_polling_looks_once(tmp_path: Path) -> None:
    look = Counted(WHOLE)
    service = SystemService(tmp_path, look_for_dependencies=look)
    await asyncio.gather(*(service.status() for _ in range(50)), *(service.has_git() for _ in range(50)))
    assert look.looks == 1
    await service.close()


async def test_disk_space_and_resources_speak_of_the_same_disk(service: SystemService, tmp_path: Path) -> None:
    space, load = await asyncio.gather(service.disk_space(), service.resources())
    assert space.total == shutil.disk_usage(tmp_path).total
    assert load.disk.total == round(space.total / 1024**3, 1) and abs(load.disk.usage - space.percent) < 1


async def test_the_sandbox_is_what_was_detected(service: SystemService) -> None:
    assert await service.sandbox() == IN_SNAP


async def test_a_root_that_is_gone_is_an_error(tmp_path: Path) -> None:
    service = SystemService(tmp_path / "gone", load_nvml=lambda: None)
    with pytest.raises(DiskError):
        await service.disk_space()
    with pytest.raises(DiskError):
        await service.resources()
    assert (await service.status()).message == "", "the rest goes on"
    await service.close()


async def test_nothing_runs_before_the_first_question_and_after_close(tmp_path: Path) -> None:
    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("sample ")]

    service = SystemService(tmp_path, load_nvml=lambda: None)
    assert threads() == []
    await service.resources()
    assert threads()
    await service.close()
    assert threads() == []
    for ask in (service.resources, service.disk_space, service.sandbox, service.has_git, service.status):
        with pytest.raises(Interrupted):
            await ask()
