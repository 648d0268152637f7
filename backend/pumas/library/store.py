"""The index's SQL: rows of models and folders, written in batches that are seen whole or not at all.

Every function takes a connection inside a transaction that `storage/database.py` began. Many rows go into one
statement, so that a batch costs one long call that leaves the interpreter to others, not hundreds of short ones that
fight for it. What the rows mean is known to `entry.py` and `reconcile.py`; search has its own SQL in `search.py`.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, NamedTuple

from pumas.library.entry import MAX_INT64, IndexEntry
from pumas.storage.troubles import Trouble

_ROWS_PER_STATEMENT = 100
_COLUMNS: Final = IndexEntry._fields
_SEARCHED: Final = "official_name, other_names, model_type, tags, family, description, kinds, facets"
_SEARCH_NEW_ROWS: Final = (
    f"INSERT INTO model_search (rowid, {_SEARCHED}) "  # noqa: S608 - fixed words only
    f"SELECT row, {_SEARCHED} FROM models WHERE row > ? ORDER BY row"
)
# An older index that is used again begins at a revision that no earlier one had, as a new one does (see the schema).
RENEWAL: Final = (
    "UPDATE library_state SET revision = 1000000 + max(revision, 1000000 * CAST(strftime('%s', 'now') AS INTEGER))"
)
# A batch of at least so many rows is one of many: segments are merged when all are written.
BULK = 100
_SEGMENTS, _SEGMENTS_IN_BULK = 16, 1000
# Digests and dates lie anywhere in their indexes: with few pages in memory each batch would read and write them anew.
# `Database.settle_sync` ends it.
_CACHE_KIB_IN_BULK = 8192
ROOT_PARENT: Final = "/"


class FolderStamp(NamedTuple):
    """What a folder looked like when it was read; one row of the table `folders`. See `contracts/schema/models.sql`."""

    parent: str
    name: str
    mtime_ns: int
    inode: int
    settled: int
    is_model: int
    inside: int
    has_children: int
    witness: str
    witness_mtime_ns: int
    witness_size: int
    witness_inode: int


@dataclass
class Batch:
    """What one transaction changes. `removed_trees` are folders that are gone with all that was below them."""

    entries: list[IndexEntry] = field(default_factory=list[IndexEntry])
    folders: list[FolderStamp] = field(default_factory=list[FolderStamp])
    removed_models: list[str] = field(default_factory=list[str])
    removed_trees: list[str] = field(default_factory=list[str])
    # Folder to what is wrong in it now; an empty list clears what was known.
    troubles: dict[str, list[Trouble]] = field(default_factory=dict[str, list[Trouble]])

    @property
    def size(self) -> int:
        rows = len(self.entries) + len(self.removed_models) + len(self.removed_trees)
        return rows + len(self.folders) // 8 + len(self.troubles) // 8


@dataclass
class Changes:
    """Ids of models that a batch added, changed and removed, and subjects of troubles that are gone."""

    added: list[str] = field(default_factory=list[str])
    changed: list[str] = field(default_factory=list[str])
    removed: list[str] = field(default_factory=list[str])
    cleared: list[str] = field(default_factory=list[str])

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def count(self) -> int:
        return len(self.added) + len(self.changed) + len(self.removed)


@dataclass(frozen=True)
class LibraryState:
    revision: int
    root_device: int
    root_inode: int
    last_scan: str | None


# -- writing ---------------------------------------------------------------------------------------------------------


def apply(c: sqlite3.Connection, batch: Batch) -> Changes:
    """Write a batch. The revision grows when a model changed."""
    changes = Changes()
    for tree in batch.removed_trees:
        _remove_tree(c, tree, changes)
    for model_id in batch.removed_models:
        changes.removed += _ids(c.execute("DELETE FROM models WHERE id = ? RETURNING id", (model_id,)))
    if batch.entries:
        _write_entries(c, batch.entries, changes)
    for part, sql in _statements(batch.folders, _replace_folders):
        c.execute(sql, part)
    for folder, troubles in batch.troubles.items():
        changes.cleared += _ids(c.execute("DELETE FROM troubles WHERE folder = ? RETURNING subject", (folder,)))
        c.executemany(
            "INSERT OR REPLACE INTO troubles VALUES (?, ?, ?, ?)",
            [(folder, t.subject, t.kind, t.message) for t in troubles],
        )
    if changes:
        c.execute("UPDATE library_state SET revision = revision + 1")
    return changes


def _write_entries(c: sqlite3.Connection, entries: Sequence[IndexEntry], changes: Changes) -> None:
    if len(entries) >= BULK:
        _merge_segments_from(c, _SEGMENTS_IN_BULK)
        c.execute(f"PRAGMA cache_size=-{_CACHE_KIB_IN_BULK}")
    newest: int = c.execute("SELECT coalesce(max(row), 0) FROM models").fetchone()[0]
    c.execute("UPDATE library_state SET searchable = ?", (newest,))
    for part, sql in _statements(entries, _upsert_models):
        for row, model_id in c.execute(sql, part).fetchall():
            (changes.added if row > newest else changes.changed).append(model_id)
    if changes.added:
        c.execute(_SEARCH_NEW_ROWS, (newest,))
    c.execute("UPDATE library_state SET searchable = ?", (MAX_INT64,))


def _merge_segments_from(c: sqlite3.Connection, count: int) -> None:
    """https://www.sqlite.org/fts5.html#the_crisismerge_configuration_option"""
    c.execute("INSERT INTO model_search (model_search, rank) VALUES ('crisismerge', ?)", (count,))


