"""Processes that look like ours and are not: none of them is ever signalled, whatever is written on disk."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pumas.errors import NotRunning
from pumas.processes import kernel

from .conftest import MakeBench
from .programs import Root, free_port, runs

SLEEP = "import time; time.sleep(600)"
LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a stranger's process; they all end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def go(*argv: str, **options: Any) -> subprocess.Popen[bytes]:
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        started.append(subprocess.Popen(argv, **(quiet | options)))
        return started[-1]

    yield go
    for one in started:
        one.kill()
        one.wait()


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


def look_alikes(root: Root, start: Callable[..., subprocess.Popen[bytes]], port: int) -> dict[str, int]:
    """Kind of decoy -> its process, at least twenty kinds."""
    folder = root.install_comfyui()
    python = str(folder / "venv" / "bin" / "python")
    (folder / "sleeper.py").write_text(SLEEP)
    (folder / "ComfyUI Server").symlink_to(sys.executable)
    decoys = {
        "command line of the server": start(sys.executable, "-c", SLEEP, "main.py", "comfyui"),
        "the server's title": start("ComfyUI Server - v1.0", "-c", SLEEP, executable=sys.executable),
        "an editor with main.py open": start(sys.executable, "-c", SLEEP, str(folder / "main.py")),
        "a shell in the version's folder": start(sys.executable, "-c", SLEEP, cwd=folder),
        "the version's own python": start(python, "-c", SLEEP),
        "a script of the version": start(python, str(folder / "sleeper.py"), cwd=folder),
        "a program in the version's folder": start(str(folder / "ComfyUI Server"), "-c", SLEEP),
        "a browser window of the page": start(sys.executable, "-c", SLEEP, f"--app=http://127.0.0.1:{port}"),
        "brave": start("brave-browser", "-c", SLEEP, "--app=http://127.0.0.1:8188", executable=sys.executable),
        "a keeper by its command line": start(sys.executable, "-c", SLEEP, "keeper.py", "0" * 32),
        "a session leader": start(sys.executable, "-c", SLEEP, start_new_session=True),
        "a group leader": start(sys.executable, "-c", SLEEP, process_group=0),
        "one with another run's mark": start(sys.executable, "-c", SLEEP, env=environment(PUMAS_RUN="1" * 32)),
        "one with an empty mark": start(sys.executable, "-c", SLEEP, env=environment(PUMAS_RUN="")),
        "one that listens on the usual port": start(sys.executable, "-c", LISTEN.format(port=port)),
        "a child of ours that is no app": start("sleep", "600"),
        "an ollama": start("ollama", "-c", SLEEP, "serve", executable=sys.executable),
        "one with the log open": start(sys.executable, "-c", SLEEP, stdout=(root.path / "log").open("wb")),
        "another python with -I -S": start(sys.executable, "-I", "-S", "-c", SLEEP),
        "a sibling sidecar's child": start(
            sys.executable, "-c", SLEEP, "app.py", env=environment(PUMAS_RUN="2" * 32), start_new_session=True
        ),
        "a pumas": start("pumas", "-c", SLEEP, "serve", executable=sys.executable),
    }
    return {name: process.pid for name, process in decoys.items()}


def record(pid: int, **changes: Any) -> dict[str, Any]:
    """What the ledger would hold if that process were an app of ours."""
    seen = kernel.look(pid)
    assert seen is not None
    number = changes.pop("number", 0)
    return {
        "run_id": f"{number:032x}",
        "app_id": "comfyui",
        "tag": "v1.0",
        "boot": kernel.boot(),
        "keeper": pid,
        "keeper_start": seen.start,
        "leader": pid,
        "leader_start": seen.start,
        "port": 8188,
        "command": [sys.executable, "main.py"],
        "programs": [sys.executable, os.path.realpath(sys.executable)],
        "folder": "/",
        "log": "",
        "started_at": "2026-01-01T00:00:00.000000Z",
    } | changes


async def test_no_look_alike_is_known_or_ended(
    opened: MakeBench, root: Root, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    root.install("web")
    decoys = look_alikes(root, start, free_port())
    assert len(decoys) >= 20
    folder = root.path / "comfyui-versions" / "v1.0"
    # Pid files as older sidecars wrote them, one with each decoy in it.
    for number, pid in enumerate(decoys.values()):
        for place in (folder / "comfyui.pid", root.path / "comfyui.pid", folder / f"{number}.pid"):
            place.write_text(f"{pid}\n")
    async with opened(grace_s=0.3) as bench:
        assert bench.service.list() == [] and bench.service.running() is None
        with pytest.raises(NotRunning):
            await bench.service.stop("comfyui")
        for _ in range(2):
            started = await bench.service.launch("web")
            await bench.service.stop("web")
            assert not runs(started.pid)
    assert [name for name, pid in decoys.items() if not runs(pid)] == []


FORGERIES: dict[str, dict[str, Any]] = {
    "all as it is": {},
    "another boot": {"boot": "another"},
    "started earlier": {"leader_start": 1, "keeper_start": 1},
    "no keeper": {"keeper": 0, "keeper_start": 0},
    "no leader": {"leader": 0, "leader_start": 0},
    "init": {"leader": 1, "keeper": 1},
    "this process": {"leader": os.getpid(), "keeper": os.getpid()},
    "no such process": {"leader": 2**22 + 7, "keeper": 2**22 + 7},
    "a negative number": {"leader": -1},
    "zero": {"leader": 0, "keeper": 0},
    "text for a number": {"leader": "1"},
    "true for a number": {"leader": True},
    "a huge number": {"leader": 2**70},
    "null": {"keeper": None},
    "no id": {"run_id": "../../etc/passwd"},
    "programs that are no list": {"programs": "python"},
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
async def test_a_forged_ledger_leads_to_nobody(
    opened: MakeBench, root: Root, start: Callable[..., subprocess.Popen[bytes]], forgery: dict[str, Any]
) -> None:
    victims = [
        start(sys.executable, "-c", SLEEP, start_new_session=True),
        start(sys.executable, "-c", SLEEP),
        start(sys.executable, "-c", SLEEP, env=environment(PUMAS_RUN="f" * 32)),
    ]
    log = root.path / "launcher-data" / "logs" / "launch-comfyui-v1.log"
    log.parent.mkdir(parents=True)
    log.write_text("")
    entries = [record(one.pid, number=number, log=str(log)) | forgery for number, one in enumerate(victims)]
    root.ledger.parent.mkdir(parents=True)
    root.ledger.write_text(json.dumps({"runs": {str(number): entry for number, entry in enumerate(entries)}}))
    async with opened(grace_s=0.2) as bench:
        assert bench.service.list() == []
        with pytest.raises(NotRunning):
            await bench.service.stop("comfyui")
    await asyncio.sleep(0)
    assert all(runs(one.pid) for one in victims)


async def test_a_record_of_an_app_that_ended_does_not_lead_to_who_has_its_number_now(
    opened: MakeBench, root: Root, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """The kernel gives numbers out again; here the record is given another's number instead."""
    root.install("web")
    async with opened(grace_s=0.3) as bench:
        started = await bench.service.launch("web")
        kept = json.loads(root.ledger.read_text())
        await bench.service.stop("web")
    stranger = start(sys.executable, "-c", SLEEP, start_new_session=True)
    entry = kept["runs"][started.run_id]
    entry["leader"] = entry["keeper"] = stranger.pid
    root.ledger.write_text(json.dumps(kept))
    async with opened(grace_s=0.2) as bench:
        assert bench.service.list() == []
        assert json.loads(root.ledger.read_text())["runs"] == {}, "it is crossed out"
    assert runs(stranger.pid)


