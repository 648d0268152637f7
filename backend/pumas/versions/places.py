"""The folders of an app's versions: where one is built, how it takes its place, where a removed one goes.

All of it lies in the app's own folder, so that every change of place is a rename on one volume. Blocks; knows nothing
of lists and jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pumas.jobs.store import now
from pumas.storage import json_file
from pumas.storage.files import (
    disk_errors,
    fsync_folder,
    make_folders,
    rename_new,
    sweep,
    temporary_name,
)
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import contained

BUILD = ".pumas-build-"
WORK = ".pumas-work"
TRASH = ".pumas-trash"
GONE = ".pumas-gone-"
"""What is being removed for good: out of sight by one rename, so that nobody ever meets a half of it."""
_ENTRY = "entry.json"
_CONTENT = "version"
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True)
class Removed:
    """A version in the trash. `reason`: `removed` by the user, or `replaced` by a new build of the same tag."""

    id: str
    tag: str
    reason: str
    removed_at: str
    info: JsonObject


class Places:
    """`folder` is the app's, below the launcher root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- building ----------------------------------------------------------------------------------------------------

    def tree(self, job_id: str) -> Path:
        """Where a version is built: as deep below the root as it will lie, so that relative links stay right."""
        return contained(self.folder, f"{BUILD}{job_id}")

    def work(self, job_id: str) -> Path:
        """A folder for the archive and notes of one installation; made when missing."""
        folder = contained(self.folder, f"{WORK}/{job_id}")
        with disk_errors("Preparing the installation"):
            make_folders(self.folder)
            while True:
                try:
                    make_folders(folder, 0o700)
                    return folder
                except FileNotFoundError:
                    # The end of another installation removed the folder of all of them; not that of the app.
                    if not self.folder.is_dir():
                        raise

    def discard(self, job_id: str, *, at_once: bool = True) -> None:
        """Remove all that an installation left behind, or leave the long part to the next start; what cannot be removed
        now is removed another time."""
        for path in (self.tree(job_id), contained(self.folder, f"{WORK}/{job_id}")):
            with contextlib.suppress(OSError):
                self._destroy(path, at_once=at_once)
        with contextlib.suppress(OSError):
            (self.folder / WORK).rmdir()

    def leftovers(self) -> set[str]:
        """Ids of installations that left something behind. Raises the disk's failures."""
        found = {name.removeprefix(BUILD) for name in _names(self.folder) if name.startswith(BUILD)}
        return found | set(_names(self.folder / WORK))

    def put(self, tree: Path, place: Path) -> None:
        """Let a finished tree take a place that is free. Raises AlreadyExists and the disk's failures."""
        with disk_errors("Putting the new version in place"):
            sync(tree)
            rename_new(tree, place)

    def exchange(self, tree: Path, place: Path) -> None:
        """Let a finished tree take the place of another, which is then where the tree was."""
        with disk_errors("Putting the new version in place"):
            sync(tree)
            _swap(tree, place)

    # -- trash -------------------------------------------------------------------------------------------------------

    def remove(self, path: Path, trash_id: str, tag: str, reason: str, info: JsonObject) -> Removed:
        """Move a version's folder to the trash. Doing it again after a crash finishes it."""
        entry = contained(self.folder, f"{TRASH}/{trash_id}")
        removed = Removed(trash_id, tag, reason, now(), info)
        with disk_errors("Moving the version to the trash"):
            make_folders(entry, 0o700)
        if not (entry / _ENTRY).exists():
            json_file.save(
                entry / _ENTRY, {"tag": tag, "reason": reason, "removed_at": removed.removed_at, "info": info}
            )
        if not (entry / _CONTENT).exists():
            with disk_errors("Moving the version to the trash"):
                rename_new(path, entry / _CONTENT)
        return removed

    def trash(self) -> list[Removed]:
        """Newest first. Raises the disk's failures."""
        found = [one for one in self._entries() if self.content(one).is_dir()]
        return sorted(found, key=lambda one: one.removed_at, reverse=True)

    def find(self, trash_id: str) -> Removed | None:
        return next((one for one in self.trash() if one.id == trash_id), None)

    def content(self, removed: Removed) -> Path:
        return contained(self.folder, f"{TRASH}/{removed.id}/{_CONTENT}")

    def take_out(self, removed: Removed, place: Path) -> None:
        """Put a version from the trash back; its entry stays. Raises AlreadyExists and the disk's failures."""
        with disk_errors("Restoring the version"):
            rename_new(self.content(removed), place)

    def take_back(self, removed: Removed, place: Path) -> None:
        """Undo `take_out`."""
        with disk_errors("Restoring the version"):
            rename_new(place, self.content(removed))

    def swap_in(self, removed: Removed, place: Path) -> None:
        """Exchange a version with the one in the trash. Raises the disk's failures; nothing was changed then."""
        with disk_errors("Restoring the version"):
            _swap(self.content(removed), place)

    def forget(self, removed: Removed) -> None:
        """Remove an entry of the trash for good. Raises the disk's failures; nothing was changed then."""
        with disk_errors("Emptying the trash"):
            self._destroy(contained(self.folder, f"{TRASH}/{removed.id}"))

    def tidy(self) -> list[Path]:
        """Clear the trash of what killed writes left, remove folders of ours that hold nothing, and return those that
        are to be removed for good, which takes long. Call while nothing is being installed or removed: what begins
        later is not among them."""
        with contextlib.suppress(OSError):
            (self.folder / WORK).rmdir()
        for name in _names(self.folder / TRASH):
            sweep([self.folder / TRASH / name])
            with contextlib.suppress(OSError):
                if not (self.folder / TRASH / name / _CONTENT).exists():
                    (self.folder / TRASH / name).rmdir()
        return [self.folder / name for name in _names(self.folder) if name.startswith(GONE)]

    def _destroy(self, path: Path, *, at_once: bool = True) -> None:
        """Raises OSError; nothing was changed then."""
        gone = self.folder / f"{GONE}{secrets.token_hex(8)}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, gone)
            if at_once:
                remove_tree(gone)

    def half_done(self) -> list[Removed]:
        """Entries without a version: a crash came before it was moved in, or after it was moved out."""
        return [one for one in self._entries() if not self.content(one).exists()]

    def _entries(self) -> list[Removed]:
        """What cannot be read is not among them, and stays."""
        found: list[Removed] = []
        for name in _names(self.folder / TRASH):
            with contextlib.suppress(OSError, ValueError, KeyError):
                value = json_file.parse_object(self.folder / TRASH / name / _ENTRY)
                tag, reason, since = str(value["tag"]), str(value["reason"]), str(value["removed_at"])
                info: object = value.get("info")
                known = cast(JsonObject, info) if isinstance(info, dict) else {}
                found.append(Removed(name, tag, reason, since, known))
        return found


