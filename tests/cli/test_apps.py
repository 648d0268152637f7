"""`pumas apps` and `pumas install` from outside: a real sidecar, a release server, a terminal and a pipe."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import sidecar as running
from fixtures.releases import ReleaseServer, Stall
from fixtures.releases.content import COMFYUI, OLLAMA, comfyui, ollama
from pumas.cli import exits
from sidecar import Sidecar

from .conftest import Run
from .terminal import Terminal


@pytest.fixture(scope="module")
def server() -> Iterator[ReleaseServer]:
    with ReleaseServer() as one:
        one.releases[COMFYUI] = [comfyui("v0.8.0", trouble='sys.exit("cannot find the GPU")'), comfyui("v0.5.0")]
        one.releases[OLLAMA] = [ollama("v0.13.1"), ollama("v0.12.0")]
        yield one


@pytest.fixture
def sidecar(server: ReleaseServer, tmp_path: Path) -> Iterator[Sidecar]:
    cache = os.environ.get("UV_CACHE_DIR", str(tmp_path.parent / "uv-cache"))
    one = running.start(tmp_path / "root", env={**server.environment(), "UV_CACHE_DIR": cache})
    yield one
    one.close()


def test_a_version_is_installed_chosen_updated_taken_back_removed_and_restored(sidecar: Sidecar, pumas: Run) -> None:
    root = sidecar.root
    assert [line.split("\t")[0] for line in pumas("apps", root=root).out.splitlines()] == [
        "comfyui", "llamacpp", "ollama",
    ]  # fmt: skip
    listed = pumas("apps", "versions", "ollama", root=root)
    assert [line.split("\t")[0] for line in listed.out.splitlines()] == ["v0.13.1", "v0.12.0"]
    done = pumas("install", "ollama", "v0.12.0", root=root)
    assert (done.status, done.out) == (exits.OK, "ollama v0.12.0 is installed.\n")
    assert "ollama v0.12.0: setup" in done.err
    done = pumas("apps", "update", "ollama", root=root)
    assert (done.status, done.out) == (exits.OK, "ollama v0.13.1 is installed.\n")
    assert "v0.13.1\t2030-03-01" in pumas("apps", "versions", "ollama", root=root).out
    assert pumas("apps", "rollback", "ollama", root=root).out == "ollama v0.12.0 is in use again.\n"
    assert pumas("apps", "use", "ollama", "v0.13.1", root=root).out == "ollama v0.13.1 is in use.\n"
    trash_id = pumas("apps", "remove", "ollama", "v0.12.0", root=root).out.split()[-1]
    assert pumas("apps", "restore", "ollama", root=root).out.startswith(f"{trash_id}\tv0.12.0\tremoved\t")
    assert pumas("apps", "restore", "ollama", trash_id, root=root).out == "ollama v0.12.0 is back.\n"
    assert pumas("apps", "list", "--json", root=root).json["apps"][2]["installed"] == ["v0.13.1", "v0.12.0"]
    trash_id = pumas("apps", "remove", "ollama", "v0.12.0", root=root).out.split()[-1]
    assert pumas("apps", "purge", "ollama", trash_id, root=root).out == "Removed for good.\n"
    assert pumas("apps", "restore", "ollama", root=root).err == "No version of ollama is in the trash.\n"
    assert pumas("apps", "purge", "ollama", trash_id, root=root).status == exits.FAILED


def test_why_no_app_of_ones_own_is_listed_is_said(sidecar: Sidecar, pumas: Run) -> None:
    (sidecar.root / "launcher-data/apps").symlink_to("gone")
    listed = pumas("apps", root=sidecar.root)
    assert listed.out.startswith("comfyui\t")
    assert listed.err.startswith("launcher-data/apps: ") and "Apps of your own are not known" in listed.err


def test_an_app_can_be_removed_altogether(sidecar: Sidecar, pumas: Run) -> None:
    root = sidecar.root
    assert pumas("install", "ollama", "v0.12.0", root=root).status == exits.OK
    refused = pumas("apps", "remove", "ollama", "v0.12.0", root=root)
    assert refused.status == exits.FAILED
    assert "no other version is installed; add --last to remove it all the same" in refused.err
    removed = pumas("apps", "remove", "ollama", "v0.12.0", "--last", root=root)
    assert removed.status == exits.OK
    assert sidecar.result("get_active_version", {"app_id": "ollama"})["version"] == ""
    assert sidecar.result("get_installed_versions", {"app_id": "ollama"})["versions"] == []
    assert not (root / ".active-version-ollama").exists()
    trash_id = removed.out.split()[-1]
    assert pumas("apps", "restore", "ollama", trash_id, root=root).out == "ollama v0.12.0 is back.\n"
    assert sidecar.result("get_active_version", {"app_id": "ollama"})["version"] == "v0.12.0"


def test_why_an_installation_failed_is_said(sidecar: Sidecar, pumas: Run) -> None:
    done = pumas("install", "comfyui", root=sidecar.root)
    assert done.status == exits.FAILED
    assert "cannot find the GPU. Go on with: " in done.err
    log = done.err.split("What happened: ")[1].strip()
    assert "cannot find the GPU" in Path(log).read_text()
    document = pumas("install", "comfyui", "v0.8.0", "--json", root=sidecar.root)
    assert (document.json["state"], document.json["error_code"]) == ("failed", "smoke_launch_failed")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("install", "nothing"), "no app 'nothing'; pumas apps shows"),
        (
            ("install", "ollama", "v9"),
            "not among the releases that are known; pumas apps versions APP --refresh asks anew",
        ),
        (("install", "ollama", "../x"), "must be made of"),
        (("apps", "use", "ollama", "v9"), "not installed; pumas apps shows"),
        (("run", "ollama"), "No version of Ollama is installed; pumas install APP installs one."),
        (("apps", "rollback", "ollama"), "no earlier version"),
        (("apps", "restore", "ollama", "x"), "No entry 'x' in the trash; pumas apps restore APP shows"),
    ],
)
def test_what_cannot_be_done_is_one_line(sidecar: Sidecar, pumas: Run, words: tuple[str, ...], says: str) -> None:
    done = pumas(*words, root=sidecar.root)
    assert done.status == exits.FAILED
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_a_terminal_shows_a_bar_for_each_stage_and_ctrl_c_cancels(
    sidecar: Sidecar, server: ReleaseServer, pumas: Run
) -> None:
    server.fault("/codeload/*", Stall(200))
    terminal = Terminal("install", "comfyui", "v0.5.0", "--root", str(sidecar.root))
    for stage in ("download", "extract", "venv", "dependencies", "setup"):
        terminal.expect(stage)
    terminal.ctrl_c()
    terminal.expect("[c]ancel")
    began = time.monotonic()
    terminal.type("c\n")
    terminal.expect("Cancelled")
    assert time.monotonic() - began < 15, "it waited for the server, which says nothing for 20 s"
    assert terminal.end() == exits.INTERRUPTED
    assert sidecar.result("get_installation_progress")["error"] == "Installation cancelled"
    terminal = Terminal("install", "comfyui", "v0.5.0", "--use", "--root", str(sidecar.root))
    terminal.expect("comfyui v0.5.0 is installed.")
    assert terminal.end() == exits.OK
