"""Where package programs put what they need only while they run.

It lies below the launcher root, not in the system's folder for temporary files: that one is often kept in memory, and
pip unpacks gigabytes there. What a kill leaves behind is removed at the next start. `cache` is that of the `Layout`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Final

from pumas.storage.files import disk_errors, make_folders

_NAME: Final = "scratch"
_PREPARING: Final = "Preparing a folder for temporary files"


def scratch_folder(cache: Path) -> Path:
    """The folder of all of it, made when missing. Raises the disk's failures."""
    place = cache / _NAME
    with disk_errors(_PREPARING):
        make_folders(place, 0o700)
    return place


@contextlib.contextmanager
def scratch(cache: Path, prefix: str) -> Generator[Path]:
    """A folder of one's own, removed at the end. Raises the disk's failures."""
    place = scratch_folder(cache)
    with disk_errors(_PREPARING):
        own = tempfile.TemporaryDirectory(prefix=prefix, dir=place, ignore_cleanup_errors=True)
    with own as path:
        yield Path(path)


def left_behind(cache: Path) -> list[Path]:
    """Folders that lie there, which at a start nobody needs; files are removed here."""
    found: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(cache / _NAME) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                found.append(Path(entry))
            else:
                with contextlib.suppress(OSError):  # another time
                    os.unlink(entry)
    return found