def is_id(text: str) -> bool:
    return _ID.fullmatch(text) is not None and not text.startswith(".")


def remove_tree(path: Path) -> None:
    """Remove a folder of ours, never through a link. What cannot be removed now is removed another time."""
    if path.is_symlink():
        with contextlib.suppress(OSError):
            path.unlink()
    elif path.exists():
        shutil.rmtree(path, ignore_errors=True)


def write_lightly(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file at once for readers, but not durably: for what a power cut may take. Raises OSError."""
    temporary = temporary_name(path)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync(folder: Path) -> None:
    """Make all that was written below `folder` durable, at once for the whole volume: single files are too many."""
    if sys.platform == "linux":
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(fd) == 0:
                return
        except AttributeError:
            pass
        finally:
            os.close(fd)
    if sys.platform != "win32":
        os.sync()


def _swap(one: Path, other: Path) -> None:
    """Exchange two folders durably. Raises OSError; an exchange that cannot be made durable is taken back."""
    _exchange(one, other)
    try:
        for folder in {one.parent, other.parent}:
            fsync_folder(folder)
    except OSError:
        with contextlib.suppress(OSError):
            _exchange(one, other)
        raise


def _exchange(one: Path, other: Path) -> None:
    """Exchange two names: by one system call on Linux, elsewhere by three renames."""
    if sys.platform == "linux":
        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if renameat2 is not None:
            first, second = os.fsencode(one), os.fsencode(other)
            if renameat2(_AT_FDCWD, first, _AT_FDCWD, second, ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
                return
            code = ctypes.get_errno()
            if code not in (errno.ENOSYS, errno.EINVAL):
                raise OSError(code, os.strerror(code), str(one), None, str(other))
    aside = one.with_name(f"{one.name}.aside")
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except OSError:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


def _names(folder: Path) -> list[str]:
    """What is ours in a folder; nothing when there is no such folder. Raises the disk's failures."""
    with disk_errors(f"Looking into {folder.name}"):
        try:
            return sorted(name for name in os.listdir(folder) if is_id(name) or name.startswith((BUILD, GONE)))
        except (FileNotFoundError, NotADirectoryError):
            return []
