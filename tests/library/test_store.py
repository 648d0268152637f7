"""The index's rows, its search table, and files that it cannot use."""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pumas.errors import NewerSchema
from pumas.library import entry, store
from pumas.library.entry import DamagedMetadata, FoundFile, IndexEntry, from_files, from_metadata, timestamp
from pumas.storage.database import Database, Schema


def open_index() -> sqlite3.Connection:
    c = sqlite3.connect(":memory:", isolation_level=None)
    c.executescript(Schema.load("models").sql)
    return c


def found(c: sqlite3.Connection, term: str) -> list[str]:
    sql = "SELECT id FROM models WHERE row IN (SELECT rowid FROM model_search WHERE model_search MATCH ?) ORDER BY id"
    c.execute("INSERT INTO model_search (model_search, rank) VALUES ('integrity-check', 1)")
    return [row[0] for row in c.execute(sql, (f'"{term}"*',))]


def test_triggers_follow_insert_update_and_delete() -> None:
    c = open_index()
    one = from_metadata("llm/a/one", {"official_name": "Harbor", "tags": ["boats"]})
    store.apply(c, store.Batch(entries=[one]))
    assert (found(c, "harb"), found(c, "boat")) == (["llm/a/one"], ["llm/a/one"])
    c.execute("UPDATE models SET official_name = 'Meadow'")
    assert (found(c, "harb"), found(c, "mead")) == ([], ["llm/a/one"])
    c.execute("DELETE FROM models")
    assert (found(c, "mead"), found(c, "boat")) == ([], [])


def test_search_agrees_with_a_batch_that_adds_edits_and_repeats() -> None:
    c = open_index()
    first = from_metadata("llm/a/one", {"official_name": "Harbor"})
    store.apply(c, store.Batch(entries=[first]))
    edited = from_metadata("llm/a/one", {"official_name": "Meadow"})
    new, again = (from_metadata("llm/a/two", {"official_name": name}) for name in ("Orchard", "Quarry"))
    store.apply(c, store.Batch(entries=[new, edited, again]))
    terms = {term: found(c, term) for term in ("harb", "mead", "orch", "quar")}
    assert terms == {"harb": [], "mead": ["llm/a/one"], "orch": [], "quar": ["llm/a/two"]}
    columns = "path, cleaned_name, official_name, model_type, tags_json, hashes_json, metadata_json, updated_at"
    c.execute(f"INSERT INTO models (id, {columns}) SELECT 'x/y/z', {columns} FROM models WHERE id = 'llm/a/two'")  # noqa: S608
    assert found(c, "quar") == ["llm/a/two", "x/y/z"]  # as an older sidecar writes a row


def test_a_batch_says_what_it_changed() -> None:
    c = open_index()
    entries = [from_metadata(f"llm/f/m{n:03}", {"official_name": f"n{n}"}) for n in range(250)]
    before = store.state(c).revision
    changes = store.apply(c, store.Batch(entries=entries))
    assert (sorted(changes.added), changes.changed, changes.removed) == ([e.id for e in entries], [], [])
    assert not store.apply(c, store.Batch(entries=entries))
    assert store.state(c).revision == before + 1
    edited = from_metadata("llm/f/m007", {"official_name": "other"})
    changes = store.apply(c, store.Batch(entries=[edited, from_metadata("llm/g", {})], removed_trees=["llm/f/m001"]))
    assert (changes.added, changes.changed, changes.removed) == (["llm/g"], ["llm/f/m007"], ["llm/f/m001"])
    assert store.apply(c, store.Batch(removed_trees=["llm"])).count == 250
    assert found(c, "other") == []


def test_a_removed_tree_takes_only_what_is_below_it() -> None:
    c = open_index()
    ids = ["a/b", "a/b/c", "a/b c", "a/b-c", "a/b0", "a/bb", "a/b.d", "a/b/c/d"]
    store.apply(c, store.Batch(entries=[from_metadata(i, {}) for i in ids]))
    assert sorted(store.apply(c, store.Batch(removed_trees=["a/b"])).removed) == ["a/b", "a/b/c", "a/b/c/d"]


