"""A real sidecar: an app added as a file is installed without code, and what it starts gets no secrets.

Kills of it are in `tests/faults/test_version_faults.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtures.releases import Release, ReleaseServer
from fixtures.releases.archives import Member, bundle, zipped
from fixtures.releases.content import COMFYUI, OLLAMA, comfyui, ollama
from pumas.processes import kernel
from sidecar import Sidecar, eventually

from .setup import server

__all__ = ["server"]
Launch = Callable[..., Sidecar]
MIB = 1 << 20

FOURTH = {
    "id": "tiny",
    "name": "Tiny",
    "folder": "tiny-versions",
    "releases": {"repository": "someone/tiny", "tag": r"r(?P<version>\d+)"},
    "package": {"kind": "source", "complete": ["serve.py", "venv/bin/python"]},
    "python": {"requirements": "needs.txt"},
    "launch": {
        "command": ["{python}", "-m", "http.server", "--bind", "{host}", "{port}"],
        "environment": {"TINY": "{folder}"},
        "port": 9000,
        "ready": {"path": "/serve.py"},
    },
}


def environment(server: ReleaseServer) -> dict[str, str]:
    return {**server.environment(), "UV_CACHE_DIR": os.environ["UV_CACHE_DIR"]}


def wait_for(sidecar: Sidecar, job_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        job = sidecar.result("get_job", {"job_id": job_id})["job"]
        return job if job["state"] in ("completed", "failed", "cancelled") else None

    found = eventually(ended, timeout_s, "the end of the job")
    assert found is not None
    return found


def test_a_fourth_app_is_a_file(server: ReleaseServer, launch: Launch, tmp_path: Path) -> None:
    server.releases["someone/tiny"] = [
        Release("r12", members=[Member("serve.py", b"x"), Member("needs.txt", b"tiny-colors==1.0\n")]),
        Release("r9", members=[Member("serve.py", b"x")]),
    ]
    apps = tmp_path / "root/launcher-data/apps"
    apps.mkdir(parents=True)
    (apps / "tiny.json").write_text(json.dumps(FOURTH))
    sidecar = launch(env=environment(server))
    of_tiny = {"app_id": "tiny"}
    assert [app["app_id"] for app in sidecar.result("list_apps")["apps"]][-1] == "tiny"
    found = sidecar.result("get_available_versions", {**of_tiny, "force_refresh": True})
    assert [release["tag_name"] for release in found["versions"]] == ["r12", "r9"]
    started = sidecar.result("install_version", {**of_tiny, "tag": "r9", "progress_callback": None})
    assert wait_for(sidecar, started["job_id"])["state"] == "completed"
    updated = sidecar.result("update_version", of_tiny)
    assert wait_for(sidecar, updated["job_id"])["error"] is None
    assert sidecar.result("get_installed_versions", of_tiny)["versions"] == ["r12", "r9"]
    assert sidecar.result("get_active_version", of_tiny)["version"] == "r12"
    assert sidecar.result("rollback_version", of_tiny)["tag"] == "r9"
    status = sidecar.result("get_version_status", of_tiny)["status"]
    assert status["versions"]["r12"]["dependencies"]["installed"] == ["tiny-colors"]
    progress = sidecar.result("get_installation_progress", of_tiny)
    assert (progress["tag"], progress["success"]) == ("r12", True)


def test_a_program_may_be_run_although_its_archive_does_not_say_so(server: ReleaseServer, launch: Launch) -> None:
    """As in archives that were packed on Windows, or from stored artifacts of a build."""
    members = [replace(member, mode=0o644) for member in bundle("v0.13.1")]
    server.releases[OLLAMA] = [Release("v0.13.1", assets={"ollama-linux-amd64.tar.zst": zipped(members)})]
    sidecar = launch(env=environment(server))
    sidecar.result("get_available_versions", {"app_id": "ollama", "force_refresh": True})
    started = sidecar.result("install_version", {"app_id": "ollama", "tag": "v0.13.1"})
    assert wait_for(sidecar, started["job_id"])["error"] is None


def test_a_description_that_comes_or_changes_is_seen_by_a_running_sidecar(launch: Launch, tmp_path: Path) -> None:
    root, of_tiny = tmp_path / "root", {"app_id": "tiny"}
    sidecar = launch()
    for name in ("serve.py", "venv/bin/python"):
        path = root / "tiny-versions/r9" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert sidecar.result("get_installed_versions", of_tiny)["error_code"] == "unknown_app"
    file = root / "launcher-data/apps/tiny.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(FOURTH))
    assert sidecar.result("get_installed_versions", of_tiny)["versions"] == ["r9"]
    package = {"kind": "source", "complete": ["other.py"]}
    file.write_text(json.dumps(FOURTH | {"name": "Tinier", "package": package}))
    apps = {app["app_id"]: app for app in sidecar.result("list_apps")["apps"]}
    assert (apps["tiny"]["name"], apps["tiny"]["installed"]) == ("Tinier", [])
    assert sidecar.result("get_version_status", of_tiny)["status"]["installedCount"] == 0
    file.write_text("{")
    assert "tiny" in [app["app_id"] for app in sidecar.result("list_apps")["apps"]]
    assert [one["kind"] for one in sidecar.result("get_library_status")["troubles"]] == ["damaged_app"]


def test_a_pipe_that_is_called_like_the_active_version_is_not_waited_for(launch: Launch, tmp_path: Path) -> None:
    for name in ("main.py", "venv/bin/python"):
        path = tmp_path / "root/comfyui-versions/v0.3.10" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.mkfifo(tmp_path / "root/.active-version")
    assert launch().result("get_active_version")["version"] == "v0.3.10"


def test_releases_that_came_before_a_rate_limit_are_shown(server: ReleaseServer, launch: Launch) -> None:
    server.releases[OLLAMA] = [Release(f"v{n}.0.0") for n in range(150, 0, -1)]
    server.rate_limit(1800, after=1)
    sidecar = launch(env=environment(server))
    answer = sidecar.result("get_available_versions", {"app_id": "ollama", "force_refresh": True})
    assert (answer["success"], answer["rate_limited"]) == (True, True)
    assert [one["tag_name"] for one in answer["versions"]] == [f"v{n}.0.0" for n in range(150, 50, -1)]
    status = sidecar.result("get_github_cache_status", {"app_id": "ollama"})
    assert (status["has_cache"], status["is_valid"]) == (True, False)


@pytest.mark.parametrize("digests", [True, False], ids=["in blocks", "in one stream"])
def test_an_archive_minds_the_limit_of_downloads(server: ReleaseServer, launch: Launch, *, digests: bool) -> None:
    release = ollama("v0.13.1", padding=3 * MIB)
    release.digests = digests
    server.releases[OLLAMA] = [release]
    sidecar = launch(env=environment(server))
    sidecar.result("get_available_versions", {"app_id": "ollama", "force_refresh": True})
    sidecar.result("set_download_limits", {"bytes_per_second": MIB})
    began = time.monotonic()
    started = sidecar.result("install_version", {"app_id": "ollama", "tag": "v0.13.1"})
    assert wait_for(sidecar, started["job_id"])["error"] is None
    assert time.monotonic() - began > 2.5
    progress = sidecar.result("get_installation_progress", {"app_id": "ollama"})
    assert progress["downloaded_bytes"] == progress["total_size"] > 3 * MIB


def test_an_app_of_the_default_kind_lives_on_the_desktop(
    server: ReleaseServer, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed it has its title; launched, its page is opened; removed, its shortcuts go."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home/.local/share"))
    opener, opened = tmp_path / "opener", tmp_path / "opened"
    opener.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" >> {opened}\n')
    opener.chmod(0o755)
    server.releases[COMFYUI] = [comfyui("v0.6.0"), comfyui("v0.5.0")]
    sidecar = launch(env={**environment(server), "PUMAS_OPENER": str(opener)})
    sidecar.result("get_available_versions", {"force_refresh": True})
    for tag in ("v0.5.0", "v0.6.0"):
        job = wait_for(sidecar, sidecar.result("install_version", {"tag": tag})["job_id"])
        assert (job["state"], job["result"]["warnings"]) == ("completed", [])
        assert sidecar.result("is_patched", {"tag": tag}) is True
    sidecar.result("switch_version", {"tag": "v0.6.0"})
    launched = sidecar.result("launch_comfyui")
    assert (launched["success"], launched["ready"]) == (True, True)
    assert eventually(lambda: opened.exists() and opened.read_text()) == f"{launched['url']}/\n"
    assert sidecar.result("stop_comfyui")["success"]
    assert sidecar.result("launch_version", {"tag": "v0.5.0", "open_page": False})["ready"]
    assert sidecar.result("stop_comfyui")["success"]
    sidecar.result("switch_version", {"tag": "v0.6.0"})
    assert opened.read_text().count("\n") == 1
    assert sidecar.result("set_version_shortcuts", {"tag": "v0.5.0", "enabled": True})["state"]["menu"]
    sidecar.result("remove_version", {"tag": "v0.5.0"})
    assert sidecar.result("get_version_shortcuts", {"tag": "v0.5.0"})["state"]["menu"] is False
    packages = next((tmp_path / "root/comfyui-versions/v0.6.0").glob("venv/lib/python*/site-packages"))
    for path in packages.glob("tiny_server*"):
        shutil.rmtree(path)
    refused = sidecar.result("launch_comfyui")
    assert (refused["success"], refused["error_code"]) == (False, "dependency_failed")
    assert "install_version_dependencies" in refused["error"]
    job = wait_for(sidecar, sidecar.result("install_version_dependencies", {"tag": "v0.6.0"})["job_id"])
    assert job["state"] == "completed"
    assert sidecar.result("launch_comfyui", {"open_page": False})["ready"]


def test_a_version_whose_python_has_gone_is_not_lost(server: ReleaseServer, launch: Launch, tmp_path: Path) -> None:
    """As after an update of the system: it is told of, and its environment, all of it or nothing of it comes back."""
    server.releases[COMFYUI] = [comfyui("v0.5.0")]
    sidecar = launch(env=environment(server))
    sidecar.result("get_available_versions", {"force_refresh": True})
    of_it = {"tag": "v0.5.0"}
    wait_for(sidecar, sidecar.result("install_version", of_it)["job_id"])
    place = tmp_path / "root/comfyui-versions/v0.5.0"
    (place / "output.png").write_text("mine")
    python = place / "venv/bin/python"

    def lose_python() -> None:
        python.unlink()
        python.symlink_to("/usr/bin/python3.4")

    lose_python()
    said = "ComfyUI 'v0.5.0' is not whole: it has no venv/bin/python; install_version_dependencies builds it anew."
    assert sidecar.result("get_installed_versions")["versions"] == []
    assert [one["message"] for one in sidecar.result("get_library_status")["troubles"]] == [said]
    refused = sidecar.result("launch_version", of_it)
    assert (refused["error"], refused["error_code"]) == (said, "version_not_found")
    job = wait_for(sidecar, sidecar.result("install_version_dependencies", of_it)["job_id"])
    assert (job["state"], job["error"]) == ("completed", None)
    assert sidecar.result("launch_version", {**of_it, "open_page": False})["ready"]
    assert sidecar.result("stop_comfyui")["success"]
    assert sidecar.result("get_library_status")["troubles"] == []
    lose_python()
    job = wait_for(sidecar, sidecar.result("install_version", of_it)["job_id"])
    assert (job["state"], job["error"]) == ("completed", None)
    (former,) = sidecar.result("list_removed_versions")["versions"]
    assert (former["reason"], (place / "output.png").exists()) == ("removed", False)
    assert sidecar.result("rollback_version")["error_code"] == "nothing_to_roll_back"
    lose_python()
    assert sidecar.result("remove_version", of_it)["success"]
    assert sidecar.result("restore_version", {"trash_id": former["trash_id"]})["success"]
    assert (place / "output.png").read_text() == "mine"
    assert sidecar.result("get_installed_versions")["versions"] == []
    troubles = sidecar.result("get_library_status")["troubles"]
    assert [one["kind"] for one in troubles] == ["incomplete_version"]


def test_an_archive_is_compared_with_the_list_beside_it(server: ReleaseServer, launch: Launch, tmp_path: Path) -> None:
    """As projects publish digests that GitHub does not tell."""
    right, wrong = ollama("v0.13.1"), ollama("v0.13.0")
    wrong.assets["sha256sum.txt"] = b"".join(b"0" * 64 + f"  ./{name}\n".encode() for name in wrong.assets)
    right.digests = wrong.digests = False
    server.releases[OLLAMA] = [right, wrong]
    sidecar = launch(env=environment(server))
    of_it = {"app_id": "ollama"}
    sidecar.result("get_available_versions", {**of_it, "force_refresh": True})
    ended = [
        wait_for(sidecar, sidecar.result("install_version", {**of_it, "tag": one.tag})["job_id"])
        for one in (right, wrong)
    ]
    assert [(job["state"], job["error_code"]) for job in ended] == [("completed", None), ("failed", "digest_mismatch")]
    logs = (tmp_path / "root/launcher-data/logs").rglob("*.log")
    assert any("(as published)" in log.read_text() for log in logs)
    assert [one.name for one in (tmp_path / "root/ollama-versions").iterdir() if one.name[0] == "v"] == ["v0.13.1"]


def test_children_get_no_token(server: ReleaseServer, launch: Launch, tmp_path: Path) -> None:
    trouble = 'print("TOKENS", [v for v in os.environ.values() if "marker" in v or "test-token" in v])'
    server.releases[COMFYUI] = [comfyui("v0.5.0", trouble=trouble)]
    sidecar = launch(env={**environment(server), "HF_TOKEN": "hf_marker", "GITHUB_TOKEN": "gh_marker"})
    sidecar.result("get_available_versions", {"force_refresh": True})
    wait_for(sidecar, sidecar.result("install_version", {"tag": "v0.5.0"})["job_id"])
    log = Path(sidecar.result("get_installation_progress")["log_path"]).read_text()
    assert "TOKENS []" in log
    assert "marker" not in log
    assert not [asked for asked in server.asked if "marker" in str(asked.headers)]


@pytest.mark.skipif(sys.platform != "linux", reason="a process is known by its environment in /proc")
@pytest.mark.parametrize("works", [True, False])
def test_nothing_of_an_app_outlives_its_try_out(server: ReleaseServer, launch: Launch, *, works: bool) -> None:
    """Not even what makes itself independent, as servers do that an app starts beside it."""
    start = 'subprocess.Popen(["sleep", "600"], start_new_session=True)'
    trouble = f'import subprocess; print("LEFT", {start}.pid, flush=True); works = {works} or sys.exit("no")'
    server.releases[COMFYUI] = [comfyui("v0.5.0", trouble=trouble)]
    sidecar = launch(env=environment(server))
    sidecar.result("get_available_versions", {"force_refresh": True})
    ended = wait_for(sidecar, sidecar.result("install_version", {"tag": "v0.5.0"})["job_id"])
    assert ended["state"] == ("completed" if works else "failed")
    log = Path(sidecar.result("get_installation_progress")["log_path"]).read_text()
    left = kernel.look(int(log.split("LEFT ")[1].split()[0]))
    assert left is None or left.ended
