"""Apps and real sidecars: restarted, killed, orphaned. What was started is found again or stopped, as was asked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import sidecar as running
from sidecar import TOKEN, Sidecar, eventually

from .programs import Root, command_line, runs

Launch = Callable[..., Sidecar]


def run_of(sidecar: Sidecar, app: str) -> dict[str, Any] | None:
    found = [one for one in sidecar.result("list_processes")["processes"] if one["app_id"] == app]
    return found[0] if found else None


def ready(sidecar: Sidecar, app: str) -> dict[str, Any] | None:
    found = run_of(sidecar, app)
    return found if found and found["ready"] else None


def started(sidecar: Sidecar, app: str) -> dict[str, Any]:
    result = sidecar.result("launch_app", {"app_id": app})
    assert result["success"] and result["ready"], result
    return result


def gone(root: Root) -> bool:
    """Nothing is left of the apps in this root."""
    return [pid for pid in root.leftovers() if "rpc_server.py" not in command_line(pid)] == []


def test_a_killed_sidecars_apps_are_found_by_the_next_one(launch: Launch, root: Root) -> None:
    for app in ("web", "family"):
        root.install(app)
    first = launch(root=root.path)
    before = {app: started(first, app) for app in ("web", "family")}
    for _ in range(2):
        first.kill()
        assert all(runs(one["pid"]) for one in before.values())
        first = launch(root=root.path)
        for app, one in before.items():
            found = eventually(lambda sidecar=first, app=app: ready(sidecar, app), what="the app known and ready")
            assert found["adopted"] and (found["pid"], found["run_id"]) == (one["pid"], one["run_id"])
    refused = first.result("launch_app", {"app_id": "web"})
    assert refused["error_code"] == "already_running"
    assert first.result("get_process_log", {"app_id": "web"})["lines"] == ["hello []"]
    assert first.result("stop_app", {"app_id": "family"})["stopped"] == 4
    assert first.result("get_status")["app_resources"].keys() == {"web"}
    first.signal(signal.SIGTERM)
    assert first.wait(30) == 0
    eventually(lambda: gone(root), what="the rest stopped with the sidecar")


def test_an_app_whose_port_is_taken_while_it_starts_gets_another(launch: Launch, root: Root) -> None:
    root.install("loser")
    folder = root.folder("loser")
    sidecar = launch(root=root.path)
    with ThreadPoolExecutor(1) as pool:
        launched = pool.submit(started, sidecar, "loser")
        eventually((folder / "port").exists, what="the first start")
        port = int((folder / "port").read_text())
        with socket.create_server(("127.0.0.1", port)):
            (folder / "taken").touch()
            assert launched.result(60)["port"] != port
    assert sidecar.result("stop_app", {"app_id": "loser"})["success"]


def test_what_was_done_is_in_the_next_status(launch: Launch, root: Root, tmp_path: Path) -> None:
    root.install_comfyui(tag="v1.0")
    root.install_comfyui(tag="v2.0")
    versions = {tag: {"path": f"comfyui-versions/{tag}"} for tag in ("v1.0", "v2.0")}
    listed = root.path / "launcher-data/metadata/versions.json"
    listed.write_text(json.dumps({"installed": versions, "lastSelectedVersion": "v1.0"}))
    home = tmp_path / "home"
    (home / "Desktop").mkdir(parents=True)
    surroundings = {"HOME": str(home), "XDG_DATA_HOME": str(home / "share"), "XDG_CONFIG_HOME": str(home / "config")}
    sidecar = launch(root=root.path, env=surroundings)

    def told() -> dict[str, Any]:
        status = sidecar.result("get_status")
        shown = {key: status[key] for key in ("patched", "menu_shortcut", "desktop_shortcut")}
        return {"version": status["release_info"]["current_version"], **shown}

    now = {"version": "v1.0", "patched": False, "menu_shortcut": False, "desktop_shortcut": False}
    assert told() == now
    for method, params, after in (
        ("toggle_patch", {}, {"patched": True}),
        ("toggle_menu", {}, {"menu_shortcut": True}),
        ("toggle_desktop", {}, {"desktop_shortcut": True}),
        ("switch_version", {"tag": "v2.0"}, dict.fromkeys(now, False) | {"version": "v2.0"}),
        ("create_version_shortcuts", {"tag": "v2.0"}, {"menu_shortcut": True, "desktop_shortcut": True}),
        ("remove_version_shortcuts", {"tag": "v2.0"}, {"menu_shortcut": False, "desktop_shortcut": False}),
        ("switch_version", {"tag": "v1.0"}, dict.fromkeys(now, True) | {"version": "v1.0"}),
    ):
        done = sidecar.result(method, params)
        assert done["success"], (method, done)
        now |= after
        assert told() == now, method


def test_an_app_whose_only_version_is_not_whole_is_told_of_by_name(launch: Launch, root: Root) -> None:
    folder = root.install_comfyui()
    (folder / "main.py").unlink()
    sidecar = launch(root=root.path)
    said = "ComfyUI 'v1.0' is not whole: it has no main.py; install_version builds it anew."
    for method in ("launch_comfyui", "launch_app", "toggle_patch", "toggle_menu", "open_active_install"):
        refused = sidecar.result(method, {"app_id": "comfyui"} if method == "launch_app" else {})
        assert (refused["error"], refused["error_code"]) == (said, "no_active_version"), method


def test_what_ended_while_nobody_was_there_is_not_running(launch: Launch, root: Root) -> None:
    root.install("web")
    first = launch(root=root.path)
    one = started(first, "web")
    first.kill()
    os.kill(one["pid"], signal.SIGKILL)
    eventually(lambda: gone(root), what="the keeper gone")
    second = launch(root=root.path)
    assert second.result("list_processes") == {"success": True, "processes": []}
    assert json.loads(root.ledger.read_text())["runs"] == {}
    assert list((root.path / "launcher-data" / "cache").glob("run-*")) == []
    assert started(second, "web")["pid"] != one["pid"]


def test_who_waits_for_an_app_that_is_stopped_meanwhile_is_told(launch: Launch, root: Root) -> None:
    root.install("silent")
    sidecar = launch(root=root.path)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sidecar.result, "launch_app", {"app_id": "silent"})
        eventually(lambda: run_of(sidecar, "silent"), what="the app running")
        assert sidecar.result("stop_app", {"app_id": "silent"})["stopped"] == 1
        answer = waiting.result(20)
    assert (answer["success"], answer["error_code"]) == (False, "launch_failed")
    assert answer["error"] == "It was stopped before it was ready."


@pytest.mark.parametrize("wish", ["stop", "keep"])
@pytest.mark.parametrize("how", ["shutdown", "SIGTERM", "parent"])
def test_the_setting_decides_however_the_sidecar_ends(root: Root, how: str, wish: str) -> None:
    root.install("web")
    with Parent(root.path) as parent:
        parent.call("set_process_settings", {"on_exit": wish})
        one = parent.call("launch_app", {"app_id": "web"})
        begun = time.monotonic()
        if how == "shutdown":
            parent.call("shutdown")
        elif how == "SIGTERM":
            os.kill(parent.sidecar, signal.SIGTERM)
        else:
            parent.process.kill()
        eventually(lambda: not runs(parent.sidecar), 20.0, "the sidecar gone")
        assert time.monotonic() - begun < 8
        if wish == "keep":
            assert runs(one["pid"])
        else:
            eventually(lambda: gone(root), what="the app gone, too")


class Parent:
    """A shell: a process that starts a sidecar, so that it can be killed."""

    CODE = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
child.wait()
"""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self.CODE, *running.command(root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=running.environment(TOKEN),
            text=True,
        )
        pid, _, port = running.read_line(self.process, running.START_S).partition(" RPC_PORT=")
        self.sidecar = int(pid)
        self._speaker = Sidecar(self.process, root, int(port), TOKEN, root / "none")

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._speaker.result(method, params)

    def __enter__(self) -> Parent:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in (self.sidecar, self.process.pid):
            if runs(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def test_a_sidecar_killed_at_any_moment_of_a_start_leaves_nothing_unknown(launch: Launch, root: Root) -> None:
    """Killed after so many milliseconds, again and again: each app is known to the next sidecar, or does not run."""
    root.install("web")
    for delay_ms in (8, 25, 50):
        one = launch(root=root.path)
        with one.connect() as sock:
            body = json.dumps({"jsonrpc": "2.0", "method": "launch_app", "params": {"app_id": "web"}, "id": 1}).encode()
            headers = [
                ("Host", one.host),
                ("Authorization", f"Bearer {TOKEN}"),
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(body))),
            ]
            sock.sendall(running.request_bytes("POST", "/rpc", headers, body))
            time.sleep(delay_ms / 1000)
            one.kill()
        other = launch(root=root.path)
        apps = [pid for pid in root.leftovers() if "app.py" in command_line(pid)]
        known = run_of(other, "web")
        assert apps == ([known["pid"]] if known else []), f"after {delay_ms} ms"
        if known:
            assert other.result("stop_app", {"app_id": "web"})["success"]
        other.close()
        eventually(lambda: gone(root), what="everything gone")


