"""The index for worker threads: opens it, brings it up to date, answers what import and trash ask (`index.py`).

It lies in the library. When that cannot be written, is away, or holds an index of a newer version, it lies in the
launcher's data folder instead. What a look at the disk does is written in `reconcile.py`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pumas import footprint
from pumas.config import Layout
from pumas.errors import NewerSchema, PumasError, ReadOnly
from pumas.events.stream import EventStream
from pumas.library import store
from pumas.library.readers import reader_count
from pumas.library.reading import Identify, identify_file
from pumas.library.reconcile import LibraryOffline, Reconciler, Summary
from pumas.library.store import Changes
from pumas.storage.database import DAMAGED_FILES, Database, Schema
from pumas.storage.troubles import Troubles

T = TypeVar("T")

# More changes than this in one batch are told as one event.
EVENTS_PER_BATCH = 100
_SHALLOW_FOLDERS = 2000
# A look that found more than this leaves memory behind that is worth giving back.
_MANY_CHANGES = 1000

STALE = "index_stale"

State = Literal["ready", "offline", "read_only"]


class LibraryIndex:
    def __init__(
        self, layout: Layout, events: EventStream, troubles: Troubles, *, identify: Identify = identify_file
    ) -> None:
        self._layout = layout
        self._events = events
        self._troubles = troubles
        self._identify = identify
        self._subject = os.path.relpath(layout.library, layout.root)
        self._places = (layout.models_db, layout.cache / "models.db")
        # Order: `_running` before `_opening`; neither is held while an event is published.
        self._running = threading.Lock()
        self._opening = threading.RLock()
        self._database: Database | None = None
        self._file: tuple[int, int] | None = None
        self._refused: tuple[int, int] | None = None
        # Neither place can be written, as on a disk that is mounted read-only: what the library's index says is served.
        self._nowhere = False
        self._stopped = False
        self._complete = False
        self._busy = False
        # The last look could not be written; the index file was replaced by an empty one.
        self._failed = self._replaced = False
        self._state: State = "ready"
        self._above: list[tuple[str, int, int]] = []
        self._meanwhile: list[str] = []

    # -- the file ----------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._state

    @property
    def complete(self) -> bool:
        """A first look at the disk was finished, or could not be because the library is away."""
        return self._complete

    @property
    def busy(self) -> bool:
        return self._busy

    @property
    def opened(self) -> Database | None:
        """The index when it is open already; never waits."""
        return self._database

    def database(self) -> Database:
        """The open index. Raises what the disk refused, when no place could be used."""
        with self._opening:
            if self._database is None:
                self._database = self._open()
                self._database.connect_readers_sync()
                self._file = _identity(self._database.path)
                self._reconciler(self._database).load_troubles()
            return self._database

    def _open(self) -> Database:
        own, spare = self._places
        self._nowhere = False
        if self._usable():
            database = self._database_at(own)
            try:
                database.open_sync()
            except PumasError as error:
                self._refused = _identity(own)
                kind = "newer_index" if isinstance(error, NewerSchema) else "index_unusable"
                self._troubles.report(
                    f"{self._subject}/{own.name}", kind, f"{error} Until then the index is elsewhere."
                )
            else:
                self._refused = None
                return database
        database = self._database_at(spare)
        try:
            database.open_sync()
        except ReadOnly:
            if not os.path.isfile(own):
                raise
            self._nowhere = True
            database = self._database_at(own)
            database.open_sync()
        return database

    def _database_at(self, path: Path) -> Database:
        schema = Schema.load("models")
        return Database(path, schema, disposable=True, on_quarantine=self._rebuild, renewal=store.RENEWAL)

    def _usable(self) -> bool:
        """Whether the library's folder can hold the index; makes the folder when nothing was ever there."""
        library = self._layout.library
        if not os.path.lexists(library):
            try:
                library.mkdir(parents=True)
            except OSError:
                self._state = "read_only"
                return False
        if not os.path.isdir(library):
            self._state = "offline"
            return False
        if not os.access(library, os.W_OK | os.X_OK):
            self._state = "read_only"
            return False
        self._state = "ready"
        return self._refused is None or self._refused != _identity(self._places[0])

    def _rebuild(self, kept: Path, reason: str) -> None:
        """The index file was put aside: what is there now is empty until the next look at the disk."""
        self._complete, self._replaced = False, True
        message = (
            f"The index could not be used ({reason}) and is being made anew; the old file was kept as {kept.name}."
        )
        self._troubles.report(f"{self._subject}/{self._places[0].name}", "index_rebuilt", message)

    def _follow_file(self) -> None:
        """Open the index again when its file was replaced, deleted, or belongs elsewhere by now."""
        with self._opening:
            database = self._database
            if database is None:
                return
            usable = self._usable()
            if self._state == "offline":
                return
            place = self._places[0 if usable or self._nowhere else 1]
            if database.path == place and _identity(place) == self._file:
                return
            database.close_sync()
            self._database, self._complete = None, False

    def close(self) -> None:
        """Stop a look that is under way at its next folder, and close the file."""
        self._stopped = True
        with self._running, self._opening:
            if self._database is not None:
                self._database.close_sync()
                self._database = None

    # -- looking at the disk -----------------------------------------------------------------------------------------

    def reconcile(self) -> Summary | None:
        """Look at the whole library. None when it is away; `state` says so.

        Raises:
            PumasError: the index cannot be written.
        """
        with self._running:
            if self._stopped:
                return None
            first = not self._complete
            self._busy = True
            try:
                summary = self._reconcile()
            finally:
                self._busy = False
            if first:
                # Who was told that the library is being read hears of the end, also when nothing was found.
                self._tell_counts(self.database())
            if summary is not None and summary.added + summary.changed > _MANY_CHANGES:
                footprint.give_back()
            if summary is not None and self._reconciler(self.database()).tidy():
                footprint.give_back()
            if summary is not None:
                self.database().keep_copy_sync(lambda: self._stopped)
            return summary

    def _reconcile(self) -> Summary | None:
        self._follow_file()
        database = self.database()
        reconciler = self._reconciler(database)
        self._meanwhile.clear()
        self._replaced = self._failed = False
        try:
            summary = self._run(reconciler)
        except LibraryOffline as error:
            self._state, self._complete = "offline", True
            self._troubles.report(self._subject, LibraryOffline.kind, f"{error} Nothing was removed from the index.")
            return None
        except PumasError as error:
            # What the index holds is still served; the next call tries again.
            self._failed = self._complete = True
            if isinstance(error, ReadOnly):
                self._state = "read_only"
            self._troubles.report(self._subject, STALE, f"The index cannot be brought up to date: {error}")
            raise
        for kind in (LibraryOffline.kind, STALE):
            self._troubles.clear_kind(kind)
        self._above = database.read_sync(lambda c: store.folders_above_models(c, _SHALLOW_FOLDERS))
        self._complete = True
        return summary

    def _run(self, reconciler: Reconciler) -> Summary:
        for _ in range(DAMAGED_FILES):
            try:
                summary = reconciler.run()
                break
            except PumasError:
                if not self._replaced:
                    raise
                # The index was damaged and put aside: bring what took its place up to date.
                self._replaced = False
        else:
            summary = reconciler.run()
        if self._meanwhile:
            reconciler.refresh(self._meanwhile[:])
        return summary

    def _reconciler(self, database: Database) -> Reconciler:
        return Reconciler(
            self._layout.library,
            database,
            self._troubles,
            subject=self._subject,
            identify=self._identify,
            readers=reader_count(),
            on_changes=lambda changes: self._tell(database, changes),
            stop=lambda: self._stopped,
        )

    def shallow_changed(self) -> bool:
        """Whether a folder above the models changed since the last look: a model came or went. About a millisecond."""
        if not self._complete or self._failed:
            return True
        root = os.fspath(self._layout.library)
        for path, mtime_ns, inode in self._above:
            try:
                status = os.stat(f"{root}/{path}" if path else root)
            except OSError:
                return True
            # The library's own folder changes with every journal of the index; its children are looked at below.
            if path and (status.st_mtime_ns != mtime_ns or status.st_ino != inode):
                return True
        return self._top_changed(root)

    def _top_changed(self, root: str) -> bool:
        known = {path for path, _, _ in self._above if path and "/" not in path}
        if len(self._above) >= _SHALLOW_FOLDERS:
            return False
        try:
            with os.scandir(root) as entries:
                found = {e.name for e in entries if e.name[0] != "." and e.is_dir(follow_symlinks=False)}
        except OSError:
            return self._state != "offline"
        return bool(found - known - self._top_models())

    def _top_models(self) -> set[str]:
        rows = self.database().read_sync(lambda c: store.children(c, "", "", limit=_SHALLOW_FOLDERS))
        return {row[1] for row in rows}

    def _tell_counts(self, database: Database) -> None:
        revision, count = database.read_sync(lambda c: (store.state(c).revision, store.model_count(c)))
        self._events.publish_threadsafe("library.changed", {"revision": revision, "model_count": count})

    def _tell(self, database: Database, changes: Changes) -> None:
        if changes.count > EVENTS_PER_BATCH:
            self._tell_counts(database)
            return
        for topic, ids in (("added", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
            for model_id in ids:
                self._events.publish_threadsafe(f"model.{topic}", {"model_id": model_id})

    # -- what import, trash, metadata and verify ask (see index.py) ----------------------------------------------------

    def refresh(self, model_ids: Sequence[str]) -> None:
        database = self._note(model_ids)
        self._reconciler(database).refresh(model_ids)

    def remove(self, model_ids: Sequence[str]) -> None:
        database = self._note(model_ids)
        self._reconciler(database).remove(model_ids)

    def _note(self, model_ids: Sequence[str]) -> Database:
        # A look under way may have read these folders before the change: it reads them once more at its end.
        if self._busy:
            self._meanwhile.extend(model_ids)
        return self.database()

    def find_by_sha256(self, digest: str) -> list[str]:
        return self._ask(lambda c: store.ids_by_sha256(c, digest.lower()))

    def find_by_size(self, primary_size: int) -> list[str]:
        return self._ask(lambda c: store.ids_by_primary_size(c, primary_size))

    def duplicated(self) -> list[str]:
        return self._ask(store.ids_of_duplicates)

    def contains(self, model_id: str) -> bool:
        return self._ask(lambda c: store.contains(c, model_id))

    def model_ids(self) -> list[str]:
        return self._ask(store.ids)

    def mappable(self) -> list[store.Mappable]:
        """What decides where each model's files belong, in order of ids."""
        return self._ask(store.mappable)

    def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Answers are about all models, so a first look must have been finished."""
        if not self._complete:
            self.reconcile()
        return self.database().read_sync(query)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