def _remove_tree(c: sqlite3.Connection, path: str, changes: Changes) -> None:
    # "0" follows "/" in the alphabet, so [path/, path0) is everything below path.
    below, end = f"{path}/", f"{path}0"
    parent, _, name = path.rpartition("/")
    changes.removed += _ids(
        c.execute("DELETE FROM models WHERE id = ? OR (id >= ? AND id < ?) RETURNING id", (path, below, end))
    )
    c.execute(
        "DELETE FROM folders WHERE (parent = ? AND name = ?) OR parent = ? OR (parent >= ? AND parent < ?)",
        (parent, name, path, below, end),
    )
    changes.cleared += _ids(
        c.execute(
            "DELETE FROM troubles WHERE folder = ? OR (folder >= ? AND folder < ?) RETURNING subject",
            (path, below, end),
        )
    )


def _ids(cursor: sqlite3.Cursor) -> list[str]:
    return [row[0] for row in cursor.fetchall()]


def _statements(rows: Sequence[tuple[Any, ...]], sql: Any) -> Iterator[tuple[list[Any], str]]:
    """Rows in groups, flattened to parameters, with the statement for that many rows."""
    whole = len(rows) - len(rows) % _ROWS_PER_STATEMENT
    for start in range(0, whole, _ROWS_PER_STATEMENT):
        yield list(chain.from_iterable(rows[start : start + _ROWS_PER_STATEMENT])), sql(_ROWS_PER_STATEMENT)
    for row in rows[whole:]:
        yield list(row), sql(1)


@functools.cache
def _upsert_models(rows: int) -> str:
    """A row that is there and equal is left alone: no trigger runs, no change is told."""
    names = ", ".join(_COLUMNS)
    values = ", ".join([f"({', '.join('?' * len(_COLUMNS))})"] * rows)
    updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "id")
    new, old = (", ".join(f"{table}.{name}" for name in _COLUMNS) for table in ("excluded", "models"))
    return (
        f"INSERT INTO models ({names}) VALUES {values} "  # noqa: S608 - fixed words only
        f"ON CONFLICT (id) DO UPDATE SET {updates} WHERE ({new}) IS NOT ({old}) RETURNING row, id"
    )


@functools.cache
def _replace_folders(rows: int) -> str:
    values = ", ".join([f"({', '.join('?' * len(FolderStamp._fields))})"] * rows)
    return f"INSERT OR REPLACE INTO folders VALUES {values}"  # noqa: S608 - fixed words only


