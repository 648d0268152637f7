"""The icons of shortcuts, as scalable images that the desktop's theme finds by name.

A version's icon is the app's, with the tag on a dark banner across it. The app's own picture is used when the launcher
has one. https://specifications.freedesktop.org/icon-theme-spec/latest/
"""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path
from xml.sax.saxutils import escape

from pumas.storage.files import disk_errors, make_folders, write_durably

_LARGEST_PICTURE = 4 * 1024 * 1024
_LABEL = 12
_PNG = b"\x89PNG\r\n\x1a\n"
_DRAWN = (
    '<rect x="16" y="16" width="224" height="224" rx="40" fill="#1f2a37"/>'
    '<path d="M72 84h40m32 88h40M112 84c40 0 0 88 32 88" fill="none" stroke="#9db8d9" stroke-width="10"/>'
    '<circle cx="72" cy="84" r="18" fill="#f2b84b"/><circle cx="184" cy="172" r="18" fill="#5fc29b"/>'
)


def write(theme: Path, name: str, label: str, picture: Path) -> bool:
    """Put an icon into the theme; False when it is there already, just so. Blocks.

    Args:
        theme: the folder of the theme that all others fall back to, `hicolor`.
        label: the tag; "" draws no banner.
        picture: the app's own, a PNG file that may be missing.

    Raises:
        DiskError, NotEnoughSpace, ReadOnly.
    """
    path, data = place(theme, name), draw(label, picture).encode()
    with contextlib.suppress(OSError):
        if path.read_bytes() == data:
            return False
    with disk_errors("Writing the icon"):
        make_folders(path.parent)
        write_durably(path, data)
    _tell(theme)
    return True


def remove(theme: Path, name: str) -> None:
    """Raises DiskError, ReadOnly."""
    with disk_errors("Removing the icon"):
        place(theme, name).unlink(missing_ok=True)
    _tell(theme)


def place(theme: Path, name: str) -> Path:
    return theme / "scalable" / "apps" / f"{name}.svg"


def draw(label: str, picture: Path) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 256 256" '
        f'width="256" height="256">{_image(picture)}{_banner(label)}</svg>\n'
    )


def _image(picture: Path) -> str:
    with contextlib.suppress(OSError), picture.open("rb") as file:
        data = file.read(_LARGEST_PICTURE + 1)
        if data.startswith(_PNG) and len(data) <= _LARGEST_PICTURE:
            source = f"data:image/png;base64,{base64.b64encode(data).decode()}"
            return f'<image width="256" height="256" preserveAspectRatio="xMidYMid meet" xlink:href="{source}"/>'
    return _DRAWN


def _banner(label: str) -> str:
    text = escape(label.lstrip("vV")[:_LABEL])
    if not text:
        return ""
    return (
        '<rect y="92" width="256" height="72" fill="#000000" fill-opacity="0.75"/>'
        '<text x="128" y="146" text-anchor="middle" font-family="DejaVu Sans, sans-serif" font-weight="bold" '
        f'font-size="{52 if len(text) <= 7 else 36}" fill="#ffffff">{text}</text>'
    )


def _tell(theme: Path) -> None:
    """A theme's new date is what desktops look for."""
    with contextlib.suppress(OSError):
        os.utime(theme)
