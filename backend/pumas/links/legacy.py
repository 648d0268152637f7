"""What older sidecars left: `link_registry.db` without a schema version and with absolute paths, `link_registry.json`.

Both are taken over without loss; the JSON file is left as it is and read again when it changed. A root that was moved
since is recognised by its links: their places are rewritten where the link is found at the new one. Whether a link is
really there is asked later, by whoever uses a row.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from pumas.jobs.store import now
from pumas.library.moments import utc_moment, utc_text
from pumas.storage.database import Schema
from pumas.storage.json_file import parse_object

IMPORTED = "imported_json"
_LIBRARY = "/shared-resources/models/"
_KINDS = frozenset({"symlink", "hardlink", "copy"})
_ADDED = (
    "state TEXT NOT NULL DEFAULT 'made'",
    "link_text TEXT NOT NULL DEFAULT ''",
    "inode INTEGER NOT NULL DEFAULT 0",
    "size INTEGER NOT NULL DEFAULT 0",
    "mtime_ns INTEGER NOT NULL DEFAULT 0",
)
_LEGACY_COLUMNS = (
    "model_id", "source_path", "target_path", "link_type", "app_id", "app_version", "is_external", "created_at"
)  # fmt: skip

# model_id, source, target, type, app, version, external, created
Row = tuple[str, str, str, str, str, str, int, str]


class UnreadableRegistry(ValueError):
    """`link_registry.json` is there and cannot be understood; it is left as it is."""


# -- link_registry.db ------------------------------------------------------------------------------------------------


def migrate(c: sqlite3.Connection) -> None:
    """Bring the tables of an older sidecar up to date. Raises sqlite3.DatabaseError for a file that is no registry."""
    columns = {row[1] for row in c.execute("PRAGMA table_info(links)")}
    if not {"link_id", *_LEGACY_COLUMNS} <= columns:
        raise sqlite3.DatabaseError("the file is not a database of links")
    for column in _ADDED:
        if column.split()[0] not in columns:
            c.execute(f"ALTER TABLE links ADD COLUMN {column}")
    for statement in _statements():
        c.execute(statement.replace("CREATE TABLE ", "CREATE TABLE IF NOT EXISTS ").replace(
            "CREATE INDEX ", "CREATE INDEX IF NOT EXISTS "
        ))  # fmt: skip


def _statements() -> list[str]:
    # No semicolon stands inside of a statement of this schema.
    lines = (line.partition("--")[0] for line in Schema.load("link_registry").sql.splitlines())
    statements = (statement.strip() for statement in "\n".join(lines).split(";"))
    return [statement for statement in statements if statement.startswith("CREATE")]


def has_absolute(c: sqlite3.Connection) -> bool:
    """Whether an older sidecar wrote rows: our own links are never stored by an absolute path."""
    return c.execute("SELECT 1 FROM links WHERE target_path LIKE '/%' LIMIT 1").fetchone() is not None


def make_relative(c: sqlite3.Connection, roots: Sequence[str]) -> None:
    """Rewrite absolute paths below the root. Where two rows then name one link, the newer one stays."""
    rows = c.execute(
        "SELECT link_id, model_id, source_path, target_path FROM links WHERE target_path LIKE '/%' ORDER BY link_id"
    ).fetchall()
    for link_id, model_id, source, target in rows:
        new_source, new_target = _new_place(model_id, source, target, roots)
        if new_target != target:
            c.execute("DELETE FROM links WHERE target_path = ? AND link_id <> ?", (new_target, link_id))
        c.execute(
            "UPDATE links SET source_path = ?, target_path = ? WHERE link_id = ?", (new_source, new_target, link_id)
        )


def relative(path: str, roots: Sequence[str]) -> str:
    """`path` relative to the first of the roots that it lies below, else unchanged."""
    for root in roots:
        if path.startswith(f"{root}/"):
            return path[len(root) + 1 :]
    return path


def _new_place(model_id: str, source: str, target: str, roots: Sequence[str]) -> tuple[str, str]:
    old_root = source.partition(f"{_LIBRARY}{model_id}/")[0] if f"{_LIBRARY}{model_id}/" in source else ""
    moved = old_root and old_root not in roots and target.startswith(f"{old_root}/") and not os.path.lexists(target)
    if moved and os.path.lexists(f"{roots[0]}/{target[len(old_root) + 1 :]}"):
        roots = (old_root,)
    return relative(source, roots), relative(target, roots)


# -- link_registry.json ----------------------------------------------------------------------------------------------


def stamp(path: Path) -> str:
    """Changes when the file does; "" when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def read_json(path: Path, roots: Sequence[str]) -> list[Row]:
    """The entries of `by_target`; those that name no link are left out.

    Raises:
        UnreadableRegistry: it is no such file.
    """
    try:
        by_target: object = parse_object(path).get("by_target")
    except (OSError, ValueError) as error:
        raise UnreadableRegistry(f"{path.name} of an older sidecar cannot be read: {type(error).__name__}.") from None
    if not isinstance(by_target, dict):
        raise UnreadableRegistry(f"{path.name} of an older sidecar has no by_target.")
    rows: list[Row] = []
    for key, value in cast(dict[str, object], by_target).items():
        if isinstance(value, dict) and (row := _row(key, cast(dict[str, Any], value), roots)) is not None:
            rows.append(row)
    return rows


def _row(key: str, entry: dict[str, Any], roots: Sequence[str]) -> Row | None:
    texts = [entry.get(name) for name in ("model_id", "source", "app_id", "app_version")]
    if not all(isinstance(text, str) for text in texts) or not os.path.isabs(key):
        return None
    model_id, source, app_id, version = cast(list[str], texts)
    kind = str(entry.get("link_type", "")).lower().replace("_", "")
    source, target = _new_place(model_id, source, key, roots)
    if kind not in _KINDS:
        kind = "symlink"
    return model_id, source, target, kind, app_id.lower(), version.lstrip("vV"), 0, _moment(entry.get("created_at"))


def _moment(value: object) -> str:
    found = utc_moment(value)
    return now() if found is None else utc_text(found)


def take_over(c: sqlite3.Connection, rows: Sequence[Row], seen: str) -> None:
    """Add what is not known yet; our own rows are not replaced."""
    sql = (
        f"INSERT OR IGNORE INTO links ({', '.join(_LEGACY_COLUMNS)}) "  # noqa: S608 - fixed words only
        f"VALUES ({', '.join('?' * len(_LEGACY_COLUMNS))})"
    )
    c.executemany(sql, rows)
    c.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (IMPORTED, seen))