async def test_a_sibling_sidecars_app_is_not_ours(opened: MakeBench, root: Root, tmp_path: Path) -> None:
    """Two roots with the same app; then the one's ledger is copied to the other."""
    root.install("web")
    async with opened(grace_s=0.3) as bench:
        started = await bench.service.launch("web")
        sibling = Root(tmp_path / "sibling")
        sibling.install("web")
        sibling.ledger.write_bytes(root.ledger.read_bytes())
        from pumas.apps.catalog import Apps
        from pumas.config import Layout
        from pumas.events.stream import EventStream
        from pumas.processes.service import ProcessService
        from pumas.storage.troubles import Troubles

        from .conftest import Folders

        layout = Layout(sibling.path)
        apps = Apps(layout)
        other = ProcessService(layout, EventStream(), Troubles(), apps, Folders(layout, apps), grace_s=0.2)
        await other.open()
        assert other.list() == [], "its log lies in another root"
        with pytest.raises(NotRunning):
            await other.stop("web")
        await other.close()
        assert runs(started.pid)


async def test_what_an_app_opened_for_the_user_is_the_users(opened: MakeBench, root: Root, tmp_path: Path) -> None:
    """Another program in a session of its own, started by the app: a browser, say."""
    root.install("web")
    note = tmp_path / "browser"
    code = (root.folder("web") / "app.py").read_text()
    opening = f"""
import subprocess
browser = subprocess.Popen(["sleep", "600"], start_new_session=True)
open({str(note)!r}, "w").write(str(browser.pid))
"""
    (root.folder("web") / "app.py").write_text(code.replace("print('hello'", opening + "print('hello'"))
    async with opened(grace_s=0.3) as bench:
        await bench.service.launch("web")
        browser = int(note.read_text())
        try:
            assert (await bench.service.stop("web")).processes == 1
            assert runs(browser)
        finally:
            os.kill(browser, signal.SIGKILL)
