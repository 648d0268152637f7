"""Bring one file of the user's into staging: cloned, hard-linked or copied, hashed on the way, durable at the end.

The source is opened once; what is checked, read and linked is that open file, whatever its name points to by then.
It is never written or removed here: `importing.py` decides when a moved source may go.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from pumas.errors import AlreadyExists, FileUnavailable, InvalidInput
from pumas.library.formats.reader import OpenedFile, open_regular
from pumas.library.hashing import Advance, Digests, Stamp, digest_open
from pumas.storage.files import disk_errors

# Written data is handed to the disk in pieces of this size: one long fsync at the end of a 100 GB file could neither be
# cancelled nor let anyone else's fsync through.
SYNC_EVERY = 64 * 1024 * 1024

# FICLONE of linux/fs.h, _IOW(0x94, 9, int): the target shares the source's blocks until one of them is written.
_FICLONE = 0x40049409


class Mode(enum.StrEnum):
    """How the caller wants files to come in.

    `copy` leaves the source alone; blocks are shared only where the file system does copy-on-write. `hardlink` is one
    file under two names: no space is used, and whoever writes to it through either name changes both. `move` removes
    the source files once the model is in the library.
    """

    COPY = "copy"
    MOVE = "move"
    HARDLINK = "hardlink"


class Method(enum.StrEnum):
    """How a file really came in."""

    COPY = "copy"
    REFLINK = "reflink"
    HARDLINK = "hardlink"


@dataclass(frozen=True, slots=True)
class Staged:
    digests: Digests
    method: Method
    source: Stamp


def stage_file(source: Path, target: Path, mode: Mode, *, expected: Stamp, advance: Advance) -> Staged:
    """Make `target` (which must not exist, in an existing folder) hold the bytes of `source`, and hash them.

    Args:
        expected: the source as it was when the import was planned; anything else there now is refused.

    Raises:
        FileUnavailable: the source is gone, another file, or was written meanwhile. No target is left.
        AlreadyExists: `target` exists.
        InvalidInput: hard links were asked for and cannot be made there.
        DiskError, NotEnoughSpace, ReadOnly: no target is left.
    """
    if os.path.lexists(target):
        # The folder is private to one import, so nobody else makes files in it; what is there is not ours to remove.
        raise AlreadyExists(f"{target.name} already exists in {target.parent.name}.")
    with open_regular(source) as opened:
        _require_same(opened, expected)
        try:
            method, digests = _bring(source, opened, target, mode, advance)
            _require_same(opened, expected)
        except BaseException:
            with contextlib.suppress(OSError):
                target.unlink()
            raise
    return Staged(digests, method, expected)


def share_file(source: Path, target: Path, method: Method, *, expected: Stamp) -> bool:
    """Make `target` (which must not exist) share the bytes of `source`, without reading them, durably.

    Args:
        method: REFLINK or HARDLINK.
        expected: as for `stage_file`.

    Returns False, with no target left, when this pair of places cannot share in that way. Raises as `stage_file`.
    """
    if os.path.lexists(target):
        raise AlreadyExists(f"{target.name} already exists in {target.parent.name}.")
    with open_regular(source) as opened:
        _require_same(opened, expected)
        try:
            done = _shared(source, opened, target, method)
            _require_same(opened, expected)
        except BaseException:
            with contextlib.suppress(OSError):
                target.unlink()
            raise
    if not done:
        with contextlib.suppress(OSError):
            target.unlink()
    return done


def _shared(source: Path, opened: OpenedFile, target: Path, method: Method) -> bool:
    if method is Method.HARDLINK:
        if not _hardlink(source, opened, target):
            return False
        with disk_errors(f"Writing {target.name}"):
            os.fsync(opened.fd)  # whoever wrote the source may not have
        return True
    with _created(opened, target) as fd:
        if not _clone(opened.fd, fd):
            return False
        with disk_errors(f"Writing {target.name}"):
            os.fsync(fd)
    return True


def _require_same(opened: OpenedFile, expected: Stamp) -> None:
    if Stamp.of(os.fstat(opened.fd)) != expected:
        raise FileUnavailable(opened.name, "was changed or replaced since the import began; import it again")


def _bring(source: Path, opened: OpenedFile, target: Path, mode: Mode, advance: Advance) -> tuple[Method, Digests]:
    if mode is Mode.HARDLINK or (mode is Mode.MOVE and os.fstat(opened.fd).st_nlink == 1):
        # A file that already has a second name elsewhere is copied when it is moved: that name must not stay tied to
        # the library.
        if _hardlink(source, opened, target):
            with disk_errors(f"Writing {target.name}"):
                os.fsync(opened.fd)  # whoever wrote the source may not have
            return Method.HARDLINK, digest_open(opened, advance)
        if mode is Mode.HARDLINK:
            raise InvalidInput("mode", f"{opened.name} cannot be hard-linked into the library's volume; use copy")
    with _created(opened, target) as fd:
        if _clone(opened.fd, fd):
            with disk_errors(f"Writing {target.name}"):
                os.fsync(fd)
            with open_regular(target) as clone:
                return Method.REFLINK, digest_open(clone, advance)
        return Method.COPY, _copy(opened, fd, target.name, advance)


@contextlib.contextmanager
def _created(opened: OpenedFile, target: Path) -> Generator[int]:
    """A new file with the permissions of the source, without execute bits, open for writing."""
    permissions = (os.fstat(opened.fd).st_mode & 0o666) | 0o600
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with disk_errors(f"Creating {target.name}"):
        fd = os.open(target, flags, permissions)
    try:
        yield fd
    finally:
        os.close(fd)


def _copy(opened: OpenedFile, fd: int, name: str, advance: Advance) -> Digests:
    """Blocks of zeros of a source with holes become holes: it takes no more room here than where it is from."""
    unsynced = 0
    has_holes = _has_holes(os.fstat(opened.fd))

    def write(block: memoryview, _offset: int) -> None:
        nonlocal unsynced
        if has_holes and bytes(block) == bytes(len(block)):
            os.lseek(fd, len(block), os.SEEK_CUR)
            return
        with disk_errors(f"Writing {name}"):
            done = 0
            while done < len(block):
                done += os.write(fd, block[done:])
            unsynced += done
            if unsynced >= SYNC_EVERY:
                unsynced = 0
                os.fsync(fd)

    digests = digest_open(opened, advance, write)
    with disk_errors(f"Writing {name}"):
        os.ftruncate(fd, digests.size)  # the file may end in a hole
        os.fsync(fd)
    return digests


def _has_holes(status: os.stat_result) -> bool:
    """Whether fewer blocks than its size needs are on the disk; False where the system does not tell."""
    return getattr(status, "st_blocks", status.st_size) * 512 < status.st_size


def _hardlink(source: Path, opened: OpenedFile, target: Path) -> bool:
    """False when this pair of places cannot be linked."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NOT_POSSIBLE:
            return False
        with disk_errors(f"Linking {target.name}"):
            raise
    linked = target.lstat()
    if (linked.st_dev, linked.st_ino) != (opened.device, opened.inode):
        raise FileUnavailable(opened.name, "was replaced while it was linked; import it again")
    return True


def _clone(source: int, target: int) -> bool:
    """Share the blocks copy-on-write; False when the file system or the pair of volumes cannot."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NOT_POSSIBLE:
            return False
        with disk_errors("Cloning a file"):
            raise
    return True


_NOT_POSSIBLE = {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.EMLINK,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.ENOTTY,
    errno.EINVAL,
    errno.ETXTBSY,
    errno.EBADF,
}


def can_clone(source: Path, folder: Path) -> bool:
    """Whether files of `source`'s kind can be cloned into `folder`: tried with a file that is removed at once."""
    trial = folder / f".clone-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with open_regular(source) as opened, _created(opened, trial) as fd:
            return _clone(opened.fd, fd)
    finally:
        with contextlib.suppress(OSError):
            trial.unlink()
