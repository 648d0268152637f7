"""The door to SQLite: one writer, pooled readers, one transaction per write, damaged files put aside.

A domain hands in its schema (`contracts/schema/<name>.sql`, with `PRAGMA user_version` as its version) and functions
that take a connection. SQL itself lives in the domain's `store.py`. The calls that end in `_sync` are for worker
threads; the others are for the event loop, which never waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import queue
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pumas.config import contracts_folder
from pumas.errors import DiskError, NewerSchema, PumasError, ReadOnly, TimedOut
from pumas.storage.files import DiskFull

T = TypeVar("T")

READERS = 4
BUSY_TIMEOUT_S = 30.0
# How many SQLite virtual-machine steps run between two looks at the clock: about a millisecond.
_STEPS_PER_CHECK = 20_000

_DAMAGED = ("malformed", "not a database", "file is encrypted", "disk image")


@dataclass(frozen=True)
class Schema:
    """SQL that creates everything in an empty database, and the version it carries in `PRAGMA user_version`."""

    name: str
    sql: str
    version: int

    @classmethod
    def load(cls, name: str) -> Schema:
        sql = (contracts_folder() / "schema" / f"{name}.sql").read_text(encoding="utf-8")
        match = re.search(r"(?im)^PRAGMA\s+user_version\s*=\s*(\d+)\s*;", sql)
        if match is None:
            raise ValueError(f"schema {name} sets no user_version")
        return cls(name, sql, int(match.group(1)))


class Database:
    """One SQLite file in WAL mode.

    Args:
        disposable: the content can be made again from other files. An older or foreign schema is then put aside like
            a damaged file; otherwise `migrate` must bring it up to date.
        synchronous: "FULL" where an answer promises that the row survives a power cut, else "NORMAL".
        on_quarantine: told the new name and the reason when a file was put aside.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        *,
        disposable: bool,
        synchronous: str = "NORMAL",
        on_quarantine: Callable[[Path, str], None] = lambda _path, _reason: None,
        migrate: Callable[[sqlite3.Connection, int], None] | None = None,
    ) -> None:
        self.path = path
        self._schema = schema
        self._disposable = disposable
        self._synchronous = synchronous
        self._on_quarantine = on_quarantine
        self._migrate = migrate
        self._lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._readers: queue.SimpleQueue[sqlite3.Connection | None] = queue.SimpleQueue()
        for _ in range(READERS):
            self._readers.put(None)
        self._generation = 0
        self._open = False
        self._threads: ThreadPoolExecutor | None = None

    # -- opening -----------------------------------------------------------------------------------------------------

    def open_sync(self) -> None:
        """Open or create the file.

        Raises:
            NewerSchema: a newer version of the program wrote it; it is left as it is.
            DiskError, ReadOnly: it cannot be created or opened.
        """
        with self._lock:
            if self._open:
                return
            try:
                self._writer = self._connect_writer()
            except (sqlite3.DatabaseError, _ForeignSchema) as error:
                if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                    raise _convert(error, self.path.name) from error
                self._quarantine(str(error))
                try:
                    self._writer = self._connect_writer()
                except sqlite3.Error as again:
                    raise _convert(again, self.path.name) from again
            self._open = True

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor(), self.open_sync)

    def close_sync(self) -> None:
        """Close all connections that are not in use; the last one checkpoints the file. A new call opens it again."""
        with self._lock:
            threads, self._threads = self._threads, None
            for _ in range(READERS):
                with contextlib.suppress(queue.Empty):
                    reader = self._readers.get_nowait()
                    self._readers.put(None)
                    if reader is not None:
                        reader.close()
            self._drop_connections()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _executor(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(READERS + 1, thread_name_prefix=f"db-{self._schema.name}")
        return self._threads

    def _connect(self) -> sqlite3.Connection:
        # Connections move between pool threads but are used by one at a time.
        conn = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        conn.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
        conn.execute(f"PRAGMA synchronous={self._synchronous}")
        conn.execute("PRAGMA temp_store=MEMORY")
        conn.execute("PRAGMA cache_size=-2048")
        return conn

    def _connect_writer(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._refuse_odd_file()
        except OSError as error:
            raise DiskError(f"{self.path.name}: {os.strerror(error.errno or 0)}.") from error
        conn = self._connect()
        try:
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute("PRAGMA wal_autocheckpoint=2000")
            version: int = conn.execute("PRAGMA user_version").fetchone()[0]
            empty: bool = conn.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if version > self._schema.version:
                raise NewerSchema(
                    f"{self.path.name} was written by a newer version (schema {version}, this one knows "
                    f"{self._schema.version}); update, or move the file away to start anew."
                )
            if empty:
                self._create(conn)
            elif version < self._schema.version:
                self._upgrade(conn, version)
        except BaseException:
            conn.close()
            raise
        return conn

    def _refuse_odd_file(self) -> None:
        """A folder or FIFO under our name is put aside before SQLite can hang on it."""
        if self.path.exists() and not self.path.is_file():
            raise _ForeignSchema("not a regular file")

    def _create(self, conn: sqlite3.Connection) -> None:
        conn.executescript(f"BEGIN IMMEDIATE;\n{self._schema.sql}\nCOMMIT;")

    def _upgrade(self, conn: sqlite3.Connection, version: int) -> None:
        if self._migrate is None or self._disposable:
            raise _ForeignSchema(f"schema {version}, expected {self._schema.version}")
        with _transaction(conn):
            self._migrate(conn, version)
            conn.execute(f"PRAGMA user_version={self._schema.version}")

    def _quarantine(self, reason: str) -> None:
        """Put the file and its journals aside under a dated name. Nothing is deleted."""
        self._drop_connections()
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%fZ")
        kept = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self.path}{suffix}", f"{kept}{suffix}")
        try:
            os.rename(self.path, kept)
        except FileNotFoundError:
            return
        except OSError as error:
            raise DiskError(
                f"{self.path.name} is damaged and cannot be moved: {os.strerror(error.errno or 0)}."
            ) from None
        self._on_quarantine(kept, reason)

    def _drop_connections(self) -> None:
        self._open = False
        self._generation += 1
        if self._writer is not None:
            with contextlib.suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None

    # -- use ---------------------------------------------------------------------------------------------------------

    def read_sync(self, fn: Callable[[sqlite3.Connection], T], *, deadline_s: float | None = None) -> T:
        """Run `fn` on a pooled reader, inside one snapshot.

        Raises:
            TimedOut: the query ran longer than `deadline_s` and was stopped.
        """
        self.open_sync()
        generation = self._generation
        conn = self._readers.get()
        try:
            if conn is not None and getattr(conn, "generation", None) != generation:
                conn.close()
                conn = None
            if conn is None:
                conn = self._connect_reader(generation)
            if deadline_s is not None:
                end = time.monotonic() + deadline_s
                conn.set_progress_handler(lambda: time.monotonic() > end, _STEPS_PER_CHECK)
            try:
                conn.execute("BEGIN")
                try:
                    return fn(conn)
                finally:
                    conn.execute("ROLLBACK")
            finally:
                if deadline_s is not None:
                    conn.set_progress_handler(None, 0)
        except sqlite3.Error as error:
            self._on_error(error)
            raise _convert(error, self.path.name) from error
        finally:
            self._readers.put(conn)

    def write_sync(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn` on the writer inside one transaction: all of it happens, or nothing."""
        with self._lock:
            self.open_sync()
            assert self._writer is not None
            try:
                with _transaction(self._writer):
                    return fn(self._writer)
            except sqlite3.Error as error:
                self._on_error(error)
                raise _convert(error, self.path.name) from error

    async def read(self, fn: Callable[[sqlite3.Connection], T], *, deadline_s: float | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._executor(), lambda: self.read_sync(fn, deadline_s=deadline_s)
        )

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor(), self.write_sync, fn)

    def _connect_reader(self, generation: int) -> sqlite3.Connection:
        conn = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            factory=_Reader,
        )
        assert isinstance(conn, _Reader)
        conn.generation = generation
        conn.execute("PRAGMA query_only=1")
        conn.execute("PRAGMA temp_store=MEMORY")
        conn.execute("PRAGMA cache_size=-2048")
        return conn

    def _on_error(self, error: sqlite3.Error) -> None:
        """A damaged page met in use puts the file aside, so that the next call starts with a good one."""
        if _is_damage(error):
            with self._lock:
                if self._open:
                    self._quarantine(str(error))


class _Reader(sqlite3.Connection):
    generation = -1


class _ForeignSchema(Exception):
    """The file is no database of ours: another schema, or not a file at all."""


def _is_damage(error: Exception) -> bool:
    return isinstance(error, sqlite3.DatabaseError) and any(mark in str(error) for mark in _DAMAGED)


def _convert(error: sqlite3.Error, name: str) -> PumasError:
    text = str(error)
    if "interrupted" in text:
        return TimedOut("The query took too long and was stopped; use more specific words.")
    if "disk is full" in text:
        return DiskFull(f"Writing {name}")
    if "readonly" in text or "read-only" in text:
        return ReadOnly(f"{name} is on a read-only file system or may not be written by this user.")
    return DiskError(f"{name}: {text}.")


@contextlib.contextmanager
def _transaction(conn: sqlite3.Connection) -> Generator[None]:
    conn.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise
    conn.execute("COMMIT")
