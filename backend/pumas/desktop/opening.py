"""Shows folders, files and pages by the desktop's own programs: argument vectors, never a shell.

A file is never opened, only shown in its folder: opening could run it. Where PUMAS_OPENER names a program, that is
called with the one folder or address instead. Blocks for a moment.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

from pumas.apps.command import child_environment
from pumas.errors import InvalidInput, LaunchFailed, Unsupported
from pumas.storage.files import disk_errors, make_folders
from pumas.system.service import COMFYUI

OPENER_VARIABLE = "PUMAS_OPENER"
BROWSER = "brave-browser"
EARLY_S = 2.0
"""How long a failure of the program is waited for; a browser that is started may stay for hours."""
_REVEAL_S = 5.0
_MOST_ADDRESS = 4096
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def address(url: str) -> str:
    """Raises InvalidInput: no http or https address with a host, in printable ASCII."""
    if len(url) > _MOST_ADDRESS or not _PRINTABLE.fullmatch(url):
        raise InvalidInput("url", "must be an address of at most 4096 printable ASCII characters without spaces")
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise InvalidInput("url", "must be an http or https address with a host")
    return url


def show(path: Path) -> None:
    """Open a folder, or show a file in its folder. Raises as `open_target`."""
    if os.path.isdir(path):
        open_target(str(path))
    elif os.environ.get(OPENER_VARIABLE) or not _reveal(path):
        open_target(str(path.parent))


def open_target(target: str) -> None:
    """Open an absolute folder or an http(s) address.

    Raises:
        Unsupported: there is no program for that. LaunchFailed: it says that it could not.
    """
    chosen = os.environ.get(OPENER_VARIABLE, "")
    if chosen:
        command = [chosen, target]
    elif sys.platform == "win32":
        os.startfile(target)  # noqa: S606 - a folder or a checked address
        return
    elif sys.platform == "darwin":
        command = ["open", target]
    else:
        program = shutil.which("xdg-open")
        if program is None:
            raise Unsupported("Nothing on this machine opens folders and pages: xdg-open is missing (xdg-utils).")
        command = [program, target]
    _start(command)


def open_window(url: str, profile: Path, name: str) -> None:
    """Open an app's page: in a window of its own with a profile of its own where Brave is installed, else as any page.

    Raises as `open_target`; DiskError, NotEnoughSpace, ReadOnly: the folder of the profile cannot be made.
    """
    browser = None if os.environ.get(OPENER_VARIABLE) else shutil.which(BROWSER)
    if browser is None:
        open_target(url)
        return
    with disk_errors("Making the browser's profile"):
        make_folders(profile)
    _start([browser, f"--app={url}", f"--user-data-dir={profile}", f"--class={name}"])


def window_of(app_id: str, tag: str) -> str:
    """Names the profile of a version's window, for ComfyUI as older sidecars did: `v0.3.10` -> `0-3-10`."""
    text = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9_-]", "-", tag.strip().lower()))
    text = (text[1:] if text.startswith("v") and len(text) > 1 else text).strip("-_")
    return (text or app_id) if app_id == COMFYUI else f"{app_id}-{text}"


def _start(command: list[str]) -> None:
    name = Path(command[0]).name
    try:
        process = subprocess.Popen(
            command,
            cwd="/" if os.name == "posix" else None,
            env=child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise LaunchFailed(f"{name} cannot be started: {os.strerror(error.errno or 0)}.") from None
    try:
        status = process.wait(EARLY_S)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, name="opener", daemon=True).start()
        return
    if status:
        raise LaunchFailed(f"{name} could not open it (status {status}).")


def _reveal(path: Path) -> bool:
    """Show a file in its folder, where the desktop can do that.

    https://www.freedesktop.org/wiki/Specifications/file-manager-interface/
    """
    if sys.platform == "win32":
        command = ["explorer", f"/select,{path}"]
    elif sys.platform == "darwin":
        command = ["open", "-R", str(path)]
    else:
        program = shutil.which("gdbus")
        if program is None or not os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
            return False
        name = "org.freedesktop.FileManager1"
        where = ["--session", "--dest", name, "--object-path", "/org/freedesktop/FileManager1"]
        # The address has its quotes and all else that is special as %XX.
        command = [program, "call", *where, "--method", f"{name}.ShowItems", f"['{path.as_uri()}']", ""]
    try:
        done = subprocess.run(
            command, env=child_environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=_REVEAL_S
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0 or sys.platform == "win32"
