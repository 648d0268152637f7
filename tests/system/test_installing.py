"""The sidecar's own missing packages: installed by an installer of ours, a script that notes what it is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pumas.errors import InstallFailed, Offline, TimedOut
from pumas.system import installing
from pumas.system.dependencies import Dependencies
from pumas.system.installing import Installer, requirements
from pumas.system.service import SystemService

SCRIPT = """#!/usr/bin/env python3
import json, os, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "told"), "a") as file:
    file.write(json.dumps([sys.argv[1:], sorted(os.environ)]) + "\\n")
{then}
"""


def script(folder: Path, then: str = "") -> str:
    path = folder / "installer"
    path.write_text(SCRIPT.format(then=then))
    path.chmod(0o755)
    return str(path)


def told(folder: Path) -> list[list[list[str]]]:
    path = folder / "told"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def found(*missing: str) -> Dependencies:
    return Dependencies(git=True, brave=True, setproctitle=True, missing=missing)


async def test_it_is_told_what_and_for_whom_and_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("PUMAS_RPC_TOKEN", "secret")
    await Installer(python="/env/python", uv=script(tmp_path)).install(["blake3", "unheard-of"])
    ((arguments, names),) = told(tmp_path)
    assert arguments[:4] == ["pip", "install", "--python", "/env/python"]
    assert arguments[4:] == requirements(["blake3", "unheard-of"]) and arguments[5] == "unheard-of"
    assert not {"HF_TOKEN", "PUMAS_RPC_TOKEN"} & set(names) and "PATH" in names


async def test_pip_does_it_where_there_is_no_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing.shutil, "which", lambda _name: None)
    await Installer(python=script(tmp_path)).install(["unheard-of"])
    assert told(tmp_path)[0][0] == ["-m", "pip", "install", "unheard-of"]


@pytest.mark.parametrize(
    ("then", "words"), [("sys.exit(2)", "status 2"), ("os.kill(os.getpid(), 9)", "status -9")], ids=["fails", "killed"]
)
async def test_a_failure_is_told(tmp_path: Path, then: str, words: str) -> None:
    with pytest.raises(InstallFailed, match=words):
        await Installer(uv=script(tmp_path, then)).install(["x"])


async def test_an_installer_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match="cannot be started"):
        await Installer(uv=str(tmp_path / "none")).install(["x"])


async def test_a_long_one_goes_on_and_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "ANSWER_S", 0.05)
    wait = f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)"
    installer = Installer(uv=script(tmp_path, wait))
    for _ in range(3):
        with pytest.raises(TimedOut):
            await installer.install(["x"])
    monkeypatch.setattr(installing, "ANSWER_S", 10.0)
    (tmp_path / "go").touch()
    await installer.install(["x"])
    assert len(told(tmp_path)) == 1


async def test_one_that_hangs_is_ended_by_close_and_by_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "ANSWER_S", 0.05)
    installer = Installer(uv=script(tmp_path, "time.sleep(600)"))
    with pytest.raises(TimedOut):
        await installer.install(["x"])
    async with asyncio.timeout(30):
        await installer.close()
    monkeypatch.setattr(installing, "LIMIT_S", 0.1)
    monkeypatch.setattr(installing, "ANSWER_S", 5.0)
    with pytest.raises(InstallFailed, match="ended"):
        await installer.install(["x"])


async def test_nothing_is_fetched_offline(tmp_path: Path) -> None:
    with pytest.raises(Offline):
        await Installer(uv=script(tmp_path), offline=lambda: True).install(["x"])
    assert told(tmp_path) == []


async def test_the_service_installs_only_what_is_missing(tmp_path: Path) -> None:
    installer = Installer(uv=script(tmp_path))
    looks = [found("x"), found()]
    service = SystemService(tmp_path, look_for_dependencies=lambda: looks.pop(0), installer=installer)
    await service.install_missing()
    assert told(tmp_path)[0][0][-1] == "x"
    looks[:] = [found()]
    await service.install_missing()
    assert len(told(tmp_path)) == 1, "nothing was missing"
    looks[:] = [found("x"), found("x")]
    with pytest.raises(InstallFailed, match="Still missing after the installation: x"):
        await service.install_missing()
    await service.close()
