"""SQL of the hub's cache: answers by what was asked, digests by which file they are of. All calls block.

The cache is an aid: where it cannot be read or written (a full disk, a read-only root), the hub is asked again, and
that is all.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import zlib
from collections.abc import Callable
from typing import Final, TypeVar

from pumas.errors import PumasError
from pumas.library.hashing import Stamp
from pumas.storage.database import Database

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_ANSWERS: Final = 5_000
MAX_DIGESTS: Final = 20_000
MAX_TOTAL_BYTES: Final = 64 * 1024 * 1024
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_MAX_JSON_BYTES: Final = 64 * 1024 * 1024


class HubStore:
    def __init__(self, database: Database) -> None:
        self._db = database

    def answer(self, key: str) -> tuple[float, bytes] | None:
        """(when it was fetched, seconds since 1970; the answer as JSON), None when nothing is kept."""

        def read(c: sqlite3.Connection) -> tuple[float, bytes] | None:
            return c.execute("SELECT fetched_at, body FROM answers WHERE key = ?", (key,)).fetchone()

        row = self._try(lambda: self._db.read_sync(read) if self._db.path.exists() else None)
        if row is None:
            return None
        packed = zlib.decompressobj()
        try:
            body = packed.decompress(row[1], _MAX_JSON_BYTES)
        except zlib.error:
            return None
        return (row[0], body) if packed.eof else None

    def keep(self, key: str, fetched_at: float, answer: bytes) -> None:
        """Keep an answer, and forget the oldest ones beyond what there is room for."""
        body = zlib.compress(answer, 1)
        if len(body) > MAX_BODY_BYTES:
            return

        def write(c: sqlite3.Connection) -> None:
            c.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", (key, fetched_at, body))
            c.execute(
                "DELETE FROM answers WHERE key IN (SELECT key FROM (SELECT key, row_number() OVER newest AS place, "
                "sum(length(body)) OVER newest AS bytes FROM answers WINDOW newest AS (ORDER BY fetched_at DESC, key)) "
                "WHERE place > ? OR bytes > ?)",
                (MAX_ANSWERS, MAX_TOTAL_BYTES),
            )

        self._try(lambda: self._db.write_sync(write))

    def digest(self, stamp: Stamp) -> str | None:
        """The SHA-256 of the file as it is now, when it was hashed before."""

        def read(c: sqlite3.Connection) -> str | None:
            row = c.execute(
                "SELECT sha256 FROM digests WHERE (device, inode, size, mtime_ns) = (?, ?, ?, ?)", _row(stamp)
            ).fetchone()
            return row[0] if row else None

        return self._try(lambda: self._db.read_sync(read) if self._db.path.exists() else None)

    def keep_digest(self, stamp: Stamp, sha256: str) -> None:
        def write(c: sqlite3.Connection) -> None:
            c.execute("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", (*_row(stamp), sha256, time.time()))
            c.execute(
                "DELETE FROM digests WHERE rowid IN "
                "(SELECT rowid FROM digests ORDER BY hashed_at DESC LIMIT -1 OFFSET ?)",
                (MAX_DIGESTS,),
            )

        self._try(lambda: self._db.write_sync(write))

    def _try(self, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except PumasError as error:
            log.debug("the hub's cache cannot be used now: %s", error)
            return None


def _row(stamp: Stamp) -> tuple[int, int, int, int]:
    # Device and inode numbers are unsigned 64 bit on some file systems, SQLite's integers are signed.
    return _signed(stamp.device), _signed(stamp.inode), stamp.size, stamp.mtime_ns


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63
