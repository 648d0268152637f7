"""A real sidecar: an app added as a file is installed without code, and a killed installation goes on."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.releases import Release, ReleaseServer
from fixtures.releases.archives import Member
from fixtures.releases.content import COMFYUI, comfyui
from sidecar import Sidecar, eventually

from .setup import everything, server

__all__ = ["server"]
Launch = Callable[..., Sidecar]

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


def starts(place: Path) -> bool:
    """Whether a version's own interpreter has what its main file needs."""
    code = "import tiny_server, tiny_colors, setproctitle"
    return subprocess.run([place / "venv/bin/python", "-c", code], cwd=place).returncode == 0


@pytest.mark.parametrize("seed", range(int(os.environ.get("PUMAS_KILLS", "4")) // 2))
def test_a_killed_sidecar_leaves_the_old_version_and_finishes_the_new(
    server: ReleaseServer, launch: Launch, tmp_path: Path, seed: int
) -> None:
    """Kills at random moments of an install, of a new build and of a removal; after each, what was there still runs."""
    server.releases[COMFYUI] = [comfyui("v0.6.0"), comfyui("v0.5.0")]
    root, rng = tmp_path / "root", random.Random(seed)
    mine = root / "comfyui-versions/mine"
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("x")
    sidecar = launch(env=environment(server))
    sidecar.result("get_available_versions", {"force_refresh": True})
    assert wait_for(sidecar, sidecar.result("install_version", {"tag": "v0.5.0"})["job_id"])["state"] == "completed"
    sidecar.result("set_default_version", {"tag": "v0.5.0"})

    def kill_after(seconds: float) -> Sidecar:
        time.sleep(seconds)
        os.kill(sidecar.pid, signal.SIGKILL)
        sidecar.process.wait()
        assert starts(root / "comfyui-versions/v0.5.0")
        return launch(env=environment(server))

    job_id = sidecar.result("install_version", {"tag": "v0.6.0"})["job_id"]
    sidecar = kill_after(rng.uniform(0, 1.2))
    assert wait_for(sidecar, job_id)["state"] == "completed"
    assert starts(root / "comfyui-versions/v0.6.0")
    job_id = sidecar.result("install_version", {"tag": "v0.6.0", "reinstall": True})["job_id"]
    sidecar = kill_after(rng.uniform(0, 1.2))
    assert wait_for(sidecar, job_id)["state"] == "completed"
    assert starts(root / "comfyui-versions/v0.6.0")
    assert sidecar.result("get_installed_versions")["versions"] == ["v0.6.0", "v0.5.0"]
    assert sidecar.result("get_active_version")["version"] == "v0.5.0"
    assert everything(mine) == {"thesis.txt": b"x"}
    left = {path.name for path in (root / "comfyui-versions").iterdir()}
    assert left <= {"mine", "v0.5.0", "v0.6.0", ".pumas-trash"}
    assert sidecar.result("validate_installations")["unknown"] == ["mine"]


def test_a_kill_in_a_change_loses_no_version(server: ReleaseServer, launch: Launch, tmp_path: Path) -> None:
    """Removals, restores, rollbacks, switches and new builds, killed within their few milliseconds."""
    root, rng, of_app = tmp_path / "root", random.Random(7), {"app_id": "ollama"}
    sidecar = launch(env=environment(server))
    sidecar.result("get_available_versions", {"force_refresh": True, **of_app})
    tags = ["v0.13.1", "v0.12.0"]
    for tag in tags:
        assert wait_for(sidecar, sidecar.result("install_version", {"tag": tag, **of_app})["job_id"])["error"] is None

    def call(method: str, **params: str | bool) -> None:
        with contextlib.suppress(Exception):
            sidecar.result(method, {**params, **of_app})

    for _ in range(int(os.environ.get("PUMAS_KILLS", "6"))):
        tag = rng.choice(tags)
        trash = sidecar.result("list_removed_versions", of_app)["versions"]
        changes: list[tuple[str, dict[str, Any]]] = [
            ("remove_version", {"tag": tag}),
            ("switch_version", {"tag": tag}),
            ("rollback_version", {}),
            ("install_version", {"tag": tag, "reinstall": True}),
            *[("restore_version", {"trash_id": one["trash_id"]}) for one in trash if one["reason"] == "removed"],
        ]
        method, params = rng.choice(changes)
        caller = threading.Thread(target=call, args=(method,), kwargs=params)
        caller.start()
        time.sleep(rng.uniform(0, 0.4 if method == "install_version" else 0.02))
        os.kill(sidecar.pid, signal.SIGKILL)
        sidecar.process.wait()
        caller.join()
        sidecar = launch(env=environment(server))
        for job in sidecar.result("list_jobs", {"kind": "install"})["jobs"]:
            assert wait_for(sidecar, job["job_id"])["state"] in ("completed", "failed"), method
        installed = sidecar.result("get_installed_versions", of_app)["versions"]
        kept = {one["tag"] for one in sidecar.result("list_removed_versions", of_app)["versions"]}
        assert set(tags) <= set(installed) | kept, method
        assert sidecar.result("get_active_version", of_app)["version"] in installed, method
        for one in installed:
            assert (root / "ollama-versions" / one / "lib/ollama/libtiny.so").exists(), method
        found = sidecar.result("validate_installations", of_app)
        assert (found["missing"], found["incomplete"], found["unknown"]) == ([], [], []), method
        left = {path.name for path in (root / "ollama-versions").iterdir()}
        assert left <= {".pumas-trash", *tags}, method


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
