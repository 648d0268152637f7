"""A shortcut, started as the desktop does it, brings the app up and its page, with and without a sidecar that runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from desktop.test_entry import split
from processes.programs import Root, command_line
from pumas.client import PumasClient, discovery
from pumas.desktop import starter
from pumas.desktop.entry import value_of
from sidecar import NOWHERE, Sidecar, chosen_backend, eventually, rust_binary

TAG = "v1.0"
Launch = Callable[..., Sidecar]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """In a place whose name needs all the quoting there is."""
    one = Root(tmp_path / 'my $(root) "50%" of `it` \'s \\ ümläut')
    one.path.mkdir()
    one.install_comfyui(tag=TAG)
    yield one
    for pid in one.leftovers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """A user's home, and an opener that writes down which addresses it was to open."""
    told, opener = tmp_path / "told", tmp_path / "opener"
    opener.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$1\" >> '{told}'\n")
    opener.chmod(0o755)
    home = {"HOME": tmp_path / "home", "XDG_DATA_HOME": tmp_path / "home/data", "XDG_CONFIG_HOME": tmp_path / "home/c"}
    for name, value in (home | {"PUMAS_OPENER": opener}).items():
        monkeypatch.setenv(name, str(value))
    for name in ("HF_ENDPOINT", "PUMAS_GITHUB_API"):
        monkeypatch.setenv(name, NOWHERE)
    for name in ("DBUS_SESSION_BUS_ADDRESS", "PUMAS_RPC_TOKEN", "PUMAS_ROOT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return lambda: told.read_text().splitlines() if told.exists() else []


def make_shortcut(sidecar: Sidecar, tmp_path: Path, tag: str | None = TAG) -> Path:
    if tag is None:
        assert sidecar.result("create_menu_shortcut") is True
        return tmp_path / "home/data/applications/ComfyUI.desktop"
    made = sidecar.result("create_version_shortcuts", {"tag": tag})
    assert made["success"] and made["menu"] and made["desktop"], made
    return tmp_path / "home/data/applications/ComfyUI-v1-0.desktop"


def click(shortcut: Path) -> None:
    gio = shutil.which("gio")
    assert gio, "gio is not installed (libglib2.0-bin): no shortcut was really started"
    subprocess.run([gio, "launch", str(shortcut)], check=True, timeout=20)


def starter_command() -> list[str]:
    """What a shortcut of the backend under test begins with."""
    if chosen_backend(os.environ) == "rust":
        return [str(rust_binary()), "start-app"]
    return [sys.executable, starter.__file__]


def starters(root: Root) -> list[int]:
    return [pid for pid in root.leftovers() if starter_command()[1] in command_line(pid)]


def running_app(client: PumasClient) -> dict[str, Any] | None:
    runs = client.list_processes()["processes"]
    return dict(runs[0]) if runs else None


@pytest.mark.parametrize("tag", [TAG, None])
def test_with_a_sidecar_it_starts_the_app_opens_its_page_and_ends(
    launch: Launch, root: Root, desk: Callable[[], list[str]], tmp_path: Path, tag: str | None
) -> None:
    sidecar = launch(root=root.path, env=dict(os.environ))
    shortcut = make_shortcut(sidecar, tmp_path, tag)
    validator = shutil.which("desktop-file-validate")
    assert validator, "desktop-file-validate is not installed (desktop-file-utils)"
    done = subprocess.run([validator, str(shortcut)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    click(shortcut)
    eventually(desk, 30, "the page")
    (run,) = sidecar.result("list_processes")["processes"]
    assert (run["app_id"], run["tag"], run["ready"]) == ("comfyui", TAG, True)
    assert desk() == [run["url"]]
    eventually(lambda: not starters(root), what="the end of the starter")
    click(shortcut)
    eventually(lambda: len(desk()) == 2, 30, "the page of the app that runs already")
    (again,) = sidecar.result("list_processes")["processes"]
    assert (again["pid"], desk()[1]) == (run["pid"], run["url"])


def test_without_a_sidecar_it_brings_its_own_which_stays_as_long_as_the_app(
    launch: Launch, root: Root, desk: Callable[[], list[str]], tmp_path: Path
) -> None:
    sidecar = launch(root=root.path, env=dict(os.environ))
    shortcut = make_shortcut(sidecar, tmp_path)
    sidecar.close()
    click(shortcut)
    eventually(desk, 40, "the page")
    with PumasClient(root.path) as client:
        run = running_app(client)
        assert run is not None and desk() == [run["url"]]
        assert len(starters(root)) == 1
        assert client.stop_app(app_id="comfyui")["success"]
    eventually(lambda: not starters(root), 20, "the end of the starter")
    eventually(lambda: discovery.find(root.path) is None, 20, "the end of its sidecar")


def test_what_cannot_be_started_is_said(launch: Launch, root: Root, desk: Callable[[], list[str]]) -> None:
    launch(root=root.path, env=dict(os.environ))
    done = subprocess.run(
        [*starter_command(), str(root.path), "comfyui", "v9"], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, desk()) == (1, [])
    assert "not installed" in done.stderr and "Traceback" not in done.stderr


def test_an_app_that_ends_at_once_opens_no_page(launch: Launch, root: Root, desk: Callable[[], list[str]]) -> None:
    shutil.rmtree(root.path / "comfyui-versions")
    root.install_comfyui("dead", tag=TAG)
    launch(root=root.path, env=dict(os.environ))
    done = subprocess.run([*starter_command(), str(root.path), "comfyui"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, desk()) == (1, [])
    assert done.stderr.strip()


def test_the_shortcut_names_just_what_is_to_be_run(
    launch: Launch, root: Root, desk: Callable[[], list[str]], tmp_path: Path
) -> None:
    assert desk() == []
    shortcut = make_shortcut(launch(root=root.path, env=dict(os.environ)), tmp_path)
    line = value_of(shortcut.read_text(), "Exec")
    assert line is not None
    assert split(line) == [*starter_command(), str(root.path), "comfyui", TAG]
    assert json.dumps(str(root.path)) not in line
