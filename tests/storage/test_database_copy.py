"""The copy of a large database: made when there is need, used when the file is damaged, in nobody's way."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pumas.storage import database_copy
from pumas.storage.database import Database, Schema

SCHEMA = Schema("things", "CREATE TABLE things (n INTEGER, filling BLOB); PRAGMA user_version = 2;", 2)
RENEWAL = "INSERT INTO things VALUES (-1, NULL)"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_copy, "WORTH_BYTES", 64 * 1024)
    monkeypatch.setattr(database_copy, "_PAGES_AT_ONCE", 4)


def database(path: Path, aside: list[str] | None = None) -> Database:
    told = aside if aside is not None else []
    return Database(
        path, SCHEMA, disposable=True, renewal=RENEWAL, on_quarantine=lambda kept, _reason: told.append(kept.name)
    )


def fill(db: Database, numbers: range) -> None:
    db.write_sync(lambda c: c.executemany("INSERT INTO things VALUES (?, ?)", ((n, os.urandom(1000)) for n in numbers)))


def numbers(db: Database) -> list[int]:
    return db.read_sync(lambda c: [n for (n,) in c.execute("SELECT n FROM things ORDER BY n")])


def go_on() -> bool:
    return False


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A closed database of a hundred rows that has a copy, and one row more than that."""
    path = tmp_path / "things.db"
    db = database(path)
    fill(db, range(100))
    assert db.keep_copy_sync(go_on)
    fill(db, range(100, 101))
    db.close_sync()
    assert sorted(os.listdir(tmp_path)) == ["things.db", "things.db.bak"]
    return path


DAMAGE: dict[str, Callable[[Path], object]] = {
    "random": lambda path: path.write_bytes(os.urandom(50_000)),
    "empty": lambda path: path.write_bytes(b""),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "another program's": lambda path: sqlite3.connect(path).executescript("CREATE TABLE more (x)"),
    "pages lost": lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096)),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_it_takes_the_place_of_a_damaged_file(copied: Path, kind: str) -> None:
    DAMAGE[kind](copied)
    aside: list[str] = []
    db = database(copied, aside)
    for _ in range(2):  # damage inside is met by the first query
        try:
            found = numbers(db)
            break
        except Exception as error:
            assert aside, error
    # What came after the copy is not in it; -1 is the renewal's.
    assert found == list(range(-1, 100))
    assert len(aside) == 1
    assert copied.with_name(aside[0]).exists()
    db.close_sync()
    assert numbers(database(copied)) == found, "the renewal is for once"
    assert not database_copy.copy_path(copied).exists()


def test_a_missing_file_is_begun_anew(copied: Path) -> None:
    copied.unlink()
    assert numbers(database(copied)) == []


@pytest.mark.parametrize("damage", [lambda good: good[:4096] + os.urandom(len(good) - 4096), lambda good: good[:-9000]])
def test_a_damaged_copy_is_put_aside_too(copied: Path, damage: Callable[[bytes], bytes]) -> None:
    copy = database_copy.copy_path(copied)
    copy.write_bytes(damage(copy.read_bytes()))
    copied.write_bytes(b"no database at all, but text" * 100)
    aside: list[str] = []
    db = database(copied, aside)
    for _ in range(3):
        try:
            fill(db, range(1))
            found = numbers(db)
            break
        except Exception as error:
            assert aside, error
    assert found == [0]
    assert len(aside) == 2
    assert all(copied.with_name(name).exists() for name in aside)


@pytest.mark.parametrize("content", [b"", b"text", b"SQLite format 3\0" + bytes(200)])
def test_a_copy_that_is_none_of_this_schema_goes(copied: Path, content: bytes) -> None:
    copy = database_copy.copy_path(copied)
    copy.write_bytes(content)
    copied.write_bytes(b"")
    aside: list[str] = []
    assert numbers(database(copied, aside)) == []
    assert len(aside) == 1
    assert not copy.exists()


@pytest.mark.parametrize("put", [Path.mkdir, lambda path: path.symlink_to("elsewhere")], ids=["folder", "link"])
def test_what_is_no_file_stays_in_the_place_of_the_copy(copied: Path, put: Callable[[Path], None]) -> None:
    copy = database_copy.copy_path(copied)
    copy.unlink()
    put(copy)
    db = database(copied)
    assert not db.keep_copy_sync(go_on)
    db.close_sync()
    copied.write_bytes(b"")
    assert numbers(database(copied)) == []
    assert copy.is_dir() or copy.is_symlink()


def test_it_is_made_again_when_an_eighth_was_added(copied: Path) -> None:
    copy = database_copy.copy_path(copied)
    first = copy.stat().st_ino
    db = database(copied)
    fill(db, range(101, 108))
    assert not db.keep_copy_sync(go_on)
    assert copy.stat().st_ino == first
    fill(db, range(108, 125))
    assert db.keep_copy_sync(go_on)
    assert copy.stat().st_ino != first
    db.close_sync()
    copied.write_bytes(b"")
    assert numbers(database(copied)) == list(range(-1, 125))


def test_a_small_database_has_none(tmp_path: Path) -> None:
    db = database(tmp_path / "things.db")
    fill(db, range(5))
    assert not db.keep_copy_sync(go_on)
    assert not (tmp_path / "things.db.bak").exists()


def test_it_never_takes_more_than_a_tenth_of_the_room(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = database_copy.copy_path(copied)
    copy.unlink()
    size = copied.stat().st_size
    db = database(copied)
    monkeypatch.setattr(database_copy, "free_space", lambda _folder: size * 10 - 1)
    assert not db.keep_copy_sync(go_on)
    monkeypatch.setattr(database_copy, "free_space", lambda _folder: size * 11)
    assert db.keep_copy_sync(go_on)


def test_one_that_is_stopped_leaves_nothing_and_the_older_one(copied: Path) -> None:
    copy = database_copy.copy_path(copied)
    before = copy.read_bytes()
    db = database(copied)
    fill(db, range(101, 200))
    asked: list[None] = []

    def after_some() -> bool:
        asked.append(None)
        return len(asked) > 3

    assert not db.keep_copy_sync(after_some)
    assert len(asked) == 4
    assert copy.read_bytes() == before
    db.close_sync()
    assert sorted(os.listdir(copied.parent)) == ["things.db", "things.db.bak"]


def test_a_disk_that_refuses_it_is_no_failure(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_one: object, _other: object) -> None:
        raise OSError(28, "No space left on device")

    copy = database_copy.copy_path(copied)
    copy.unlink()
    db = database(copied)
    monkeypatch.setattr(os, "replace", refuse)
    assert not db.keep_copy_sync(go_on)
    assert numbers(db)[-1] == 100
    db.close_sync()
    assert os.listdir(copied.parent) == ["things.db"]


def test_what_is_written_meanwhile_is_not_in_it_and_not_hindered(copied: Path) -> None:
    database_copy.copy_path(copied).unlink()
    db = database(copied)
    written: list[int] = []

    def write_meanwhile() -> bool:
        number = 200 + len(written)
        written.append(number)
        db.write_sync(lambda c: c.execute("INSERT INTO things VALUES (?, NULL)", (number,)))
        return False

    assert db.keep_copy_sync(write_meanwhile)
    assert len(written) > 3
    assert numbers(db)[-1] == written[-1]
    db.close_sync()
    copied.write_bytes(b"")
    assert numbers(database(copied)) == list(range(-1, 101))
