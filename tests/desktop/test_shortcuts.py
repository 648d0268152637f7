"""Files of shortcuts: made, recognised, removed; nobody else's are touched."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.desktop.entry import value_of
from pumas.desktop.service import DesktopService
from pumas.desktop.shortcuts import BOTH, Place, Shortcuts, State, slug
from pumas.errors import AlreadyExists, DiskError, InvalidInput, Unsupported
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles
from pumas.versions.state import InstalledVersion, VersionState

TAG = "v0.3.10"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "DBUS_SESSION_BUS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    home.mkdir()
    return home


@pytest.fixture
def shortcuts(home: Path, tmp_path: Path) -> Shortcuts:
    return Shortcuts(Layout(tmp_path / "my $root's"))


def menu(home: Path, name: str = "ComfyUI-v0-3-10") -> Path:
    return home / f".local/share/applications/{name}.desktop"


def test_both_are_made_and_removed(home: Path, shortcuts: Shortcuts) -> None:
    shortcuts.create(TAG, BOTH)
    on_desktop = home / "Desktop/ComfyUI-v0-3-10.desktop"
    icon = home / ".local/share/icons/hicolor/scalable/apps/comfyui-v0-3-10.svg"
    assert shortcuts.state(TAG) == State(True, True)
    assert [path.stat().st_mode & 0o777 for path in (menu(home), on_desktop)] == [0o755, 0o755]
    assert "0.3.10</text>" in icon.read_text()
    assert value_of(menu(home).read_text(), "Icon") == icon.stem
    assert shortcuts.remove(TAG, [Place.MENU]) == 1
    assert shortcuts.state(TAG) == State(False, True)
    assert icon.exists()
    assert shortcuts.remove(TAG, BOTH) == 1
    assert shortcuts.state(TAG) == State(False, False)
    assert not icon.exists()
    assert shortcuts.remove(TAG, BOTH) == 0


def test_the_validator_has_nothing_to_say(home: Path, shortcuts: Shortcuts) -> None:
    validator = shutil.which("desktop-file-validate")
    assert validator, "desktop-file-validate is not installed (desktop-file-utils): shortcuts were not validated"
    for tag in (TAG, None):
        shortcuts.create(tag, BOTH)
    paths = [*menu(home).parent.iterdir(), *(home / "Desktop").iterdir()]
    done = subprocess.run([validator, *map(str, paths)], capture_output=True, text=True)
    assert (len(paths), done.returncode, done.stdout + done.stderr) == (4, 0, "")


def test_one_for_the_active_version_is_apart(home: Path, shortcuts: Shortcuts) -> None:
    shortcuts.create(None, [Place.MENU])
    assert shortcuts.state(None) == State(True, False)
    assert shortcuts.state(TAG) == State(False, False)
    assert TAG not in menu(home, "ComfyUI").read_text()
    assert shortcuts.remove(TAG, BOTH) == 0
    assert shortcuts.remove(None, BOTH) == 1


@pytest.mark.parametrize("kind", ["other program", "other root", "link", "folder", "unreadable"])
def test_what_is_not_ours_stays(home: Path, shortcuts: Shortcuts, tmp_path: Path, kind: str) -> None:
    path = menu(home)
    path.parent.mkdir(parents=True)
    target = tmp_path / "target"
    if kind == "other program":
        path.write_text("[Desktop Entry]\nType=Application\nName=x\nExec=/opt/x\n")
    elif kind == "other root":
        Shortcuts(Layout(tmp_path / "other")).create(TAG, [Place.MENU])
    elif kind == "link":
        shortcuts.create(TAG, [Place.MENU])
        os.rename(path, target)
        path.symlink_to(target)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe\0" * 100)
    before = path.read_bytes() if path.is_file() else b""
    assert shortcuts.state(TAG) == State(False, False)
    with pytest.raises(AlreadyExists):
        shortcuts.create(TAG, BOTH)
    assert shortcuts.remove(TAG, BOTH) == 0
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert not (home / "Desktop").exists(), "one that is refused leaves nothing of the other"


def test_those_of_older_sidecars_are_ours(home: Path, shortcuts: Shortcuts, tmp_path: Path) -> None:
    root = tmp_path / "my $root's"
    script = root / "launcher-data/shortcuts/launch-v0-3-10.sh"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/bash\n")
    menu(home).parent.mkdir(parents=True)
    menu(home).write_text(f'[Desktop Entry]\nType=Application\nName=ComfyUI {TAG}\nExec=bash "{script}"\n')
    assert shortcuts.state(TAG) == State(True, False)
    assert shortcuts.remove(TAG, BOTH) == 1
    assert not script.exists()


def test_without_a_desktop_folder_nothing_is_made(home: Path, shortcuts: Shortcuts) -> None:
    (home / ".config").mkdir()
    (home / ".config/user-dirs.dirs").write_text('XDG_DESKTOP_DIR="$HOME/"\n')
    with pytest.raises(Unsupported):
        shortcuts.create(TAG, BOTH)
    assert not menu(home).exists()
    shortcuts.create(TAG, [Place.MENU])
    assert shortcuts.state(TAG) == State(True, False)


def test_a_failing_disk_is_told(home: Path, shortcuts: Shortcuts) -> None:
    (home / ".local").write_text("a file")
    with pytest.raises(DiskError):
        shortcuts.create(TAG, [Place.MENU])


def test_the_apps_picture_is_used(home: Path, shortcuts: Shortcuts, tmp_path: Path) -> None:
    picture = tmp_path / "my $root's/launcher-data/icons/comfyui_logo_2025.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"\x89PNG\r\n\x1a\nrest")
    assert shortcuts.install_icon(TAG)
    assert not shortcuts.install_icon(TAG)
    assert (
        "data:image/png;base64," in (home / ".local/share/icons/hicolor/scalable/apps/comfyui-v0-3-10.svg").read_text()
    )


@pytest.mark.parametrize(("tag", "name"), [("v0.3.10", "v0-3-10"), ("V1-RC_2", "v1-rc_2"), ("..", "--")])
def test_slug(tag: str, name: str) -> None:
    assert slug(tag) == name


class Installed:
    """No version is installed; tags are checked as ever."""

    def __init__(self, layout: Layout) -> None:
        app = Apps(layout).get("comfyui")
        self._state = VersionState(layout, app, StateLock(layout.state_lock), Troubles())

    async def get(self, tag: str, app_id: str) -> InstalledVersion:
        assert app_id == "comfyui"
        return self._state.get(tag)

    async def active(self, app_id: str) -> InstalledVersion | None:
        raise AssertionError(app_id)

    async def require_active(self, app_id: str) -> InstalledVersion:
        raise AssertionError(app_id)

    async def installed(self, app_id: str) -> list[InstalledVersion]:
        raise AssertionError(app_id)


@pytest.mark.parametrize(
    "tag", ["", "..", "../x", "v1\nExec=evil", "v1\rx", "v1\0", "v1;x", "$(x)", "v1 2", "-v1", "v1/..", "a" * 300, "ä"]
)
async def test_no_tag_that_is_none_comes_into_an_entry(home: Path, tmp_path: Path, tag: str) -> None:
    layout = Layout(tmp_path / "root")
    desktop = DesktopService(layout, Installed(layout))
    for act in (desktop.create, desktop.remove, desktop.toggle):
        with pytest.raises(InvalidInput):
            await act(tag, menu=True)
    with pytest.raises(InvalidInput):
        await desktop.state(tag)
    assert list(home.iterdir()) == []
