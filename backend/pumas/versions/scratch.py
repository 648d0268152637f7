"""Where package programs put what they need only while they run.

It lies below the launcher root, not in the system's folder for temporary files: that one is often kept in memory, and
pip unpacks gigabytes there. What a kill leaves behind is removed at the next start. `cache` is the folder that
downloads are kept in.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

from pumas.storage.files import disk_errors, make_folders


def folder(cache: Path) -> Path:
    """The folder of all of it, made when missing. Raises the disk's failures."""
    place = cache / "scratch"
    with disk_errors("Preparing a folder for temporary files"):
        make_folders(place, 0o700)
    return place


@contextlib.contextmanager
def scratch(cache: Path, prefix: str) -> Generator[Path]:
    """A folder of one's own, removed at the end. Raises the disk's failures."""
    place = folder(cache)
    with disk_errors("Preparing a folder for temporary files"):
        own = tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
    with own as path:
        yield Path(path)


def left_behind(cache: Path) -> list[Path]:
    """Folders that lie there, which at a start nobody needs; files are removed here."""
    found: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(cache / "scratch") as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found.append(Path(entry))
            else:
                os.unlink(entry)
    return found
