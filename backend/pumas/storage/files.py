"""Durable file operations: what was acknowledged is on disk, and a name never shows a half-written file.

Order everywhere: data, fsync, rename, fsync of the folder. Neighbours: `json_file.py` for state files, the library's
import and trash for model folders. Nothing here decides what may be deleted.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from pumas.errors import AlreadyExists, DiskError, NotEnoughSpace, PumasError, ReadOnly

TEMP_SUFFIX = ".pumas-tmp"
_TEMP_NAME = re.compile(rf"\.(\d+)\.[0-9a-f]{{8}}{re.escape(TEMP_SUFFIX)}$")
_STARTED = time.time()

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
    if sys.platform == "win32":  # folders cannot be opened there, and NTFS journals names by itself
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folders(folder: Path, mode: int = 0o777) -> list[Path]:
    """Create `folder` and its missing parents durably. Returns those that were made, outermost first."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    made: list[Path] = []
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=mode)
            made.append(path)
        fsync_folder(path.parent)
    return made


def remove_if_empty(folders: list[Path]) -> None:
    """Remove those folders that are empty, innermost first when listed outermost first; failures do not matter."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            folder.rmdir()


def temporary_name(path: Path) -> Path:
    """The name beside `path` under which its next content is written."""
    return path.with_name(f"{path.name}.{os.getpid()}.{os.urandom(4).hex()}{TEMP_SUFFIX}")


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` by `data` at once: readers see the old or the new content, also after a power cut."""
    temporary = temporary_name(path)
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
        AlreadyExists: `target` is taken, by an empty folder too; nothing was changed.
        OSError: nothing was changed. A rename that cannot be made durable is taken back.
    """
    try:
        _rename_exclusively(source, target)
    except FileExistsError:
        raise AlreadyExists(f"{target.name} already exists in {target.parent.name}.") from None
    try:
        fsync_folder(target.parent)
        if source.parent != target.parent:
            fsync_folder(source.parent)
    except OSError:
        with contextlib.suppress(OSError):
            _rename_exclusively(target, source)
        raise


_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


def _rename_exclusively(source: Path, target: Path) -> None:
    """rename(2) that fails with EEXIST: one system call on Linux (renameat2), as safe as it gets elsewhere."""
    if sys.platform == "win32":
        os.rename(source, target)  # never replaces there
        return
    if sys.platform == "linux":
        import ctypes

        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if renameat2 is not None:
            old, new = os.fsencode(source), os.fsencode(target)
            if renameat2(_AT_FDCWD, old, _AT_FDCWD, new, ctypes.c_uint(_RENAME_NOREPLACE)) == 0:
                return
            code = ctypes.get_errno()
            if code not in (errno.ENOSYS, errno.EINVAL):  # EINVAL: this file system does not know the flag
                raise OSError(code, os.strerror(code), str(source), None, str(target))
    _rename_onto_reserved_name(source, target)


def _rename_onto_reserved_name(source: Path, target: Path) -> None:
    """Take the name first in a way that fails when it is taken, then rename over what was put there."""
    if source.is_dir() and not source.is_symlink():
        target.mkdir()
    else:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        os.rename(source, target)
    except OSError:
        with contextlib.suppress(OSError):
            target.rmdir() if target.is_dir() else target.unlink()
        raise


def put_aside(path: Path) -> Path:
    """Keep what cannot be used under a dated name, and return that. A file keeps its old name too until it is replaced,
    so that a crash in between leaves it damaged, not missing."""
    aside = aside_name(path)
    if is_odd(path):
        os.rename(path, aside)
        return aside
    try:
        os.link(path, aside)
    except OSError:  # a file system without hard links
        os.rename(path, aside)
    return aside


def aside_name(path: Path) -> Path:
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%fZ")
    return path.with_name(f"{path.name}.damaged-{stamp}")


def is_odd(path: Path) -> bool:
    """Something is there that is no regular file: a folder, FIFO, device, socket or symbolic link."""
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def remove_stale_temporaries(folder: Path) -> None:
    """Remove what a killed `write_durably` left in `folder`: names of our form whose process is gone."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.endswith(TEMP_SUFFIX)]
    for name in names:
        match = _TEMP_NAME.search(name)
        if match is not None and _is_stale(folder / name, int(match.group(1))):
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def sweep(folders: Iterable[Path]) -> None:
    """`remove_stale_temporaries` in each of these; one that cannot be read is none of its business."""
    for folder in folders:
        with contextlib.suppress(OSError):
            remove_stale_temporaries(folder)


def _is_stale(path: Path, pid: int) -> bool:
    """A number may be in use again, by this process too (in a container it often is): then the age decides."""
    import psutil

    if pid != os.getpid() and not psutil.pid_exists(pid):
        return True
    with contextlib.suppress(OSError):
        age = time.time() - path.lstat().st_mtime
        return age > 24 * 3600 or (pid == os.getpid() and age > time.time() - _STARTED + 1)
    return False


MARGIN = 64 * 1024 * 1024
"""Bytes that stay free on a disk when we write to it."""


def free_space(folder: Path) -> int:
    """Bytes that this user can still write on the file system of `folder` (or of its nearest existing parent)."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def has_no_room(folder: Path) -> bool:
    """Whether the disk or the user's quota is used up, found out by writing a little."""
    return isinstance(why_not_written(folder), DiskFull)


def why_not_written(folder: Path) -> PumasError | None:
    """What the disk says when a little is written into `folder`; None when it takes that.

    Only writing tells: a file system that the kernel made read-only after an error may still call itself writable.
    """
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(64 * 1024))
            probe.flush()
    except OSError as error:
        return disk_error(error, f"Writing into {folder.name}")
    return None


def require_space(folder: Path, needed: int, margin: int = MARGIN) -> None:
    """Raise NotEnoughSpace unless `needed` bytes plus a margin are free where `folder` lies."""
    free = free_space(folder)
    if needed + margin > free:
        raise NotEnoughSpace(needed + margin, free)
