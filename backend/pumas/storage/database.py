"""The door to SQLite: one writer, pooled readers, one transaction per write, damaged files put aside.

A domain hands in its schema (`contracts/schema/<name>.sql`, with `PRAGMA user_version` as its version) and functions
that take a connection. SQL itself lives in the domain's `store.py`. The calls that end in `_sync` are for worker
threads; the others are for the event loop, which never waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import logging
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
from pumas.storage import database_copy
from pumas.storage.files import DiskFull, disk_error, why_not_written

log = logging.getLogger(__name__)

T = TypeVar("T")

READERS = 4
# A file and its copy may be damaged one after the other; what comes after them is new.
DAMAGED_FILES = 2
BUSY_TIMEOUT_S = 30.0
CLOSE_WAIT_S = 0.2
PAGE_BYTES = 4096
JOURNAL_PAGES = 2000
# What can be made again is made in bulk: the longer its journal, the fewer pages are written and synced twice.
BULK_JOURNAL_PAGES = 16_000
# Of the page cache of a connection.
CACHE_KIB = 2048
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

    @functools.cached_property
    def objects(self) -> set[tuple[str, str]]:
        """Name and text of every table, index and trigger that the schema makes."""
        conn = sqlite3.connect(":memory:")
        try:
            conn.executescript(self.sql)
            return _objects(conn)
        finally:
            conn.close()


class Database:
    """One SQLite file in WAL mode.

    Args:
        disposable: the content can be made again from other files. An older schema, or one that another program
            changed, is then put aside like a damaged file; otherwise `migrate` must bring it up to date.
        renewal: SQL for a copy that takes the place of a damaged file; without it `keep_copy_sync` is not to be used.
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
        renewal: str = "",
    ) -> None:
        self.path = path
        self._schema = schema
        self._disposable = disposable
        self._synchronous = synchronous
        self._on_quarantine = on_quarantine
        self._migrate = migrate
        self._renewal = renewal
        self._is_copy = False
        self._lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        self._readers: queue.SimpleQueue[sqlite3.Connection | None] = queue.SimpleQueue()
        for _ in range(READERS):
            self._readers.put(None)
        self._generation = 0
        self._open = False
        self._read_only = False
        self._threads: ThreadPoolExecutor | None = None
        self._write_thread: ThreadPoolExecutor | None = None

    # -- opening -----------------------------------------------------------------------------------------------------

    def open_sync(self) -> None:
        """Open or create the file.

        Raises:
            NewerSchema: a newer version of the program wrote it; it is left as it is.
            DiskError, ReadOnly: it cannot be created or opened.
        """
        if self._open:  # before the lock: a reader must not wait for a long write
            return
        with self._lock:
            if self._open:
                return
            if self._not_writable():
                self._open_read_only()
                return
            try:
                self._writer = self._connect_sound_writer()
            except ReadOnly:
                self._open_read_only()
                return
            self._open = True

    def _connect_sound_writer(self) -> sqlite3.Connection:
        """What cannot be used is put aside: the file, then the copy that took its place; then there is a new one."""
        for _ in range(DAMAGED_FILES):
            try:
                return self._connect_writer()
            except (sqlite3.DatabaseError, _ForeignSchema) as error:
                if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                    raise _convert(error, self.path) from error
                self._quarantine(str(error), error.label if isinstance(error, _ForeignSchema) else "damaged")
        try:
            return self._connect_writer()
        except sqlite3.Error as error:
            raise _convert(error, self.path) from error

    def _not_writable(self) -> bool:
        """access(2) says so for read-only file systems too, also to root; for some, only writing does."""
        folder = self.path.parent
        return folder.is_dir() and not (
            os.access(folder, os.W_OK) and (not self.path.exists() or os.access(self.path, os.W_OK))
        )

    def _open_read_only(self) -> None:
        """Serve what is there. Where no shared-memory file can be made SQLite reads only what is declared immutable."""
        refusal = _refusal(self.path)
        if not self.path.is_file():
            raise refusal
        try:
            conn = self._connect_immutable(_Reader)
            try:
                version: int = conn.execute("PRAGMA user_version").fetchone()[0]
            finally:
                conn.close()
        except sqlite3.Error as error:
            raise _convert(error, self.path) from error
        if version > self._schema.version:
            raise self._newer(version)
        if version < self._schema.version:
            raise refusal
        self._read_only = self._open = True

    def _connect_immutable(self, factory: type[_Reader]) -> _Reader:
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, factory=factory)

    def _newer(self, version: int) -> NewerSchema:
        return NewerSchema(
            f"{self.path.name} was written by a newer version (schema {version}, this one knows "
            f"{self._schema.version}); update, or move the file away to start anew."
        )

    async def open(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor(), self.open_sync)

    def close_sync(self) -> None:
        """Close all connections that are not in use; the last one checkpoints the file. A new call opens it again.

        A write that holds on longer than `CLOSE_WAIT_S` keeps its connection: ending the process then rolls it back.
        """
        executors, self._threads, self._write_thread = (self._threads, self._write_thread), None, None
        for executor in executors:
            if executor is not None:
                executor.shutdown(wait=False, cancel_futures=True)
        if not self._lock.acquire(timeout=CLOSE_WAIT_S):
            return
        try:
            for _ in range(READERS):
                with contextlib.suppress(queue.Empty):
                    reader = self._readers.get_nowait()
                    self._readers.put(None)
                    if reader is not None:
                        reader.close()
            self._drop_connections()
        finally:
            self._lock.release()

    def _executor(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(READERS, thread_name_prefix=f"db-{self._schema.name}")
        return self._threads

    def _write_executor(self) -> ThreadPoolExecutor:
        """A thread of its own: writes that wait for each other must not take the readers' threads."""
        if self._write_thread is None:
            self._write_thread = ThreadPoolExecutor(1, thread_name_prefix=f"db-{self._schema.name}-write")
        return self._write_thread

    def _connect(self) -> sqlite3.Connection:
        # Connections move between pool threads but are used by one at a time.
        conn = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        conn.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
        conn.execute(f"PRAGMA synchronous={self._synchronous}")
        conn.execute("PRAGMA temp_store=MEMORY")
        conn.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        return conn

    def _connect_writer(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._refuse_odd_file()
        except OSError as error:
            raise disk_error(error, f"Opening {self.path.name}") from error
        conn = self._connect()
        try:
            version: int = conn.execute("PRAGMA user_version").fetchone()[0]
            empty: bool = conn.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
            if version > self._schema.version:
                raise self._newer(version)
            # Only now: the pragma writes into the file, and a newer version's file is left as it is.
            conn.execute("PRAGMA journal_mode=WAL")
            conn.execute(f"PRAGMA wal_autocheckpoint={BULK_JOURNAL_PAGES if self._disposable else JOURNAL_PAGES}")
            conn.execute(f"PRAGMA journal_size_limit={JOURNAL_PAGES * PAGE_BYTES}")
            if empty:
                self._create(conn)
            elif version < self._schema.version:
                self._upgrade(conn, version)
            elif self._disposable and _objects(conn) != self._schema.objects:
                raise _ForeignSchema("another program changed its tables", label="foreign")
            elif not {name for name, _ in self._schema.objects} <= {name for name, _ in _objects(conn)}:
                raise _ForeignSchema("its tables are missing", label="foreign")
            elif self._is_copy:
                with _transaction(conn):
                    conn.execute(self._renewal)
                self._is_copy = False
        except BaseException:
            conn.close()
            raise
        return conn

    def _refuse_odd_file(self) -> None:
        """A folder or FIFO under our name is put aside before SQLite can hang on it; an emptied file is told."""
        if self.path.exists() and not self.path.is_file():
            raise _ForeignSchema("not a regular file")
        if self.path.exists() and not self.path.stat().st_size:
            raise _ForeignSchema("the file is empty")

    def _create(self, conn: sqlite3.Connection) -> None:
        conn.executescript(f"BEGIN IMMEDIATE;\n{self._schema.sql}\nCOMMIT;")

    def _upgrade(self, conn: sqlite3.Connection, version: int) -> None:
        if self._migrate is None or self._disposable:
            raise _ForeignSchema(f"schema {version}, expected {self._schema.version}", label="older")
        with _transaction(conn):
            self._migrate(conn, version)
            conn.execute(f"PRAGMA user_version={self._schema.version}")

    def _quarantine(self, reason: str, label: str = "damaged") -> None:
        """Put the file and its journals aside under a dated name. Nothing is deleted."""
        self._drop_connections()
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%fZ")
        kept = self.path.with_name(f"{self.path.name}.{label}-{stamp}")
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{self.path}{suffix}", f"{kept}{suffix}")
        try:
            os.rename(self.path, kept)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_error(error, f"Moving {self.path.name}, which is damaged") from None
        self._is_copy = bool(self._renewal) and database_copy.put_in_place(self.path, self._schema.version)
        self._on_quarantine(kept, reason)

    def _drop_connections(self) -> None:
        self._open = self._read_only = False
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
            self._on_error(error, generation)
            raise _convert(error, self.path) from error
        finally:
            self._readers.put(conn)

    def write_sync(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run `fn` on the writer inside one transaction: all of it happens, or nothing."""
        with self._lock:
            if self._read_only and not self._not_writable():
                self._drop_connections()
            self.open_sync()
            if self._writer is None:
                raise _refusal(self.path)
            try:
                with _transaction(self._writer):
                    return fn(self._writer)
            except sqlite3.Error as error:
                self._on_error(error, self._generation)
                raise _convert(error, self.path) from error

    def settle_sync(self) -> None:
        """Give back the memory that much writing took, and a larger page cache that was asked for."""
        with self._lock, contextlib.suppress(sqlite3.Error):  # what is not given back is used again
            if self._writer is not None:
                self._writer.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
                self._writer.execute("PRAGMA shrink_memory")

    def keep_copy_sync(self, stopped: Callable[[], bool]) -> bool:
        """Make or renew the copy that would take the place of a damaged file, when there is need; see
        `database_copy.py`. Returns whether one was made: a disk that refuses it is no failure."""
        self.open_sync()
        if self._read_only:
            return False
        try:
            return self.read_sync(lambda c: database_copy.make(c, self.path, self._schema.version, stopped))
        except (PumasError, OSError) as error:
            log.warning("no copy of %s could be kept: %s", self.path.name, error)
            return False

    async def read(self, fn: Callable[[sqlite3.Connection], T], *, deadline_s: float | None = None) -> T:
        return await asyncio.get_running_loop().run_in_executor(
            self._executor(), lambda: self.read_sync(fn, deadline_s=deadline_s)
        )

    async def write(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._write_executor(), self.write_sync, fn)

    def _connect_reader(self, generation: int) -> sqlite3.Connection:
        if self._read_only:
            conn = self._connect_immutable(_Reader)
        else:
            conn = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, factory=_Reader
            )
        conn.generation = generation
        conn.execute("PRAGMA query_only=1")
        conn.execute("PRAGMA temp_store=MEMORY")
        conn.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        return conn

    def connect_readers_sync(self) -> None:
        """Open every reader now, so that reads go on when the file's drive is pulled."""
        self.open_sync()
        for _ in range(READERS):
            conn = self._readers.get()
            try:
                if conn is None:
                    conn = self._connect_reader(self._generation)
            except sqlite3.Error as error:
                raise _convert(error, self.path) from error
            finally:
                self._readers.put(conn)

    def _on_error(self, error: sqlite3.Error, generation: int) -> None:
        """A damaged page met in use puts the file aside, so that the next call starts with a good one.

        `generation` is that of the connection that met it: what came after is another file, and good.
        """
        if _is_damage(error) and not self._read_only:
            with self._lock:
                if self._open and self._generation == generation:
                    self._quarantine(str(error))


class _Reader(sqlite3.Connection):
    generation = -1


class _ForeignSchema(Exception):
    """The file is no database of ours: another schema, or not a file at all. `label` becomes part of its new name."""

    def __init__(self, reason: str, label: str = "damaged") -> None:
        super().__init__(reason)
        self.label = label


def _objects(conn: sqlite3.Connection) -> set[tuple[str, str]]:
    rows = conn.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_stat%'")
    return set(rows)


def _is_damage(error: Exception) -> bool:
    return isinstance(error, sqlite3.DatabaseError) and any(mark in str(error) for mark in _DAMAGED)


def _convert(error: sqlite3.Error, path: Path) -> PumasError:
    text, name = str(error), path.name
    if "interrupted" in text:
        return TimedOut("The query took too long and was stopped; use more specific words.")
    # SQLite knows a full disk, but calls a used-up quota an I/O error, and a disk that became read-only, too.
    is_disk = getattr(error, "sqlite_errorname", "").startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN"))
    reason = why_not_written(path.parent) if is_disk else None
    if "disk is full" in text or isinstance(reason, DiskFull):
        return DiskFull(f"Writing {name}")
    if "readonly" in text or "read-only" in text or isinstance(reason, ReadOnly):
        return _refusal(path)
    return DiskError(f"{name}: {text}.")


def _refusal(path: Path) -> ReadOnly:
    return ReadOnly(f"{path.name} is on a read-only file system or may not be written by this user.")


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
