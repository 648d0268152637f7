"""The files of shortcuts: made, looked for and removed, in the menu and on the desktop.

`ComfyUI-<slug>.desktop` starts one version, `ComfyUI.desktop` the active one. An entry that belongs to another launcher
root, or that somebody else made under such a name, is neither replaced nor removed. Blocks.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pumas.config import Layout
from pumas.desktop import entry, folders, icons
from pumas.desktop.entry import Entry
from pumas.errors import AlreadyExists, Unsupported
from pumas.storage.files import disk_errors, fsync_folder, make_folders, write_durably
from pumas.system.service import COMFYUI

STARTER = Path(__file__).with_name("starter.py")
BASE_ICON = "comfyui"
_LARGEST_ENTRY = 64 * 1024
_TRUST_S = 5.0


class Place(StrEnum):
    MENU = "menu"
    DESKTOP = "desktop"


BOTH = frozenset(Place)


@dataclass(frozen=True, slots=True)
class State:
    """Whether there is an entry of ours in the menu, and on the desktop."""

    menu: bool
    desktop: bool


class Shortcuts:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def state(self, tag: str | None) -> State:
        """None: of the shortcut that starts the active version."""
        return State(*(self._exists(place, tag) for place in (Place.MENU, Place.DESKTOP)))

    def create(self, tag: str | None, places: Collection[Place]) -> None:
        """Make or renew entries, and the icon that they show.

        Raises:
            Unsupported: not on this system, or the user has no desktop folder.
            AlreadyExists: somebody else's entry has that name.
            InvalidInput: the launcher lies where no entry can name it. DiskError, NotEnoughSpace, ReadOnly.
        """
        if sys.platform in ("win32", "darwin"):
            raise Unsupported("Shortcuts can only be made on Linux desktops.")
        paths = [(place, self._path(place, tag)) for place in (Place.MENU, Place.DESKTOP) if place in places]
        for _place, path in paths:
            if os.path.lexists(path) and not self._is_ours(path):
                raise AlreadyExists(f"{path.name} in {path.parent.name} is not of this launcher; it was left alone.")
        text = self._entry(tag).text().encode()
        self.install_icon(tag)
        for place, path in paths:
            with disk_errors("Writing the shortcut"):
                make_folders(path.parent)
                _clear(path)
                write_durably(path, text, 0o755)
                path.chmod(0o755)
            if place is Place.DESKTOP:
                _trust(path)

    def remove(self, tag: str | None, places: Collection[Place]) -> int:
        """How many entries went; with the last one goes the icon, and what older sidecars made for it.

        Raises:
            DiskError, ReadOnly.
        """
        removed = 0
        for place in places:
            path = self._path_or_none(place, tag)
            if path is not None and self._is_ours(path):
                with disk_errors("Removing the shortcut"):
                    path.unlink(missing_ok=True)
                    fsync_folder(path.parent)
                removed += 1
        if removed and tag is not None and self.state(tag) == State(False, False):
            icons.remove(folders.find().icons, _icon(tag))
            for path in self._older(tag):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        return removed

    def install_icon(self, tag: str | None) -> bool:
        """Whether it was not there before. Raises DiskError, NotEnoughSpace, ReadOnly."""
        picture = self._layout.data / "icons" / "comfyui_logo_2025.png"
        return icons.write(folders.find().icons, _icon(tag), tag or "", picture)

    def _entry(self, tag: str | None) -> Entry:
        return Entry(
            name=f"ComfyUI {tag}" if tag else "ComfyUI",
            comment="Start it and open its page",
            command=(sys.executable, str(STARTER), str(self._layout.root), COMFYUI, *([tag] if tag else [])),
            icon=_icon(tag),
            root=str(self._layout.root),
        )

    def _path(self, place: Place, tag: str | None) -> Path:
        path = self._path_or_none(place, tag)
        if path is None:
            raise Unsupported("There is no desktop folder: the settings of this desktop switch it off.")
        return path

    def _path_or_none(self, place: Place, tag: str | None) -> Path | None:
        found = folders.find()
        folder = found.menu if place is Place.MENU else found.desktop
        return None if folder is None else folder / (f"ComfyUI-{slug(tag)}.desktop" if tag else "ComfyUI.desktop")

    def _exists(self, place: Place, tag: str | None) -> bool:
        path = self._path_or_none(place, tag)
        return path is not None and self._is_ours(path)

    def _is_ours(self, path: Path) -> bool:
        """By the mark; older sidecars left none, and named a script below the root instead."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            text = os.read(fd, _LARGEST_ENTRY).decode("utf-8", "replace") if regular else ""
        finally:
            os.close(fd)
        mark = entry.value_of(text, entry.ROOT_KEY)
        if mark is not None:
            return mark == str(self._layout.root)
        return f"{self._layout.data}{os.sep}" in (entry.value_of(text, "Exec") or "")

    def _older(self, tag: str) -> list[Path]:
        name, data = slug(tag), self._layout.data
        scripts = [data / folder / f"launch-{name}.sh" for folder in ("shortcuts", "shortcut-scripts")]
        return scripts + [data / folder / f"comfyui-{name}.png" for folder in ("icons", "generated-icons")]


def slug(tag: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "-", tag.lower()) or "unknown"


def _icon(tag: str | None) -> str:
    return f"comfyui-{slug(tag)}" if tag else BASE_ICON


def _clear(path: Path) -> None:
    """A link would otherwise lend its target's rights to the new file."""
    if path.is_symlink():
        path.unlink()


def _trust(path: Path) -> None:
    """Some desktops start entries on the desktop only when the user trusts them, and keep that as metadata."""
    program = shutil.which("gio")
    if program is None:
        return
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            [program, "set", str(path), "metadata::trusted", "true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TRUST_S,
        )
