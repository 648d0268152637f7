"""The door to SQLite: damaged files are put aside, newer ones left alone, writes are whole, reads have an end."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from pumas.errors import NewerSchema, TimedOut
from pumas.storage.database import Database, Schema

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


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "things.db"
    path.write_bytes(b"")
    db = database(path)
    add(db, "one")
    assert names(db) == ["one"]
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
        assert seen.wait(10)

    writer = threading.Thread(target=db.write_sync, args=(slow,))
    writer.start()
    assert written.wait(10)
    assert names(db) == ["old"]
    seen.set()
    writer.join(10)
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