def test_digests_that_begin_alike_are_not_the_same() -> None:
    c = open_index()
    held = {"a": "ab" * 32, "b": "ab" * 31 + "00", "c": "ab" * 32, "d": "cd" * 32, "e": ""}
    entries = [from_metadata(f"llm/x/{name}", {"hashes": {"sha256": digest}}) for name, digest in held.items()]
    store.apply(c, store.Batch(entries=entries))
    assert sorted(store.ids_of_duplicates(c)) == ["llm/x/a", "llm/x/c"]
    found = {digest: store.ids_by_sha256(c, digest) for digest in held.values()}
    assert found == {"ab" * 32: ["llm/x/a", "llm/x/c"], "ab" * 31 + "00": ["llm/x/b"], "cd" * 32: ["llm/x/d"], "": []}


def test_entries_as_the_list_shows_them() -> None:
    c = open_index()
    store.apply(
        c,
        store.Batch(
            entries=[
                from_metadata("llm/a/b", {"official_name": 'q"\n', "size_bytes": 2**62, "added_date": None}),
                from_metadata("x/y/z", {"subtype": "vae", "model_type": "diffusion", "base_model": "o/n"}),
            ]
        ),
    )
    pieces: list[str] = []
    after = ""
    while (piece := store.entry_objects(c, after, 1)) is not None:
        members, after = piece
        pieces.append(members)
    assert json.loads("{" + ",".join(pieces) + "}") == {
        "llm/a/b": {
            "path": "llm/a/b",
            "size": 2**62,
            "addedDate": None,
            "modelType": "llm",
            "officialName": 'q"',
            "cleanedName": "b",
            "relatedAvailable": False,
            "state": "ok",
            "storage": "owned",
        },
        "x/y/z": {
            "path": "x/y/z",
            "size": None,
            "addedDate": None,
            "modelType": "vae",
            "officialName": "z",
            "cleanedName": "z",
            "relatedAvailable": True,
            "state": "ok",
            "storage": "owned",
        },
    }


def test_totals_of_hostile_sizes_do_not_overflow() -> None:
    c = open_index()
    store.apply(c, store.Batch(entries=[from_metadata(f"a/b/{n}", {"size_bytes": 2**63 - 1}) for n in range(3)]))
    assert store.totals(c) == (3, 2**63 - 1, 0)


def test_models_are_added_up_without_reading_their_rows() -> None:
    """After each change the next question for the totals pays for it: a row takes a page, an index entry ten bytes."""
    c = open_index()
    plans: list[str] = []
    c.set_trace_callback(plans.append)
    store.totals(c)
    c.set_trace_callback(None)
    steps = [row[3] for sql in plans for row in c.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert len(steps) == 2
    assert all("USING COVERING INDEX" in step for step in steps), steps


# -- entries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"official_name": None, "tags": None, "base_model": None, "files": None, "hashes": None}, {"tags_json": "[]"}),
        ({"tags": ["A", "a", "b", 7, "", None]}, {"tags_json": '["A","b"]'}),
        ({"tags": "one"}, {"tags_json": '["one"]'}),
        ({"official_name": "x" * 9999}, {"official_name": "x" * 512}),
        ({"official_name": "a\u202eb\x00c\n"}, {"official_name": "a b c"}),
        ({"size_bytes": -1}, {"size_bytes": None}),
        ({"size_bytes": 1e300}, {"size_bytes": None}),
        ({"size_bytes": 5.0}, {"size_bytes": 5}),
        ({"files": [{"name": "a.gguf", "size": 2}, {"name": "b.bin", "size": 3}, 7, {}]}, {"size_bytes": 5}),
        ({"files": [{"name": "a.gguf", "size": 2}]}, {"primary_size": 2, "security_tier": "safe", "kinds": " gguf"}),
        ({"files": [{"name": "a.ckpt", "size": 2}]}, {"security_tier": "pickle"}),
        ({"hashes": {"sha256": "A" * 64}}, {"sha256": "a" * 64}),
        ({"hashes": {"sha256": "zz"}}, {"sha256": ""}),
        ({"model_id": "somewhere/else"}, {"id": "llm/fam/name"}),
        ({"base_model": ["", "o/n"], "family": "llama"}, {"related_available": 1}),
        ({"base_model": {"repo_id": "o/n"}, "family": "llama"}, {"related_available": 1}),
        ({"model_card": {"base_model": "o/n"}, "family": "llama"}, {"related_available": 1}),
        ({"base_model": "o/n", "family": "Imported"}, {"related_available": 0}),
        ({"base_model": "just a name", "family": "llama"}, {"related_available": 0}),
        ({"download_url": "https://huggingface.co/o/n/tree/main"}, {"repo_id": "o/n", "related_available": 1}),
        ({"download_url": "https://evil.example/huggingface.co/o/n"}, {"repo_id": "", "related_available": 0}),
        ({"pending_online_lookup": True}, {"pending_lookup": 1}),
        ({"pending_online_lookup": True, "match_source": "manual"}, {"pending_lookup": 0}),
        ({"model_type": ""}, {"model_type": "llm", "family": "fam"}),
        ({"notes": "x" * 70_000}, {"metadata_json": "{}"}),
    ],
)
def test_metadata_of_every_writer(metadata: dict[str, Any], expected: dict[str, Any]) -> None:
    row = from_metadata("llm/fam/name", metadata)
    assert {name: getattr(row, name) for name in expected} == expected


