"""Where the desktop looks for things: menu entries, icons, and the folder that is shown as the desktop.

https://specifications.freedesktop.org/basedir-spec/latest/ and https://www.freedesktop.org/wiki/Software/xdg-user-dirs/.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_LINE = re.compile(r'^\s*XDG_DESKTOP_DIR\s*=\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_LARGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class Folders:
    """`desktop` is None when the user has switched it off."""

    menu: Path
    icons: Path
    desktop: Path | None


def find() -> Folders:
    """As they are now: a user may rename them at any time. Blocks."""
    home = Path.home()
    data = _base("XDG_DATA_HOME", home / ".local" / "share")
    return Folders(data / "applications", data / "icons" / "hicolor", _desktop(home))


def _base(variable: str, usual: Path) -> Path:
    """The specification says that relative paths are to be ignored."""
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else usual


def _desktop(home: Path) -> Path | None:
    try:
        with (_base("XDG_CONFIG_HOME", home / ".config") / "user-dirs.dirs").open(encoding="utf-8") as file:
            found = _LINE.findall(file.read(_LARGEST))
    except (OSError, ValueError):
        found = []
    if not found:
        return home / "Desktop"
    text = re.sub(r"\\(.)", r"\1", found[-1])
    if text == "$HOME" or text.startswith("$HOME/"):
        place = home / text[6:]
    elif os.path.isabs(text):
        place = Path(text)
    else:
        return home / "Desktop"
    # By the convention of xdg-user-dirs, the home folder itself means that there is none.
    return None if place == home else place
