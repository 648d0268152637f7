"""One link on disk: what it should hold, whether it is ours, making it, taking it away.

A link is ours while the place that its row names holds what we put there; anything else is foreign and is not touched.
A name that is taken is never replaced. The registry (`store.py`) and its order with these calls is the callers' matter
(`applying.py`, `keeping.py`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from enum import StrEnum
from pathlib import Path

from pumas.links.store import Link
from pumas.storage.files import rename_new, require_space, temporary_name

# What a file system without symbolic links says, and what Windows says to a user who may make none.
_UNSUPPORTED = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EMLINK})
_WINDOWS_NOT_ALLOWED = 1314


class LinkKind(StrEnum):
    """`copy` uses space of its own and is made only when the caller asks for it."""

    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    COPY = "copy"


class Unsupported(Exception):
    """This kind of link cannot be made in this place."""


def library_of(root: str) -> str:
    """The library as links name it: below the real path of the root, its own name kept, so that a library that is
    itself a link can be moved to another drive."""
    return f"{os.path.realpath(root)}/shared-resources/models"


def symlink_text(root: str, source: str, folder: str, *, external: bool) -> str:
    """What a symbolic link in `folder` (links resolved) holds to lead to `source` (below the root, or anywhere).

    Relative below the root on one volume, so that the root can be moved; else absolute.
    """
    if source.startswith(f"{root}/"):
        real = os.path.realpath(root) + source[len(root) :]
        return real if external else os.path.relpath(real, folder)
    return source


def leads_to(target: str, text: str) -> str:
    """The path that a symbolic link at `target` names, its folder's links resolved, its own source's not."""
    folder = os.path.realpath(os.path.dirname(target))
    return os.path.normpath(os.path.join(folder, text))


def same_place(one: str, other: str) -> bool:
    """Whether two paths name the same place, the links of the folders above resolved."""
    if one == other:
        return True
    if os.path.basename(one) != os.path.basename(other):
        return False
    return os.path.realpath(os.path.dirname(one)) == os.path.realpath(os.path.dirname(other))


def is_ours(link: Link, target: str, source: str) -> bool:
    """Whether `target` (absolute) holds what the row says. A link of an older sidecar is ours when it leads to
    `source` (absolute)."""
    try:
        status = os.lstat(target)
        if link.link_type == LinkKind.SYMLINK:
            if not stat.S_ISLNK(status.st_mode):
                return False
            text = os.readlink(target)
            return text == link.link_text or same_place(leads_to(target, text), source)
    except OSError:
        return False
    if not stat.S_ISREG(status.st_mode):
        return False
    if link.link_type == LinkKind.HARDLINK:
        return status.st_ino == link.inode if link.inode else _same_file(status, source)
    return link.inode != 0 and (status.st_ino, status.st_size, status.st_mtime_ns) == (
        link.inode,
        link.size,
        link.mtime_ns,
    )


def _same_file(status: os.stat_result, source: str) -> bool:
    try:
        return os.path.samestat(status, os.stat(source))
    except OSError:
        return False


def take_away(link: Link, target: str, source: str) -> bool:
    """Remove a link that is ours; False when it is not, or when it is the last name of its bytes.

    Raises:
        OSError: it is still there.
    """
    if not is_ours(link, target, source):
        return False
    if link.link_type == LinkKind.HARDLINK and os.lstat(target).st_nlink < 2:
        return False
    os.unlink(target)
    return True


def make(link: Link, target: str, source: str) -> None:
    """Make a link whose row was begun, in a folder that exists. A copy is made by `prepare_copy` and `publish_copy`.

    Raises:
        FileExistsError: the name is taken; nothing was changed.
        Unsupported: the place knows no such links.
        OSError: nothing was changed.
    """
    try:
        if link.link_type == LinkKind.SYMLINK:
            os.symlink(link.link_text, target)
        else:
            os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        windows = getattr(error, "winerror", None) == _WINDOWS_NOT_ALLOWED
        if windows or error.errno in _UNSUPPORTED or (error.errno == errno.EXDEV and link.link_type != "symlink"):
            raise Unsupported(os.strerror(error.errno or 0)) from error
        raise


def prepare_copy(source: str, target: str) -> tuple[str, os.stat_result]:
    """Copy beside the target under a name of our own; `remove_stale_temporaries` knows it.

    Raises:
        NotEnoughSpace, OSError: no copy is left.
    """
    require_space(Path(target).parent, os.stat(source).st_size)
    temporary = os.fspath(temporary_name(Path(target)))
    try:
        with open(source, "rb") as read, open(temporary, "xb") as written:
            shutil.copyfileobj(read, written, 4 * 1024 * 1024)
            written.flush()
            os.fsync(written.fileno())
            return temporary, os.fstat(written.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def publish_copy(temporary: str, target: str) -> None:
    """Raises AlreadyExists when the name is taken, and OSError; the copy is then gone."""
    try:
        rename_new(Path(temporary), Path(target))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