def set_states(c: sqlite3.Connection, states: Sequence[tuple[str, str]]) -> Changes:
    """Write (state, id) pairs. The revision grows when one of them was another."""
    changes = Changes()
    for state, model_id in states:
        sql = "UPDATE models SET state = ? WHERE id = ? AND state <> ? RETURNING id"
        changes.changed += _ids(c.execute(sql, (state, model_id, state)))
    if changes:
        c.execute("UPDATE library_state SET revision = revision + 1")
    return changes


def finish_scan(c: sqlite3.Connection, device: int, inode: int, moment: str) -> None:
    c.execute("UPDATE library_state SET root_device = ?, root_inode = ?, last_scan = ?", (device, inode, moment))


def merge_search_segments(c: sqlite3.Connection) -> bool:
    """Do a bounded piece of the merging that was put off in bulk; True while there may be more to do.

    https://www.sqlite.org/fts5.html#the_merge_command
    """
    known = c.execute("SELECT v FROM model_search_config WHERE k = 'crisismerge'").fetchone()
    if known != (_SEGMENTS_IN_BULK,):
        return False
    before = c.total_changes
    c.execute("INSERT INTO model_search (model_search, rank) VALUES ('merge', -200)")
    if c.total_changes - before >= 2:
        return True
    _merge_segments_from(c, _SEGMENTS)
    return False


# -- reading ---------------------------------------------------------------------------------------------------------


def state(c: sqlite3.Connection) -> LibraryState:
    row = c.execute("SELECT revision, root_device, root_inode, last_scan FROM library_state").fetchone()
    return LibraryState(*row)


def folder(c: sqlite3.Connection, parent: str, name: str) -> FolderStamp | None:
    row = c.execute("SELECT * FROM folders WHERE parent = ? AND name = ?", (parent, name)).fetchone()
    return FolderStamp(*row) if row else None


def children(
    c: sqlite3.Connection, parent: str, after: str, until: str | None = None, limit: int = -1
) -> list[tuple[Any, ...]]:
    """Known folders directly in `parent`, in order of name, as plain tuples in the order of FolderStamp."""
    if until is None:
        return c.execute(
            "SELECT * FROM folders WHERE parent = ? AND name > ? ORDER BY name LIMIT ?", (parent, after, limit)
        ).fetchall()
    return c.execute(
        "SELECT * FROM folders WHERE parent = ? AND name > ? AND name <= ? ORDER BY name", (parent, after, until)
    ).fetchall()


def folders_above_models(c: sqlite3.Connection, limit: int) -> list[tuple[str, int, int]]:
    """Path, mtime and inode of folders that are no models and lie in none."""
    rows = c.execute(
        "SELECT parent, name, mtime_ns, inode FROM folders WHERE is_model = 0 AND inside = 0 LIMIT ?", (limit,)
    )
    return [
        (f"{parent}/{name}" if parent not in ("", ROOT_PARENT) else name, mtime, inode)
        for parent, name, mtime, inode in rows
    ]


def model_folders(c: sqlite3.Connection, paths: Iterable[str]) -> set[str]:
    """Which of these folders are models."""
    return {path for path in paths if (known := folder(c, *split(path))) is not None and known.is_model}


def derived(c: sqlite3.Connection, model_ids: Iterable[str]) -> list[str]:
    found = (c.execute("SELECT id FROM models WHERE id = ? AND derived = 1", (i,)).fetchone() for i in model_ids)
    return [row[0] for row in found if row]


def troubles(c: sqlite3.Connection) -> list[Trouble]:
    return [Trouble(*row) for row in c.execute("SELECT subject, kind, message FROM troubles ORDER BY folder, subject")]


def split(path: str) -> tuple[str, str]:
    """(parent, name) of a folder as the table knows it; the library itself is ("/", "")."""
    if not path:
        return ROOT_PARENT, ""
    parent, _, name = path.rpartition("/")
    return parent, name