@pytest.mark.parametrize("field", [name for name, _ in entry._EXPECTED])
@pytest.mark.parametrize("value", [True, object()])
def test_wrong_types_are_damage(field: str, value: object) -> None:
    with pytest.raises(DamagedMetadata, match=field):
        from_metadata("a/b/c", {field: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2030-02-03T04:05:06.000001Z", "2030-02-03T04:05:06.000001Z"),
        ("2030-02-03T04:05:06Z", "2030-02-03T04:05:06.000000Z"),
        ("2030-02-03T06:05:06.5+02:00", "2030-02-03T04:05:06.500000Z"),
        ("not a time", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9" * 100, None),
        (5, None),
    ],
)
def test_times(text: object, expected: str | None) -> None:
    assert timestamp(text) == expected


def test_a_naive_time_is_local() -> None:
    local = datetime.datetime(2030, 2, 3, 4, 5, 6).astimezone(datetime.UTC)
    assert timestamp("2030-02-03T04:05:06") == local.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([name for name, _ in entry._EXPECTED]), _json))
def test_any_metadata_is_a_row_or_damage(metadata: dict[str, Any]) -> None:
    try:
        encoded = json.dumps(metadata, allow_nan=False)
        encoded.encode()
    except (ValueError, UnicodeEncodeError):
        return
    try:
        row = from_metadata("a/b/c", metadata)
    except DamagedMetadata:
        return
    c = open_index()
    store.apply(c, store.Batch(entries=[row]))
    piece = store.entry_objects(c, "", 10)
    assert piece is not None
    assert set(json.loads(f"{{{piece[0]}}}")) == {"a/b/c"}


def test_a_folder_without_metadata() -> None:
    row = from_files("llm/qwen/x", [FoundFile("b.bin", 3), FoundFile("a.gguf", 3)], 0.0)
    assert (row.model_type, row.family, row.primary_file, row.size_bytes, row.derived) == (
        "llm",
        "qwen",
        "a.gguf",
        6,
        1,
    )
    assert row.added_date == "1970-01-01T00:00:00.000000Z"


# -- files -----------------------------------------------------------------------------------------------------------

_OLDER = """
CREATE TABLE models (id TEXT PRIMARY KEY, path TEXT NOT NULL, cleaned_name TEXT NOT NULL, official_name TEXT NOT NULL,
    model_type TEXT NOT NULL, tags_json TEXT NOT NULL, hashes_json TEXT NOT NULL, metadata_json TEXT NOT NULL,
    updated_at TEXT NOT NULL);
INSERT INTO models VALUES ('llm/a/b', 'llm/a/b', 'b', 'B', 'llm', '[]', '{}', '{}', '');
"""
_OLDER_SEARCH = """
CREATE INDEX idx_models_type ON models (model_type);
CREATE VIRTUAL TABLE model_search USING fts5 (id, official_name, cleaned_name, model_type, tags, family, description,
    tokenize = 'unicode61 remove_diacritics 1');
CREATE TRIGGER model_search_ai AFTER INSERT ON models BEGIN
    INSERT INTO model_search (id, official_name) VALUES (new.id, new.official_name); END;
"""


