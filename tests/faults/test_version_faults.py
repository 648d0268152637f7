"""The whole sidecar, killed at random moments of installing, updating, removing, switching and going back.

After each kill the version in use starts without any sidecar's help; then one starts on what is left, finishes or
undoes what was cut short, and the app runs. What is not ours is as it was. `PUMAS_FAULT_RUNS` sets how many kills each
change gets (1 unless told). The same changes at every system call, and refused by the disk:
`tests/versions/test_kill.py`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from fixtures.releases import ReleaseServer
from fixtures.releases.content import COMFYUI, OLLAMA, comfyui, ollama
from sidecar import eventually
from versions.setup import everything, launch_app, server

__all__ = ["server"]
RUNS = int(os.environ.get("PUMAS_FAULT_RUNS", "1"))
LIMITS = {"install_version": 2, "update_version": 2, "remove_version": 4, "cancel_installation": 9}
"""How often they are called in a process, below what it allows in a minute."""
FINAL = ("completed", "failed", "cancelled")
OLD, OTHER, NEW = "v0.12.0", "v0.13.1", "v0.14.0"
OWN = {"mine/thesis.txt": b"x", ".hidden/y": b"y", "v7/notes.txt": b"z"}


class Bench:
    """One app of a root: `OLD` is in use and `OTHER` is installed, before each change."""

    def __init__(self, root: Path, app_id: str, env: dict[str, str]) -> None:
        self.root, self.env, self.of_app = root, env, {"app_id": app_id}
        self.folder = root / f"{app_id}-versions"
        self.kills = 0
        for name, data in OWN.items():
            path = self.folder / name
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
        self.calls = Counter[str]()
        self.past = set[str]()
        self.start()
        self.call("get_available_versions", force_refresh=True)
        self.arrange()
        self.files = {OLD: self.read(OLD), OTHER: self.read(OTHER)}

    def call(self, method: str, **params: Any) -> Any:
        self.calls[method] += 1
        if self.calls[method] > LIMITS.get(method, 1000):
            self.start_again()
            self.calls[method] += 1
        answer = self.sidecar.result(method, {**self.of_app, **params})
        assert answer is None or answer["success"], (method, params, answer)
        return answer

    def job(self, method: str, **params: Any) -> dict[str, Any]:
        """Start a job and wait for its end."""
        return self.ended(self.call(method, **params)["job_id"])

    def ended(self, job_id: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            job = self.sidecar.result("get_job", {"job_id": job_id})["job"]
            return job if job["state"] in FINAL else None

        job = eventually(look, 60, "the end of the job")
        assert job is not None
        return job

    def start_again(self) -> None:
        self.sidecar.close()
        self.start()

    def start(self) -> None:
        self.sidecar = running.start(self.root, env=self.env)
        self.calls.clear()

    def arrange(self) -> None:
        installed = self.installed()
        for tag in (OLD, OTHER):
            if tag not in installed:
                removed = [one["trash_id"] for one in self.trash() if (one["tag"], one["reason"]) == (tag, "removed")]
                if removed:
                    self.call("restore_version", trash_id=removed[0])
                else:
                    assert self.job("install_version", tag=tag)["state"] == "completed"
        self.call("switch_version", tag=OLD)
        if NEW in installed:
            self.call("purge_removed_version", trash_id=self.call("remove_version", tag=NEW)["trash_id"])

    def installed(self) -> list[str]:
        return self.call("get_installed_versions")["versions"]

    def trash(self) -> list[dict[str, Any]]:
        return self.call("list_removed_versions")["versions"]

    def read(self, tag: str) -> dict[str, bytes]:
        """The release's own files of a version; what an environment or a run adds is left out."""
        return {
            name: data
            for name, data in everything(self.folder / tag).items()
            if not name.startswith((".pumas-version.json", "venv/", "user", "models/", "__pycache__"))
            and name != "ollama"
        }

    def builds(self, *trash: str) -> set[str]:
        """Which installations made what is in place, and what lies in the trash under ids of this form."""
        found = [*self.folder.glob("v0*/.pumas-version.json")]
        for trash_id in trash:
            found += self.folder.glob(f".pumas-trash/{trash_id}/version/.pumas-version.json")
        return {json.loads(path.read_bytes())["job"] for path in found}

    def kill(self) -> None:
        self.sidecar.process.kill()
        self.sidecar.process.wait()

    def disturb(self, act: Callable[[], object], seconds: float) -> None:
        """Kill it so long after the change began."""
        caller = threading.Thread(target=lambda: quietly(act))
        caller.start()
        time.sleep(seconds)
        self.kill()
        self.kills += 1
        caller.join()
        assert starts(self.folder / OLD), "the version in use does not start"
        self.start()

    def check(self, before: set[str], *, may_be_cancelled: bool = False) -> None:
        for job in self.sidecar.result("list_jobs", {"kind": "install"})["jobs"]:
            ended = self.ended(job["job_id"])
            fits = ended["state"] == "completed" or (may_be_cancelled and ended["state"] == "cancelled")
            assert fits or job["job_id"] in self.past, (ended["state"], ended["error"])
            self.past.add(job["job_id"])
        for name, data in OWN.items():
            assert (self.folder / name).read_bytes() == data
        fits = {"mine", ".hidden", "v7", ".pumas-trash", OLD, OTHER, NEW}
        eventually(lambda: {path.name for path in self.folder.iterdir()} <= fits, what="everything of ours swept up")
        found = self.call("validate_installations")
        assert (found["missing"], found["incomplete"], found["unknown"]) == ([], [], ["mine", "v7"])
        assert before <= self.builds("*"), "a build is gone"
        installed = self.installed()
        for tag in installed:
            assert self.read(tag) == self.files.setdefault(tag, self.read(tag))
        assert self.call("get_active_version")["version"] in installed
        launched = launch_app(self.sidecar, self.of_app)
        assert launched["success"] and launched["ready"], launched
        self.call("stop_app")


