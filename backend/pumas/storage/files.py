"""Durable file operations: what was acknowledged is on disk, and a name never shows a half-written file.

Order everywhere: data, fsync, rename, fsync of the folder. Neighbours: `json_file.py` for state files, the library's
import and trash for model folders. Nothing here decides what may be deleted.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from pumas.errors import AlreadyExists, DiskError, NotEnoughSpace, PumasError, ReadOnly

TEMP_SUFFIX = ".pumas-tmp"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def disk_error(error: OSError, what: str) -> PumasError:
    """Convert an operating-system error into the failure a user can act on. `what` names the operation."""
    if error.errno in _FULL:
        return DiskFull(what)
    if error.errno == errno.EROFS:
        return ReadOnly(f"{what}: the file system is read-only.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return DiskError(f"{what}: permission denied.")
    return DiskError(f"{what}: {os.strerror(error.errno or 0)}.")


class DiskFull(NotEnoughSpace):
    """The disk filled up while writing; how much was missing is not known."""

    def __init__(self, what: str) -> None:
        PumasError.__init__(self, f"{what}: the disk is full. Free some space and try again.")
        self.needed = self.free = 0


@contextlib.contextmanager
def disk_errors(what: str) -> Generator[None]:
    """Convert every OSError inside the block by `disk_error`."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, what) from error


def fsync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data` at once: readers see the old or the new content, also after a power cut."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}{TEMP_SUFFIX}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    fsync_folder(path.parent)


def rename_new(source: Path, target: Path) -> None:
    """Rename a file or folder to a name that must be free, and make it durable on both sides.

    Raises:
        AlreadyExists: `target` is taken; nothing was changed.
    """
    if os.path.lexists(target):
        raise AlreadyExists(f"{target.name} already exists in {target.parent.name}.")
    os.rename(source, target)
    fsync_folder(target.parent)
    if source.parent != target.parent:
        fsync_folder(source.parent)


def free_space(folder: Path) -> int:
    """Bytes that this user can still write on the file system of `folder` (or of its nearest existing parent)."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def require_space(folder: Path, needed: int, margin: int = 64 * 1024 * 1024) -> None:
    """Raise NotEnoughSpace unless `needed` bytes plus a margin are free where `folder` lies."""
    free = free_space(folder)
    if needed + margin > free:
        raise NotEnoughSpace(needed + margin, free)
