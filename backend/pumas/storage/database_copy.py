"""A copy of a large database whose content could be made again, but not in a moment: beside it, as `<name>.bak`.

It takes the place of a file that is damaged. It may be old: whoever fills the database finds what has changed since, as
after a time in which the program did not run. It is made in the background, one for every eighth that the database
grows, never where the disk is short of room; losing it costs nothing but time. `database.py` decides when it is used.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pumas.storage.files import free_space, fsync_folder, is_odd, temporary_name

# A smaller one is made again sooner than anybody notices.
WORTH_BYTES: Final = 4 << 20
_GROWTH: Final = 8
_SHARE_OF_FREE_SPACE: Final = 10
_PAGES_AT_ONCE: Final = 1024
# https://www.sqlite.org/fileformat.html#the_database_header
_HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
_USER_VERSION: Final = struct.Struct(">60xi36x")


class _Stopped(Exception):
    pass


def copy_path(database: Path) -> Path:
    return database.with_name(f"{database.name}.bak")


def make(c: sqlite3.Connection, database: Path, version: int, stopped: Callable[[], bool]) -> bool:
    """Copy what `c` sees, inside its transaction, when there is need. Returns whether a copy was made.

    Args:
        version: the schema's, as in `PRAGMA user_version`.
        stopped: asked every few MiB; the copy is then given up.

    Raises:
        OSError, sqlite3.Error: the disk refused it; an older copy is as it was.
    """
    copy = copy_path(database)
    size: int = c.execute("PRAGMA page_count").fetchone()[0] * c.execute("PRAGMA page_size").fetchone()[0]
    if size < WORTH_BYTES or is_odd(copy):
        return False
    if _is_usable(copy, version) and size <= copy.stat().st_size * (_GROWTH + 1) // _GROWTH:
        return False
    if size * _SHARE_OF_FREE_SPACE > free_space(database.parent):
        return False
    temporary = temporary_name(copy)
    try:
        _copy(c, temporary, stopped)
        os.replace(temporary, copy)
    except _Stopped:
        return False
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    fsync_folder(copy.parent)
    return True


def _copy(c: sqlite3.Connection, path: Path, stopped: Callable[[], bool]) -> None:
    def progress(_status: int, _remaining: int, _total: int) -> None:
        if stopped():
            raise _Stopped

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as target:
        # A copy that is cut off is thrown away, so nothing needs a journal.
        target.execute("PRAGMA journal_mode=OFF")
        target.execute("PRAGMA synchronous=OFF")
        c.backup(target, pages=_PAGES_AT_ONCE, progress=progress, sleep=0)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def put_in_place(database: Path, version: int) -> bool:
    """Give the copy the name of the database, which is gone. A copy of another schema is removed. Returns whether."""
    copy = copy_path(database)
    try:
        if _is_usable(copy, version):
            os.rename(copy, database)
            fsync_folder(database.parent)
            return True
        if not is_odd(copy):
            copy.unlink(missing_ok=True)
    except OSError:
        pass  # without it the content is made again
    return False


def _is_usable(copy: Path, version: int) -> bool:
    if is_odd(copy):
        return False
    try:
        with copy.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return False
    return len(header) == _HEADER_BYTES and header.startswith(_MAGIC) and _USER_VERSION.unpack(header) == (version,)
