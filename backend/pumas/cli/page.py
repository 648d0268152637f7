"""Opens the page in the user's browser, with a code that the page exchanges for the token.

The code reaches the browser by a file that only the user may read: an argument of a program can be seen by every user
of the machine. Imports nothing that the sidecar does not need anyway.
"""

from __future__ import annotations

import contextlib
import html
import os
import sys

from pumas.config import Layout
from pumas.errors import Unsupported
from pumas.storage.files import disk_errors, write_durably

OPENER = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="referrer" content="no-referrer">
<meta http-equiv="refresh" content="0; url={address}">
<title>Pumas</title>
<p><a href="{address}">Open Pumas</a> (this works once, and not for long)</p>
</html>
"""


def address(url: str, code: str) -> str:
    """Where a browser finds the page. The code stands in the fragment, which is sent to nobody."""
    return f"{url}/#code={code}"


def has_desktop() -> bool:
    """Whether there is somebody to show a page to: without a display, xdg-open would try text browsers."""
    named = os.environ.get("PUMAS_OPENER")
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(named or display) or sys.platform in ("win32", "darwin")


def open_in_browser(layout: Layout, url: str, code: str) -> None:
    """Blocks for up to two seconds.

    Raises:
        Unsupported: no desktop, or nothing that opens pages.
        PumasError: the program that opens pages failed, or the file cannot be written.
    """
    if not has_desktop():
        raise Unsupported("There is no desktop here that could show the page.")
    path = layout.page_opener
    with disk_errors(f"Writing {path.name}"):
        write_durably(path, OPENER.format(address=html.escape(address(url, code))).encode(), mode=0o600)
    from pumas.desktop.opening import open_target

    open_target(str(path))


def forget_opener(layout: Layout) -> None:
    """Its code is used or too old."""
    with contextlib.suppress(OSError):
        layout.page_opener.unlink()
