from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pumas.hub import store as module
from pumas.hub.store import HubStore
from pumas.library.hashing import Stamp
from pumas.storage.database import Database, Schema

DIGEST = "a" * 64


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "hub.db", Schema.load("hub"), disposable=True)
    yield made
    made.close_sync()


def test_an_answer_is_found_by_what_was_asked(database: Database) -> None:
    store = HubStore(database)
    assert store.answer("k") is None
    assert not database.path.exists()  # asking alone makes no file
    store.keep("k", 12.5, b'{"x":1}')
    store.keep("other", 13.0, b"[]")
    assert store.answer("k") == (12.5, b'{"x":1}')
    store.keep("k", 14.0, b'"new"')
    assert store.answer("k") == (14.0, b'"new"')


def test_the_oldest_answers_go_when_there_are_too_many(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWERS", 3)
    store = HubStore(database)
    for number in range(6):
        store.keep(f"k{number}", float(number), b"1")
    assert [number for number in range(6) if store.answer(f"k{number}")] == [3, 4, 5]


def test_the_oldest_answers_go_when_they_are_too_large(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 60)
    store = HubStore(database)
    for number in range(6):
        store.keep(f"k{number}", float(number), bytes(range(20)))  # does not compress
    kept = [number for number in range(6) if store.answer(f"k{number}")]
    assert kept == [4, 5]


def test_an_answer_that_is_too_large_is_not_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BODY_BYTES", 100)
    store = HubStore(database)
    store.keep("k", 1.0, bytes(range(256)))
    assert store.answer("k") is None


def test_a_damaged_answer_is_none(database: Database) -> None:
    store = HubStore(database)
    store.keep("k", 1.0, b"1")
    database.write_sync(lambda c: c.execute("UPDATE answers SET body = x'00'"))
    assert store.answer("k") is None


STAMP = Stamp(2049, 7, 1000, 1_700_000_000_000_000_000)


def test_a_digest_is_that_of_the_file_as_it_was_hashed(database: Database) -> None:
    store = HubStore(database)
    assert store.digest(STAMP) is None
    store.keep_digest(STAMP, DIGEST)
    assert store.digest(STAMP) == DIGEST
    for changes in ({"device": 1}, {"inode": 8}, {"size": 1001}, {"mtime_ns": 5}):
        assert store.digest(replace(STAMP, **changes)) is None


def test_a_changed_file_has_one_digest(database: Database) -> None:
    store = HubStore(database)
    store.keep_digest(STAMP, DIGEST)
    store.keep_digest(Stamp(2049, 7, 1000, 5), "b" * 64)
    assert store.digest(STAMP) is None
    assert database.read_sync(lambda c: c.execute("SELECT count(*) FROM digests").fetchone()[0]) == 1


def test_numbers_of_64_bits_fit(database: Database) -> None:
    store = HubStore(database)
    stamp = Stamp(2**64 - 1, 2**63 + 5, 2**62, 2**62)
    store.keep_digest(stamp, DIGEST)
    assert store.digest(stamp) == DIGEST
    assert store.digest(Stamp(2**64 - 2, 2**63 + 5, 2**62, 2**62)) is None


def test_the_oldest_digests_go(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DIGESTS", 2)
    store = HubStore(database)
    for inode in range(4):
        store.keep_digest(Stamp(1, inode, 1, 1), DIGEST)
    assert [inode for inode in range(4) if store.digest(Stamp(1, inode, 1, 1))] == [2, 3]