def referencing(c: sqlite3.Connection) -> list[tuple[str, str, str | None]]:
    """Id, state and `references` (JSON) of models whose files lie elsewhere; None where the row does not hold them."""
    return c.execute(
        "SELECT id, state, CASE json_type(metadata_json, '$.references') WHEN 'array' "
        "THEN json_extract(metadata_json, '$.references') END FROM models WHERE storage = 'reference'"
    ).fetchall()


def model_count(c: sqlite3.Connection) -> int:
    return c.execute("SELECT count(*) FROM models").fetchone()[0]


def totals(c: sqlite3.Connection) -> tuple[int, int, int]:
    """Number of models, bytes of all of them, and how many wait for an online look-up."""
    count, size = c.execute("SELECT count(*), coalesce(total(size_bytes), 0) FROM models").fetchone()
    pending = c.execute("SELECT count(*) FROM models WHERE pending_lookup = 1").fetchone()[0]
    return count, min(int(size), MAX_INT64), pending


def ids_by_sha256(c: sqlite3.Connection, digest: str) -> list[str]:
    sql = (
        "SELECT id FROM models INDEXED BY models_by_digest "
        "WHERE digest_key = substr(?1, 1, 12) AND sha256 = ?1 AND sha256 <> '' ORDER BY id"
    )
    return _ids(c.execute(sql, (digest,)))


def ids_by_primary_size(c: sqlite3.Connection, size: int) -> list[str]:
    """Models whose primary file has this size, or one that nobody knows."""
    return _ids(c.execute("SELECT id FROM models WHERE primary_size = ? OR primary_size IS NULL ORDER BY id", (size,)))


def ids_of_duplicates(c: sqlite3.Connection) -> list[str]:
    """Models whose primary file has the digest of another one's."""
    sql = (
        "SELECT id FROM ("
        "SELECT id, count(*) OVER (PARTITION BY sha256) AS held FROM models "
        "WHERE sha256 <> '' AND digest_key IN ("
        "SELECT digest_key FROM models WHERE sha256 <> '' GROUP BY digest_key HAVING count(*) > 1)) WHERE held > 1"
    )
    return _ids(c.execute(sql))


def contains(c: sqlite3.Connection, model_id: str) -> bool:
    return c.execute("SELECT 1 FROM models WHERE id = ?", (model_id,)).fetchone() is not None


def ids(c: sqlite3.Connection) -> list[str]:
    return _ids(c.execute("SELECT id FROM models ORDER BY id"))


class Mappable(NamedTuple):
    """What decides where a model's files belong; one row of the index."""

    id: str
    official_name: str
    model_type: str
    subtype: str
    family: str
    tags_json: str
    storage: str


def mappable(c: sqlite3.Connection) -> list[Mappable]:
    """All models in order of their ids."""
    rows = c.execute(f"SELECT {', '.join(Mappable._fields)} FROM models ORDER BY id")  # noqa: S608 - fixed words only
    return list(map(Mappable._make, rows.fetchall()))


def from_hub(c: sqlite3.Connection) -> list[tuple[str, str]]:
    """Id and hub repository (`owner/name`) of each model that is known to be from one."""
    return c.execute("SELECT id, repo_id FROM models WHERE repo_id <> '' ORDER BY id").fetchall()


def entry_objects(c: sqlite3.Connection, after: str, limit: int) -> tuple[str, str] | None:
    """A piece of `get_models`: members of one JSON object, made by SQLite, and the last id; None at the end."""
    row = c.execute(
        "SELECT json_group_object(id, json_object('path', id, 'size', size_bytes, 'addedDate', added_date, "
        "'modelType', CASE WHEN subtype <> '' THEN subtype WHEN model_type <> '' THEN model_type ELSE 'unknown' END, "
        "'officialName', official_name, 'cleanedName', cleaned_name, "
        "'relatedAvailable', json(CASE related_available WHEN 1 THEN 'true' ELSE 'false' END), "
        "'state', state, 'storage', storage)), max(id) "
        "FROM (SELECT * FROM models WHERE id > ? ORDER BY id LIMIT ?)",
        (after, limit),
    ).fetchone()
    return (row[0][1:-1], row[1]) if row[1] is not None else None
