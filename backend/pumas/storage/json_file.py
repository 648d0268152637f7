"""JSON state files that are never torn, and never mistaken for empty when they are damaged.

A write is: temporary file, fsync, the current good file kept as `.bak`, rename, fsync of the folder. A read that meets
a damaged file uses `.bak`; when that is bad too it raises `CorruptState`. Missing is not damaged. Unknown keys stay,
and so does every digit of their numbers.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import orjson

from pumas import json_text
from pumas.errors import CorruptState, DiskError
from pumas.storage.files import disk_errors, fsync_folder, is_odd, put_aside, temporary_name, write_durably
from pumas.storage.numerals import kept

MAX_STATE_BYTES = 64 * 1024 * 1024

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Loaded:
    """`value` is None when neither the file nor a backup exists. `recovered` says that `.bak` was used and why."""

    value: JsonObject | None
    recovered: str | None = None


def backup_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.bak")


def json_files(folder: Path) -> list[Path]:
    """The JSON files of a folder, by name, but for hidden ones; none when there is no such folder.

    Raises:
        DiskError: it cannot be looked at, or is a link that leads nowhere; that is not the same as none.
    """
    with disk_errors(f"Looking into {folder.name}"):
        try:
            return sorted(path for path in folder.iterdir() if path.suffix == ".json" and path.name[0] != ".")
        except FileNotFoundError:
            if os.path.lexists(folder):
                raise
            return []


def parse_object(path: str | Path) -> JsonObject:
    """Read one JSON object.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a regular file, too large, not an object, or as for `json_text.loads`.
        OSError: it cannot be read.
    """
    return _object(_read(path))


def _read(path: str | Path) -> bytes:
    # A first look at a library does this for every model, and a file object would cost more than all these calls.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if (status.st_mode & 0o170000) != 0o100000:
            raise ValueError("not a regular file")
        if status.st_size > MAX_STATE_BYTES:
            raise ValueError("too large")
        data = os.read(fd, status.st_size)
        while len(data) < status.st_size and (more := os.read(fd, status.st_size - len(data))):
            data += more
    finally:
        os.close(fd)
    return data


def _object(data: bytes) -> JsonObject:
    value: object = json_text.loads(data)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return cast(JsonObject, value)


def encode(value: JsonObject, before: bytes = b"{}") -> bytes:
    """The on-disk form: two-space indent, unescaped UTF-8, readable by older sidecars.

    `before` is the object that `value` came from: numbers that are still the same are written as they stand there.
    """
    return orjson.dumps(kept(value, before), option=orjson.OPT_INDENT_2)


def load(path: Path) -> Loaded:
    """Read the file, or its backup when the file is damaged or missing.

    Raises:
        CorruptState: something is there but nothing of it can be read.
    """
    reason: str | None = None
    try:
        return Loaded(parse_object(path))
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        reason = _reason(error)
    try:
        value = parse_object(backup_path(path))
    except FileNotFoundError:
        if reason is None:
            return Loaded(None)
        raise CorruptState(path.name, reason) from None
    except (OSError, ValueError) as error:
        raise CorruptState(path.name, reason or f"missing, and its backup: {_reason(error)}") from None
    return Loaded(value, recovered=reason or "missing")


def save(path: Path, value: JsonObject, *, private: bool = False) -> None:
    """Replace the file durably. The last good content stays beside it as `.bak`, a damaged one under a dated name.

    `private` lets nobody but this user read it.

    Raises:
        DiskError, NotEnoughSpace, ReadOnly: nothing was changed.
    """
    with disk_errors(f"Writing {path.name}"):
        before = _good(path)
        was_good = before is not None
        data = encode(value, before or _good(backup_path(path)) or b"{}")
        if was_good:
            _keep_backup(path)
        elif os.path.lexists(path):
            put_aside(path)
        try:
            write_durably(path, data, _mode(path) & 0o600 if private else _mode(path))
        except OSError:
            _take_back(path, data, was_good)
            raise


def _take_back(path: Path, data: bytes, was_good: bool) -> None:
    """Undo a replacement that could not be made durable: who is told that it failed relies on what was there before."""
    with contextlib.suppress(OSError):
        if path.read_bytes() != data:
            return
        if was_good:
            temporary = temporary_name(path)
            os.link(backup_path(path), temporary)
            os.replace(temporary, path)
            with contextlib.suppress(FileNotFoundError):  # both were names of one file already
                temporary.unlink()
        else:
            path.unlink()


def _good(path: Path) -> bytes | None:
    """What a good file holds. Only such may replace the backup: a damaged one would take the last good copy with it."""
    try:
        data = _read(path)
        _object(data)
    except (OSError, ValueError):
        return None
    return data


def _mode(path: Path) -> int:
    """A user's tighter permissions stay."""
    try:
        return stat.S_IMODE(path.stat().st_mode) or 0o644
    except OSError:
        return 0o644


def _keep_backup(path: Path) -> None:
    backup = backup_path(path)
    if is_odd(backup):
        put_aside(backup)
    temporary = temporary_name(backup)
    try:
        # A hard link costs no data and is safe because `path` itself is never written in place, only replaced.
        os.link(path, temporary)
    except OSError:
        write_durably(backup, path.read_bytes(), _mode(path))
        return
    try:
        os.replace(temporary, backup)
    finally:
        with contextlib.suppress(FileNotFoundError):
            # rename(2) of two links to one inode leaves both names in place.
            temporary.unlink()
    fsync_folder(path.parent)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return os.strerror(error.errno or 0)
    return "not valid JSON" if isinstance(error, orjson.JSONDecodeError) else str(error)


class StateLock:
    """A lock over load–modify–save that holds across threads and processes of one launcher root."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # A FileLock is re-entrant within its process, so threads need a lock of their own in front of it.
        self._threads = threading.Lock()

    @contextlib.contextmanager
    def held(self, timeout: float = 10.0) -> Generator[None]:
        """Raises DiskError when the lock cannot be had within `timeout` seconds."""
        from filelock import FileLock, Timeout

        busy = DiskError(f"{self._path.name} is held by another program; try again.")
        if not self._threads.acquire(timeout=timeout):
            raise busy
        try:
            with disk_errors(f"Locking {self._path.name}"):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self._path)
                try:
                    lock.acquire(timeout=timeout)
                except Timeout:
                    raise busy from None
            try:
                yield
            finally:
                lock.release()
        finally:
            self._threads.release()


def update(path: Path, lock: StateLock, change: Callable[[JsonObject], None]) -> JsonObject:
    """Load, let `change` modify the object in place, save, and return it. A missing file starts as `{}`.

    Raises:
        CorruptState: the state could not be read; nothing is written over it.
    """
    with lock.held():
        value = load(path).value or {}
        change(value)
        save(path, value)
        return value
