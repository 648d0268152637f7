"""Questions about files that still lie on the user's disk: what are they, can they be moved, who else links to them.

Synchronous, for worker threads. Reading model files is `formats/`; nothing here changes a file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pumas.errors import FileUnavailable
from pumas.storage.paths import caller_path, display_name


@dataclass(frozen=True, slots=True)
class Writable:
    """Whether the file at `path` (as given) exists and may be removed from its folder; `reason` says why not."""

    path: str
    writable: bool
    reason: str | None


def link_count(path: str) -> int:
    """How many names the file has on its file system.

    Raises:
        UnsafePath: not an absolute path.
        FileUnavailable: there is no such file.
    """
    file = caller_path(path, "file_path")
    try:
        return file.stat().st_nlink
    except OSError as error:
        raise FileUnavailable(display_name(file.name), os.strerror(error.errno or 0)) from None


def writable(paths: Sequence[str]) -> list[Writable]:
    """One answer per path, in their order. Raises UnsafePath for a path that is not absolute."""
    return [_writable(path, caller_path(path, "file_paths")) for path in paths]


def _writable(given: str, path: Path) -> Writable:
    try:
        path.lstat()
    except OSError as error:
        return Writable(given, False, os.strerror(error.errno or 0))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return Writable(given, False, "its folder may not be written by this user")
    return Writable(given, True, None)
