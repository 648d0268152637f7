"""The link registry: one row per link that we made, written before the link is. SQL stands here and nowhere else.

Paths are kept relative to the launcher root where they lie below it, so that the root can be moved. What older
sidecars wrote into the same file, with absolute paths, is taken over; what they wrote into `link_registry.json` too
(`legacy.py`). Nothing here looks at a link itself. All calls block.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pumas.config import Layout
from pumas.errors import ReadOnly
from pumas.jobs.store import now
from pumas.links import legacy
from pumas.storage.database import Database, Schema
from pumas.storage.troubles import Troubles

_MANY = 500


class Link(NamedTuple):
    """One row, in the order of the columns of `contracts/schema/link_registry.sql`."""

    link_id: int
    model_id: str
    source_path: str
    target_path: str
    link_type: str
    app_id: str
    app_version: str
    is_external: int
    created_at: str
    state: str = "made"
    link_text: str = ""
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0


class Parked(NamedTuple):
    """A link that went with its model, in the order of the columns of `parked`."""

    trash_id: str
    model_id: str
    source_path: str
    target_path: str
    link_type: str
    app_id: str
    app_version: str
    created_at: str


class Replaced(NamedTuple):
    """Something that was moved aside for a link."""

    target_path: str
    kept_path: str
    model_id: str
    moved_at: str


_COLUMNS = ", ".join(Link._fields)
_NEW = Link._fields[1:]
_BEGIN = (
    f"INSERT OR REPLACE INTO links ({', '.join(_NEW)}) "  # noqa: S608 - fixed words only
    f"VALUES ({', '.join('?' * len(_NEW))})"
)


class LinkStore:
    def __init__(self, layout: Layout, troubles: Troubles) -> None:
        self._json = layout.link_registry_json
        self._troubles = troubles
        self.root = str(layout.root)
        self._roots = tuple(dict.fromkeys((self.root, os.path.realpath(layout.root))))
        self.database = Database(
            layout.link_registry_db,
            Schema.load("link_registry"),
            disposable=False,
            synchronous="FULL",
            migrate=lambda c, _version: legacy.migrate(c),
            on_quarantine=self._say_damaged,
        )
        self._ready = False
        self._preparing = threading.Lock()
        # Another object after every change.
        self._content = object()
        self._by_app: tuple[object, dict[str, list[str]]] | None = None

    # -- opening -----------------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        """Whether anything was ever written, by us or by an older sidecar."""
        return self.database.path.exists() or self._json.exists()

    def _say_damaged(self, kept: Path, reason: str) -> None:
        self._troubles.report(
            "link_registry.db",
            "damaged_database",
            f"The registry of links was damaged ({reason}) and was kept as {kept.name}; "
            "links that lead into the library are registered again.",
        )
        self._content = object()

    def prepare(self) -> None:
        """Take over what older sidecars wrote, once per run. Raises the disk's failures."""
        with self._preparing:
            if self._ready or not self.exists:
                return
            self._put_empty_aside()
            stamp = legacy.stamp(self._json)
            rows: list[legacy.Row] = []
            try:
                known = self.database.read_sync(_setting(legacy.IMPORTED)) if self.database.path.exists() else ""
                rows = legacy.read_json(self._json, self._roots) if stamp and stamp != known else []
            except legacy.UnreadableRegistry as error:
                self._troubles.report(self._json.name, "damaged_registry", str(error))
            try:
                if self.database.path.exists() and self.database.read_sync(legacy.has_absolute):
                    self._write(lambda c: legacy.make_relative(c, self._roots))
                if rows:
                    self._write(lambda c: legacy.take_over(c, rows, stamp))
            except ReadOnly:
                if rows and not self.database.path.exists():
                    raise
            self._ready = True

    def _filled(self) -> bool:
        """Whether there is a registry to ask, once what older sidecars wrote is in it. Asking makes none."""
        self.prepare()
        return self.database.path.exists()

    def _put_empty_aside(self) -> None:
        """A file without a byte is what a full disk leaves; to SQLite it would be a registry without a link."""
        path = self.database.path
        with contextlib.suppress(OSError):
            if path.stat().st_size == 0 and not path.with_name(f"{path.name}-wal").exists():
                kept = path.with_name(f"{path.name}.damaged-{now()[:19].replace(':', '')}")
                os.rename(path, kept)
                self._say_damaged(kept, "it is empty")

    # -- paths -------------------------------------------------------------------------------------------------------

    def kept(self, path: str) -> str:
        """The form in which a path is stored."""
        return legacy.relative(path, self._roots)

    def absolute(self, kept: str) -> str:
        return kept if kept[:1] == "/" or kept[1:2] == ":" else f"{self.root}/{kept}"

    # -- reading -----------------------------------------------------------------------------------------------------

    def below(self, folder: str) -> list[Link]:
        """Links in a folder (absolute) and in those below it, in order of their paths."""
        kept = self.kept(folder)
        # "0" follows "/" in the alphabet.
        return self._select("target_path >= ? AND target_path < ? ORDER BY target_path", f"{kept}/", f"{kept}0")

    def at(self, target: str) -> Link | None:
        """The link at a place (absolute)."""
        return next(iter(self._select("target_path = ?", self.kept(target))), None)

    def of_models(self, model_ids: Iterable[str]) -> list[Link]:
        ids = list(dict.fromkeys(model_ids))
        found: list[Link] = []
        for start in range(0, len(ids), _MANY):
            part = ids[start : start + _MANY]
            found += self._select(f"model_id IN ({', '.join('?' * len(part))}) ORDER BY target_path", *part)
        return found

    def models_by_app(self) -> Mapping[str, Sequence[str]]:
        """Ids of the models that links were made to, in order, by the id of their app; remembered while no link
        changes. Nobody else writes while we own the root."""
        if not self._filled():
            return {}
        content, known = self._content, self._by_app
        if known is None or known[0] is not content:
            self._by_app = known = content, self._read_models_by_app()
        return known[1]

    def _read_models_by_app(self) -> dict[str, list[str]]:
        sql = "SELECT DISTINCT app_id, model_id FROM links WHERE state = 'made' ORDER BY 1, 2"
        found: dict[str, list[str]] = {}
        for app_id, model_id in self.database.read_sync(lambda c: c.execute(sql).fetchall()):
            found.setdefault(app_id, []).append(model_id)
        return found

    def all(self) -> list[Link]:
        return self._select("1 ORDER BY target_path")

    def making(self) -> list[Link]:
        """Links whose making was not finished."""
        return self._select("state = 'making' ORDER BY link_id")

    def page(self, app_id: str | None, app_version: str | None, limit: int, offset: int) -> tuple[list[Link], int]:
        """(in order of their paths, number of all)"""
        condition = "(?1 IS NULL OR app_id = ?1) AND (?2 IS NULL OR app_version = ?2)"
        if not self._filled():
            return [], 0
        count = f"SELECT count(*) FROM links WHERE {condition}"  # noqa: S608 - fixed words only
        total: int = self.database.read_sync(lambda c: c.execute(count, (app_id, app_version)).fetchone()[0])
        page = f"{condition} ORDER BY target_path LIMIT ?3 OFFSET ?4"
        return self._select(page, app_id, app_version, limit, offset), total

    def _select(self, condition: str, *values: object) -> list[Link]:
        if not self._filled():
            return []
        sql = f"SELECT {_COLUMNS} FROM links WHERE {condition}"  # noqa: S608 - fixed words only
        return self.database.read_sync(lambda c: list(map(Link._make, c.execute(sql, values).fetchall())))

    # -- writing: when a call returns, it is on disk -------------------------------------------------------------------

    def _write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        try:
            self.database.write_sync(change)
        finally:
            # Afterwards: who asked before may have been given what was there before.
            self._content = object()

    def begin(self, links: Sequence[Link], replaced: Sequence[Replaced] = ()) -> None:
        """Note links that are about to be made, and what will be moved aside for them."""
        self.prepare()
        rows = [(*link[1:9], "making", *link[10:]) for link in links]

        def write(c: sqlite3.Connection) -> None:
            c.executemany(_BEGIN, rows)
            # A kill may have come after such a row was written and before anything was moved.
            c.executemany("DELETE FROM replaced WHERE kept_path = ?", [(one.kept_path,) for one in replaced])
            c.executemany(
                "INSERT INTO replaced (target_path, kept_path, model_id, moved_at) VALUES (?, ?, ?, ?)", replaced
            )

        self._write(write)

    def finish(self, failed: Sequence[str] = (), unreplaced: Sequence[str] = ()) -> None:
        """All links that were begun are made, but for those at the `failed` places, whose rows go.

        `unreplaced` are `kept_path`s where nothing was moved to.
        """

        def write(c: sqlite3.Connection) -> None:
            c.executemany("DELETE FROM links WHERE state = 'making' AND target_path = ?", [(t,) for t in failed])
            c.executemany("DELETE FROM replaced WHERE kept_path = ?", [(path,) for path in unreplaced])
            c.execute("UPDATE links SET state = 'made' WHERE state = 'making'")

        self._write(write)

    def forget(self, link_ids: Iterable[int]) -> None:
        ids = [(link_id,) for link_id in link_ids]
        if ids:
            self._write(lambda c: c.executemany("DELETE FROM links WHERE link_id = ?", ids).rowcount)

    def forget_below(self, folder: str) -> None:
        """Forget all that is noted of a folder (absolute): links, those of deleted models, and what was moved aside."""
        kept = self.kept(folder)
        self.prepare()

        def write(c: sqlite3.Connection) -> None:
            for table in ("links", "parked", "replaced"):
                # "0" follows "/" in the alphabet.
                c.execute(
                    f"DELETE FROM {table} WHERE target_path >= ? AND target_path < ?",  # noqa: S608 - fixed words only
                    (f"{kept}/", f"{kept}0"),
                )

        self._write(write)

    # -- links of deleted models ---------------------------------------------------------------------------------------

    def park(self, trash_id: str, links: Sequence[Link]) -> None:
        """Note which links go with a model, before they do."""
        rows = [
            Parked(trash_id, *link[1:4], link.link_type, link.app_id, link.app_version, link.created_at)
            for link in links
        ]
        sql = f"INSERT OR REPLACE INTO parked VALUES ({', '.join('?' * len(Parked._fields))})"  # noqa: S608
        self._write(lambda c: c.executemany(sql, rows).rowcount)

    def parked(self, trash_id: str | None = None) -> list[Parked]:
        if not self._filled():
            return []
        sql = f"SELECT {', '.join(Parked._fields)} FROM parked WHERE ?1 IS NULL OR trash_id = ?1"  # noqa: S608
        return self.database.read_sync(lambda c: list(map(Parked._make, c.execute(sql, (trash_id,)).fetchall())))

    def unpark(self, trash_id: str, keep: Collection[str] = ()) -> None:
        """Forget an entry's links, but for those at the places to `keep`."""

        def write(c: sqlite3.Connection) -> None:
            rows = c.execute("SELECT target_path FROM parked WHERE trash_id = ?", (trash_id,)).fetchall()
            gone = [(trash_id, target) for (target,) in rows if target not in keep]
            c.executemany("DELETE FROM parked WHERE trash_id = ? AND target_path = ?", gone)

        self._write(write)

    # -- what was moved aside, and marks -------------------------------------------------------------------------------

    def replaced(self) -> list[Replaced]:
        """Newest first."""
        if not self._filled():
            return []
        sql = f"SELECT {', '.join(Replaced._fields)} FROM replaced ORDER BY id DESC"  # noqa: S608
        return self.database.read_sync(lambda c: list(map(Replaced._make, c.execute(sql).fetchall())))

    def setting(self, key: str) -> str:
        """ "" when it was never set."""
        if not self._filled():
            return ""
        return self.database.read_sync(_setting(key))

    def set(self, key: str, value: str) -> None:
        self._write(lambda c: c.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", (key, value)))

    def put_aside(self) -> Iterator[str]:
        """Names of registries that were damaged and kept."""
        folder = self.database.path.parent
        marks = tuple(f"{self.database.path.name}.{label}-" for label in ("damaged", "foreign", "older"))
        if folder.is_dir():
            names = (entry.name for entry in os.scandir(folder))
            yield from sorted(n for n in names if n.startswith(marks) and not n.endswith(("-wal", "-shm")))


def _setting(key: str) -> Callable[[sqlite3.Connection], str]:
    def read(c: sqlite3.Connection) -> str:
        row = c.execute("SELECT value FROM settings WHERE key = ?", (key,)).fetchone()
        return row[0] if row else ""

    return read


def new_link(
    model_id: str, source: str, target: str, link_type: str, app_id: str, app_version: str, *, external: bool
) -> Link:
    """A row that was not written yet; paths in the stored form."""
    return Link(0, model_id, source, target, link_type, app_id, app_version, int(external), now())
