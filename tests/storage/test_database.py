"""The door to SQLite: damaged files are put aside, newer ones left alone, writes are whole, reads have an end."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.volumes import broken_disk, tmpfs
from pumas.errors import DiskError, NewerSchema, PumasError, ReadOnly, TimedOut
from pumas.storage import database as door
from pumas.storage.database import Database, Schema
from pumas.storage.files import DiskFull

SCHEMA = Schema("things", "CREATE TABLE things (name TEXT PRIMARY KEY); PRAGMA user_version = 2;", 2)


def database(path: Path, aside: list[str] | None = None, *, disposable: bool = True) -> Database:
    told = aside if aside is not None else []
    return Database(path, SCHEMA, disposable=disposable, on_quarantine=lambda kept, _reason: told.append(kept.name))


def names(db: Database) -> list[str]:
    return db.read_sync(lambda c: [row[0] for row in c.execute("SELECT name FROM things ORDER BY name")])


def add(db: Database, name: str) -> None:
    db.write_sync(lambda c: c.execute("INSERT INTO things VALUES (?)", (name,)))


def filled(path: Path) -> bytes:
    db = database(path)
    for number in range(200):
        add(db, f"thing {number:05} {'x' * 100}")
    db.close_sync()
    return path.read_bytes()


DAMAGE = {
    "garbage": lambda good: os.urandom(len(good)),
    "zeros": lambda good: bytes(len(good)),
    "text": lambda _good: b"this is no database, whatever its name says\n" * 50,
    "emptied": lambda _good: b"",
    "head cut off": lambda good: good[100:],
    "page lost": lambda good: good[:4096] + bytes(4096) + good[8192:],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_put_aside_and_begun_anew(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "things.db"
    damaged = DAMAGE[kind](filled(path))
    path.write_bytes(damaged)
    aside: list[str] = []
    db = database(path, aside)
    for _ in range(2):  # damage inside may only be met by the first query
        try:
            db.open_sync()
            names(db)
            add(db, "after")
            break
        except Exception as error:
            assert aside, error
    assert "after" in names(db)
    assert len(aside) == 1
    assert (tmp_path / aside[0]).read_bytes() == damaged
    db.close_sync()


def test_a_newer_file_is_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    filled(path)
    conn = sqlite3.connect(path)
    conn.execute("PRAGMA user_version = 3")
    conn.close()
    before = path.read_bytes()
    for disposable in (True, False):
        db = database(path, disposable=disposable)
        with pytest.raises(NewerSchema):
            db.open_sync()
        db.close_sync()
    assert path.read_bytes() == before


def test_a_write_happens_whole_or_not_at_all(tmp_path: Path) -> None:
    db = database(tmp_path / "things.db")

    def half(c: sqlite3.Connection) -> None:
        c.execute("INSERT INTO things VALUES ('one')")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        db.write_sync(half)
    assert names(db) == []
    add(db, "two")
    assert names(db) == ["two"]
    db.close_sync()


def test_a_long_query_is_stopped(tmp_path: Path) -> None:
    db = database(tmp_path / "things.db")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(TimedOut):
        db.read_sync(lambda c: c.execute(endless).fetchone(), deadline_s=0.05)
    assert names(db) == []
    db.close_sync()


def test_readers_see_the_old_state_while_a_write_is_under_way(tmp_path: Path) -> None:
    db = database(tmp_path / "things.db")
    add(db, "old")
    written, seen = threading.Event(), threading.Event()

    def slow(c: sqlite3.Connection) -> None:
        c.execute("INSERT INTO things VALUES ('new')")
        written.set()
        assert seen.wait(30)

    writer = threading.Thread(target=db.write_sync, args=(slow,))
    writer.start()
    assert written.wait(30)
    assert names(db) == ["old"]
    seen.set()
    writer.join(30)
    assert names(db) == ["new", "old"]
    db.close_sync()


def test_it_opens_again_after_closing(tmp_path: Path) -> None:
    db = database(tmp_path / "things.db")
    add(db, "one")
    db.close_sync()
    assert names(db) == ["one"]
    db.close_sync()


@pytest.mark.parametrize("name", ["jobs", "models"])
def test_the_schemas_of_the_product_load(tmp_path: Path, name: str) -> None:
    schema = Schema.load(name)
    db = Database(tmp_path / f"{name}.db", schema, disposable=True)
    assert db.read_sync(lambda c: c.execute("PRAGMA user_version").fetchone()[0]) == schema.version
    db.close_sync()


# -- full disks ------------------------------------------------------------------------------------------------------


def check_full(db: Database, room_again: Callable[[], None]) -> None:
    """Writes fail as what they are, reads go on, nothing is put aside, and it works again without being opened anew."""
    add(db, "before")
    with pytest.raises(DiskFull):
        for number in range(10_000):
            add(db, f"{number:05} {'x' * 2000}")
    kept = names(db)
    assert kept[-1] == "before"
    with pytest.raises(DiskFull):
        add(db, "y" * 2_000_000)
    assert names(db) == kept
    room_again()
    add(db, "after")
    assert names(db) == sorted([*kept, "after"])


def test_a_database_that_may_not_grow(tmp_path: Path) -> None:
    aside: list[str] = []
    db = database(tmp_path / "things.db", aside)

    def pages(count: int) -> None:
        db.open_sync()
        assert db._writer is not None
        db._writer.execute(f"PRAGMA max_page_count={count}")

    pages(50)
    check_full(db, lambda: pages(5000))
    assert aside == []
    db.close_sync()


def test_a_disk_that_is_full() -> None:
    with tmpfs(4 * 1024 * 1024) as place:
        if place is None:  # the test above is all that can be done here
            return
        ballast = place / "ballast"
        ballast.write_bytes(bytes(2 * 1024 * 1024))
        aside: list[str] = []
        db = database(place / "things.db", aside)
        check_full(db, ballast.unlink)
        assert aside == []
        db.close_sync()
        assert "after" in names(database(place / "things.db"))


@pytest.mark.parametrize("name", ["SQLITE_IOERR_WRITE", "SQLITE_CANTOPEN"])
@pytest.mark.parametrize("reason", [DiskFull("Writing"), ReadOnly("Writing"), DiskError("Writing"), None], ids=repr)
def test_a_full_or_read_only_disk_is_told_from_a_bad_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: PumasError | None
) -> None:
    db = database(tmp_path / "things.db")
    monkeypatch.setattr(door, "why_not_written", lambda folder: reason if folder == tmp_path else None)

    def refused(_c: sqlite3.Connection) -> None:
        failure = sqlite3.OperationalError("disk I/O error")
        failure.sqlite_errorname = name
        raise failure

    with pytest.raises(PumasError) as caught:
        db.write_sync(refused)
    assert type(caught.value) is (DiskError if reason is None else type(reason))
    add(db, "after")
    db.close_sync()


def test_a_disk_that_the_kernel_made_read_only() -> None:
    """In the middle, and found so at a start: there access(2) still calls it writable."""
    with broken_disk() as disk:
        if disk is None:
            return
        db = database(disk.path / "things.db")
        add(db, "one")
        at_start = database(disk.path / "closed.db")
        add(at_start, "old")
        at_start.close_sync()
        disk.make_read_only()
        for _ in range(2):
            with pytest.raises(ReadOnly):
                add(db, "two")
            assert names(db) == ["one"]
            with pytest.raises(ReadOnly):
                add(at_start, "new")
            assert names(at_start) == ["old"]
        with pytest.raises(ReadOnly):
            database(disk.path / "others.db").open_sync()
        with pytest.raises(ReadOnly):
            database(disk.path / "no folder" / "others.db").open_sync()
        at_start.close_sync()
        db.close_sync()


# -- files that are replaced under us --------------------------------------------------------------------------------


def malformed(_c: sqlite3.Connection) -> None:
    raise sqlite3.DatabaseError("database disk image is malformed")


def test_an_old_reader_does_not_condemn_the_new_file(tmp_path: Path) -> None:
    """It met the damage in a file that another thread has put aside meanwhile."""
    aside: list[str] = []
    db = database(tmp_path / "things.db", aside)
    add(db, "old")
    reading, replaced = threading.Event(), threading.Event()
    failures: list[Exception] = []

    def late(c: sqlite3.Connection) -> None:
        reading.set()
        assert replaced.wait(30)
        malformed(c)

    def read() -> None:
        try:
            db.read_sync(late)
        except PumasError as error:
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(30)
    with pytest.raises(DiskError):
        db.write_sync(malformed)
    add(db, "new")
    replaced.set()
    reader.join(30)
    assert [type(error) for error in failures] == [DiskError]
    assert len(aside) == 1
    assert names(db) == ["new"]
    db.close_sync()


def test_readers_of_a_file_that_was_put_aside_are_replaced(tmp_path: Path) -> None:
    aside: list[str] = []
    db = database(tmp_path / "things.db", aside)
    add(db, "old")
    db.connect_readers_sync()
    with pytest.raises(DiskError):
        db.write_sync(malformed)
    for _ in range(2 * door.READERS):
        assert names(db) == []
    assert len(aside) == 1
    old = sqlite3.connect(tmp_path / aside[0])
    assert old.execute("SELECT name FROM things").fetchall() == [("old",)]
    old.close()
    db.close_sync()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_journals_go_aside_with_their_file(tmp_path: Path, suffix: str) -> None:
    aside: list[str] = []
    db = database(tmp_path / "things.db", aside)
    add(db, "old")
    with pytest.raises(DiskError):
        db.read_sync(malformed)
    assert (tmp_path / f"{aside[0]}{suffix}").exists()
    add(db, "new")
    assert names(db) == ["new"]
    db.close_sync()


# -- read-only -------------------------------------------------------------------------------------------------------


def test_read_only_is_served_and_ends_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "things.db"
    db = database(path)
    add(db, "one")
    db.close_sync()
    before = sorted(os.listdir(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(door.os, "access", lambda *_: False)
        assert names(db) == ["one"]
        with pytest.raises(ReadOnly):
            add(db, "two")
        assert sorted(os.listdir(tmp_path)) == before
    add(db, "two")
    for _ in range(2 * door.READERS):
        assert names(db) == ["one", "two"]
    db.close_sync()


def test_read_only_and_nothing_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.os, "access", lambda *_: False)
    with pytest.raises(ReadOnly):
        database(tmp_path / "things.db").open_sync()
    assert os.listdir(tmp_path) == []