def older(path: Path, sql: str) -> None:
    c = sqlite3.connect(path)
    c.execute("PRAGMA journal_mode = WAL")
    c.executescript(sql)
    # Left as a killed program leaves it: the write-ahead log is still there.
    data = {s: Path(f"{path}{s}").read_bytes() for s in ("", "-wal")}
    c.close()
    for suffix, content in data.items():
        Path(f"{path}{suffix}").write_bytes(content)


def touched_by_another(path: Path) -> None:
    database = Database(path, Schema.load("models"), disposable=True)
    database.open_sync()
    database.close_sync()
    c = sqlite3.connect(path)
    c.executescript(
        "DROP TRIGGER model_search_ai; CREATE TRIGGER model_search_ai AFTER INSERT ON models BEGIN SELECT 1; END;"
    )
    c.close()


def good_then(path: Path, damage: Callable[[bytes], bytes]) -> None:
    database = Database(path, Schema.load("models"), disposable=True)
    database.write_sync(lambda c: store.apply(c, store.Batch(entries=[from_metadata("a/b/c", {})])))
    database.close_sync()
    path.write_bytes(damage(path.read_bytes()))


@pytest.mark.parametrize(
    ("spoil", "label"),
    [
        (lambda p: older(p, _OLDER), "older"),
        (lambda p: older(p, _OLDER + _OLDER_SEARCH), "older"),
        (touched_by_another, "foreign"),
        (lambda p: p.write_bytes(b"no database at all" * 300), "damaged"),
        (lambda p: p.write_bytes(bytes(range(256)) * 40), "damaged"),
        (lambda p: good_then(p, lambda d: d[:1500]), "damaged"),
        (lambda p: good_then(p, lambda d: d[:100] + b"\xff" * (len(d) - 100)), "damaged"),
        (lambda p: p.mkdir(), "damaged"),
    ],
)
def test_unusable_files_are_kept_aside(tmp_path: Path, spoil: Callable[[Path], None], label: str) -> None:
    path = tmp_path / "models.db"
    spoil(path)
    kept: list[tuple[Path, str]] = []
    database = Database(path, Schema.load("models"), disposable=True, on_quarantine=lambda p, r: kept.append((p, r)))
    database.write_sync(lambda c: store.apply(c, store.Batch(entries=[from_metadata("x/y/z", {})])))
    assert database.read_sync(store.ids) == ["x/y/z"]
    assert [p.exists() for p, _ in kept] == [True]
    assert f"models.db.{label}-" in kept[0][0].name
    database.close_sync()


@pytest.mark.parametrize("content", [b"", b"\0" * 8192])
def test_nothing_in_it_is_nothing_lost(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "models.db"
    path.write_bytes(content)
    database = Database(path, Schema.load("models"), disposable=True)
    assert database.read_sync(store.ids) == []
    database.close_sync()


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "models.db"
    c = sqlite3.connect(path)
    c.executescript("CREATE TABLE future (x); PRAGMA user_version = 99;")
    c.close()
    before = path.read_bytes()
    with pytest.raises(NewerSchema):
        Database(path, Schema.load("models"), disposable=True).open_sync()
    assert path.read_bytes() == before


def test_an_older_sidecar_can_still_write_its_rows(tmp_path: Path) -> None:
    c = open_index()
    c.execute(
        "INSERT INTO models (id, path, cleaned_name, official_name, model_type, tags_json, hashes_json, metadata_json, "
        "updated_at) VALUES ('a/b', 'a/b', 'b', 'Harbor', 'llm', '[]', '{}', '{}', '') "
        "ON CONFLICT (id) DO UPDATE SET official_name = excluded.official_name"
    )
    assert found(c, "harb") == ["a/b"]
    assert IndexEntry._fields[:9] == (
        "id", "path", "cleaned_name", "official_name", "model_type", "tags_json", "hashes_json", "metadata_json",
        "updated_at",
    )  # fmt: skip