def test_no_secret_of_the_sidecar_is_in_anything_of_an_app(launch: Launch, root: Root) -> None:
    root.install("environment")
    one = launch(root=root.path, env={"HF_TOKEN": "hf_marker_of_a_secret_token", "PUMAS_OTHER": "marker"})
    result = started(one, "environment")
    keeper = json.loads(root.ledger.read_text())["runs"][result["run_id"]]["keeper"]
    for pid in (result["pid"], keeper):
        words = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
        assert TOKEN.encode() not in words
        assert b"hf_marker" not in words
        assert b"PUMAS_OTHER" not in words
    for path in (root.path / "launcher-data").rglob("*"):
        if path.is_file() and path.name != "rpc.json":
            assert TOKEN.encode() not in path.read_bytes() and b"hf_marker" not in path.read_bytes(), path


def test_calls_stay_short_while_an_app_floods_and_another_is_slow_to_end(launch: Launch, root: Root) -> None:
    for app in ("flood", "deaf"):
        root.install(app)
    one = launch(root=root.path)
    for app in ("flood", "deaf"):
        started(one, app)
    begun = time.monotonic()
    assert one.result("stop_app", {"app_id": "deaf"}) == {"success": True, "stopped": 1, "killed": 1}
    assert 4.5 < time.monotonic() - begun < 25
    assert one.healthy()