def quietly(act: Callable[[], object]) -> None:
    """The connection ends with the sidecar, in the middle of an answer or before it."""
    with contextlib.suppress(OSError, http.client.HTTPException, AssertionError, ValueError):
        act()


def starts(place: Path) -> bool:
    """Whether a version's own program runs and answers, with nobody's help."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if (place / "main.py").exists():
        command, path = [place / "venv/bin/python", "main.py", "--port", str(port)], "/system_stats"
    else:
        command, path = [place / "bin/ollama", "serve"], "/api/version"
    env = {**os.environ, "OLLAMA_HOST": f"127.0.0.1:{port}"}
    with subprocess.Popen(command, cwd=place, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return eventually(lambda: process.poll() is not None or answers(port, path), 20) and process.poll() is None
        finally:
            process.kill()


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


Act = Callable[[], object]


def removed(bench: Bench) -> str:
    return bench.call("remove_version", tag=OTHER)["trash_id"]


def switched_back(bench: Bench) -> Act:
    bench.call("switch_version", tag=OTHER)
    bench.call("switch_version", tag=OLD)
    return lambda: bench.call("rollback_version")


def built_back(bench: Bench) -> Act:
    assert bench.job("install_version", tag=OLD, reinstall=True)["state"] == "completed"
    return lambda: bench.call("rollback_version")


def restored(bench: Bench) -> Act:
    trash_id = removed(bench)
    return lambda: bench.call("restore_version", trash_id=trash_id)


def purged(bench: Bench) -> Act:
    trash_id = removed(bench)
    return lambda: bench.call("purge_removed_version", trash_id=trash_id)


def cancelled(bench: Bench) -> Act:
    job_id = bench.call("install_version", tag=NEW)["job_id"]

    def cancel() -> None:
        bench.call("cancel_installation")
        bench.ended(job_id)

    return cancel


# Name -> what is prepared undisturbed, and returns what is disturbed.
CHANGES: dict[str, Callable[[Bench], Act]] = {
    "install": lambda bench: lambda: bench.job("install_version", tag=NEW),
    "update": lambda bench: lambda: bench.job("update_version"),
    "rebuild": lambda bench: lambda: bench.job("install_version", tag=OLD, reinstall=True),
    "cancel": cancelled,
    "switch": lambda bench: lambda: bench.call("switch_version", tag=OTHER),
    "take a switch back": switched_back,
    "take a build back": built_back,
    "remove": lambda bench: lambda: removed(bench),
    "restore": restored,
    "purge": purged,
}
OF_ENVIRONMENTS = ("install", "update", "rebuild", "cancel", "take a build back")


@contextlib.contextmanager
def opened(root: Path, app_id: str, server: ReleaseServer) -> Generator[Bench]:
    root.mkdir()
    one = Bench(root, app_id, {**server.environment(), "UV_CACHE_DIR": os.environ["UV_CACHE_DIR"]})
    try:
        yield one
    finally:
        one.sidecar.close()


def check_killed(bench: Bench, name: str, moments: random.Random) -> None:
    """Once undisturbed, to know how long it takes; then killed on the way."""
    act = CHANGES[name](bench)
    began = time.monotonic()
    act()
    took = time.monotonic() - began
    for _ in range(RUNS):
        bench.arrange()
        act = CHANGES[name](bench)
        before = bench.builds() if name == "purge" else bench.builds("v*-????????")
        seconds = moments.uniform(0, took * 1.05)
        bench.disturb(act, seconds)
        try:
            bench.check(before, may_be_cancelled=name == "cancel")
        except BaseException as error:
            error.add_note(f"{name}, killed after {seconds:.4f} of {took:.4f} s")
            raise
    bench.arrange()


@pytest.mark.parametrize("app_id", ["ollama", "comfyui"])
def test_killed_at_any_moment(server: ReleaseServer, tmp_path: Path, app_id: str) -> None:
    server.releases[OLLAMA] = [ollama(tag) for tag in (NEW, OTHER, OLD)]
    server.releases[COMFYUI] = [comfyui(tag) for tag in (NEW, OTHER, OLD)]
    with opened(tmp_path / "root", app_id, server) as bench:
        for name in CHANGES if app_id == "ollama" else OF_ENVIRONMENTS:
            check_killed(bench, name, random.Random(name))
        print(f"{app_id}: {bench.kills} kills", file=sys.stderr)
