"""What package programs need only while they run lies below the launcher root, and goes also after a kill."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.releases import ReleaseServer
from fixtures.releases.content import COMFYUI, comfyui
from pumas.versions.packages import find_uv
from sidecar import Sidecar, eventually

from .setup import server

__all__ = ["server"]
Launch = Callable[..., Sidecar]
TAG = "v1"


@pytest.fixture
def halting(tmp_path: Path) -> Path:
    """uv that leaves something among the temporary files, notes where that is, and waits instead of installing."""
    program = tmp_path / "uv"
    program.write_text(
        f"""#!{sys.executable}
import json, os, sys, tempfile, time
if "install" in sys.argv:
    folder = tempfile.mkdtemp()
    open(os.path.join(folder, "wheel"), "w").close()
    file = tempfile.mkstemp()[1]
    with open({str(tmp_path / "note")!r} + ".new", "w") as note:
        json.dump([folder, file], note)
    os.rename({str(tmp_path / "note")!r} + ".new", {str(tmp_path / "note")!r})
    time.sleep(600)
os.execv({str(find_uv())!r}, sys.argv)
"""
    )
    program.chmod(0o755)
    return program


def test_what_a_killed_installation_left_is_removed_at_the_next_start(
    launch: Launch, server: ReleaseServer, tmp_path: Path, halting: Path
) -> None:
    server.releases[COMFYUI] = [comfyui(TAG)]
    environment = {**server.environment(), "UV_CACHE_DIR": str(tmp_path / "uv-cache"), "TMPDIR": ""}
    one = launch(env={**environment, "PUMAS_UV": str(halting)})
    one.result("get_available_versions", {"app_id": "comfyui", "force_refresh": True})
    one.result("install_version", {"app_id": "comfyui", "tag": TAG})
    note = tmp_path / "note"
    eventually(note.exists, 60, "the program")
    left = [Path(path) for path in json.loads(note.read_text())]
    scratch = tmp_path / "root/launcher-data/cache/scratch"
    assert [path.parent for path in left] == [scratch, scratch]
    one.kill()
    assert all(path.exists() for path in left)

    again = launch(env=environment)
    eventually(lambda: not any(path.exists() for path in left), 30, "their removal")
    of_app = {"app_id": "comfyui"}
    eventually(lambda: again.result("get_installed_versions", of_app)["versions"] == [TAG], 90, "the end")
    assert list(scratch.iterdir()) == []


def test_a_folder_that_the_user_chose_is_used(
    launch: Launch, server: ReleaseServer, tmp_path: Path, halting: Path
) -> None:
    server.releases[COMFYUI] = [comfyui(TAG)]
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    cache = str(tmp_path / "uv-cache")
    one = launch(env={**server.environment(), "UV_CACHE_DIR": cache, "TMPDIR": str(chosen), "PUMAS_UV": str(halting)})
    one.result("get_available_versions", {"app_id": "comfyui", "force_refresh": True})
    one.result("install_version", {"app_id": "comfyui", "tag": TAG})
    note = tmp_path / "note"
    eventually(note.exists, 60, "the program")
    assert {Path(path).parent for path in json.loads(note.read_text())} == {chosen}
