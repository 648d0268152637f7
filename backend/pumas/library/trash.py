"""Deleting without losing: a model goes to `.trash/<trash_id>/` on its own volume and can come back.

`.trash/<trash_id>/entry.json` says what lies in `model/` and where it belongs. It is on disk before the model is moved
by one rename, so a model is whole in the library or whole in the trash at every moment. Emptying first renames the
entry to `<trash_id>.emptying`; what a killed process left half done is finished by `recover`. What else goes with a
model, such as links into it, is its `Companions`' matter.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from pumas.errors import (
    AlreadyExists,
    CorruptState,
    InvalidInput,
    ModelNotFound,
    PumasError,
    TrashEntryNotFound,
    UnsafePath,
)
from pumas.jobs.store import now
from pumas.library.companions import Companions, NoCompanions
from pumas.library.index import Index, follow
from pumas.library.metadata import METADATA, OWN_FILES, known_folder, model_folder
from pumas.library.moments import utc_moment
from pumas.storage import json_file
from pumas.storage.files import (
    disk_errors,
    fsync_folder,
    make_folders,
    remove_if_empty,
    rename_new,
    write_durably,
)
from pumas.storage.json_file import JsonObject, StateLock
from pumas.storage.paths import contained, relative_path, slug

log = logging.getLogger(__name__)

ENTRY = "entry.json"
MODEL = "model"
_EMPTYING = ".emptying"
_TRASH_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,99}")


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """One deleted model.

    `model_ids` are all models that lie in the folder: the deleted one first, then those nested in it. `deleted_at` is
    ISO-8601 UTC, "" when nobody wrote it down. `size` is in bytes; `files` leaves our own notes about models out.
    `companions` is how many went or came back with it in this call.
    """

    trash_id: str
    model_id: str
    model_ids: tuple[str, ...]
    official_name: str
    deleted_at: str
    size: int
    files: int
    companions: int = field(default=0, compare=False)


class Trash:
    """Calls block; they come from worker threads."""

    def __init__(
        self, library: Path, root: Path, lock: StateLock, index: Index, companions: Companions | None = None
    ) -> None:
        """`root` is `Layout.trash`; it is made when first needed."""
        self._library = library
        self._companions = companions or NoCompanions()
        self._root = root
        self._lock = lock
        self._index = index

    # -- delete and restore ------------------------------------------------------------------------------------------

    def delete(self, model_id: str, *, dry_run: bool = False) -> TrashEntry:
        """Move a model, with everything in its folder, into the trash. Families left empty are removed.

        Raises:
            ModelNotFound, UnsafePath: see `metadata.known_folder`.
            DiskError, NotEnoughSpace, ReadOnly: the model is where it was.
        """
        with self._lock.held(), disk_errors(f"Deleting {model_id}"):
            folder = known_folder(self._library, self._index, model_id)
            moment = now()
            entry = _describe(folder, model_id, f"{_compact(moment)}-{secrets.token_hex(4)}", moment)
            if dry_run:
                return replace(entry, companions=self._companions.count(entry.model_ids))
            companions = self._move_in(folder, entry)
            self._remove_empty_parents(folder)
        follow(self._index.remove, entry.model_ids)
        return replace(entry, companions=companions)

    def _move_in(self, folder: Path, entry: TrashEntry) -> int:
        place = self._root / entry.trash_id
        make_folders(self._root, mode=0o700)
        make_folders(place)
        try:
            write_durably(place / ENTRY, json_file.encode(_encode(entry)))
            with self._companions.leaving(entry.trash_id, entry.model_ids) as companions:
                rename_new(folder, place / MODEL)
            return companions
        except BaseException:
            _remove_entry_without_model(place)
            raise

    def _remove_empty_parents(self, folder: Path) -> None:
        """The family goes when it is empty, the type folder (the first level) stays."""
        for parent in folder.parents:
            if parent.parent == self._library or not parent.is_relative_to(self._library):
                return
            try:
                parent.rmdir()
            except OSError:
                return

    def list(self) -> list[TrashEntry]:
        """What can be restored, newest first. A model whose entry is damaged is listed under a name of its own."""
        found = [entry for name in self._names() if (entry := self._read(name)) is not None]
        return sorted(found, key=lambda entry: (entry.deleted_at, entry.trash_id), reverse=True)

    def restore(self, trash_id: str, *, dry_run: bool = False) -> TrashEntry:
        """Put a model back under its id.

        Raises:
            TrashEntryNotFound: no such entry.
            AlreadyExists: the id is taken by now; nothing was changed.
            DiskError, NotEnoughSpace, ReadOnly: the model is still in the trash.
        """
        with self._lock.held(), disk_errors(f"Restoring {trash_id}"):
            entry = self._get(trash_id)
            target = contained(self._library, entry.model_id, "model_id")
            if dry_run:
                _require_free(target, entry.model_id)
                return entry
            made = make_folders(target.parent)
            try:
                rename_new(self._root / trash_id / MODEL, target)
            except AlreadyExists:
                remove_if_empty(made)
                raise _taken(entry.model_id) from None
            except BaseException:
                remove_if_empty(made)
                raise
            _remove_entry_without_model(self._root / trash_id)
            companions = self._companions_return(trash_id)
        follow(self._index.refresh, entry.model_ids)
        return replace(entry, companions=companions)

    def _companions_return(self, trash_id: str) -> int:
        """The model is back whatever becomes of them; they are looked after again at the next start."""
        try:
            return self._companions.returned(trash_id)
        except PumasError as error:
            log.warning("what belongs to a restored model could not follow: %s", error)
            return 0

    # -- empty -------------------------------------------------------------------------------------------------------

    def empty(
        self, trash_ids: Sequence[str] | None = None, *, older_than_days: float | None = None, dry_run: bool = False
    ) -> tuple[TrashEntry, ...]:
        """Delete entries for good and return them.

        Args:
            trash_ids: exactly these; None means every entry whose own file could be read.
            older_than_days: only those deleted longer ago; an entry without a date does not count as old.

        Raises:
            TrashEntryNotFound: one of `trash_ids` does not exist; nothing was deleted.
            DiskError, ReadOnly: an entry could not be removed; those before it are gone.
        """
        with self._lock.held(), disk_errors("Emptying the trash"):
            chosen = self._choose(trash_ids)
            if older_than_days is not None:
                chosen = [entry for entry in chosen if _age_days(entry) > older_than_days]
            if not dry_run:
                for entry in chosen:
                    self._destroy(entry.trash_id)
        return tuple(chosen)

    def _choose(self, trash_ids: Sequence[str] | None) -> Sequence[TrashEntry]:
        if trash_ids is not None:
            return [self._get(trash_id) for trash_id in dict.fromkeys(trash_ids)]
        return [entry for entry in self.list() if entry.deleted_at]

    def _destroy(self, trash_id: str) -> None:
        doomed = self._root / f"{trash_id}{_EMPTYING}"
        rename_new(self._root / trash_id, doomed)
        shutil.rmtree(doomed)  # removes links, never what they lead to
        fsync_folder(self._root)
        with contextlib.suppress(PumasError):
            self._companions.forgotten(trash_id)

    # -- after a crash -----------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Finish what a killed process began: at start, before anything else uses the trash."""
        with self._lock.held(), disk_errors("Looking after the trash"):
            for name in self._names():
                place = self._root / name
                if _TRASH_ID.fullmatch(name.removesuffix(_EMPTYING)) is None:
                    continue
                if name.endswith(_EMPTYING):
                    with contextlib.suppress(OSError):
                        shutil.rmtree(place)
                elif not os.path.lexists(place / MODEL):
                    # A delete that had not moved the model yet, or a restore that had already: it is in the library.
                    _remove_entry_without_model(place)
        gone = [i for entry in self.list() for i in entry.model_ids if not _is_model(self._library, i)]
        if gone:
            follow(self._index.remove, gone)

    # -- entries -----------------------------------------------------------------------------------------------------

    def _names(self) -> Sequence[str]:
        try:
            return sorted(os.listdir(self._root))
        except FileNotFoundError:
            return []

    def _get(self, trash_id: str) -> TrashEntry:
        entry = self._read(trash_id)
        if entry is None:
            raise TrashEntryNotFound(trash_id)
        return entry

    def _read(self, trash_id: str) -> TrashEntry | None:
        """None when there is nothing to restore under this name."""
        place = self._root / trash_id
        if not _TRASH_ID.fullmatch(trash_id) or place.is_symlink() or not os.path.lexists(place / MODEL):
            return None
        try:
            return _decode(trash_id, json_file.load(place / ENTRY).value or {})
        except PumasError:
            return _describe(place / MODEL, _id_from_metadata(place / MODEL, trash_id), trash_id, "")


def _compact(moment: str) -> str:
    """2030-02-03T04:05:06.000001Z -> 20300203T040506"""
    return re.sub(r"[-:]", "", moment)[:15]


def _describe(folder: Path, model_id: str, trash_id: str, deleted_at: str) -> TrashEntry:
    """What lies in `folder`: all its bytes, links as links, and how many files besides those that are our own notes."""
    ids, size, files = [model_id], 0, 0
    for path, folders, names in os.walk(folder):
        folders.sort()
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_size
                files += name not in OWN_FILES
        if METADATA in names and Path(path) != folder:
            ids.append(f"{model_id}/{Path(path).relative_to(folder).as_posix()}")
    return TrashEntry(trash_id, model_id, tuple(ids), _official_name(folder), deleted_at, size, files)


def _metadata(folder: Path) -> JsonObject:
    with contextlib.suppress(CorruptState):
        return json_file.load(folder / METADATA).value or {}
    return {}


def _official_name(folder: Path) -> str:
    name = _metadata(folder).get("official_name")
    return name if isinstance(name, str) else folder.name


def _id_from_metadata(folder: Path, trash_id: str) -> str:
    """Where a model without a readable entry belongs, as far as its own metadata tells."""
    metadata = _metadata(folder)
    words = [metadata.get(key) for key in ("model_type", "family", "cleaned_name")]
    fallbacks = ["unknown", "restored", trash_id]
    parts = [slug(w if isinstance(w, str) else "", f) for w, f in zip(words, fallbacks, strict=True)]
    return "/".join(parts)


def _encode(entry: TrashEntry) -> JsonObject:
    return {
        "trash_id": entry.trash_id,
        "model_id": entry.model_id,
        "model_ids": list(entry.model_ids),
        "official_name": entry.official_name,
        "deleted_at": entry.deleted_at,
        "size_bytes": entry.size,
        "files": entry.files,
    }


def _decode(trash_id: str, value: JsonObject) -> TrashEntry:
    """Trust nothing: raises CorruptState or UnsafePath for an entry that we could not have written."""
    ids: object = value.get("model_ids")
    texts = [str(i) for i in cast(list[object], ids)] if isinstance(ids, list) else []
    model_id, name, moment = value.get("model_id"), value.get("official_name"), value.get("deleted_at")
    if not isinstance(model_id, str) or not texts or texts[0] != model_id or not isinstance(name, str):
        raise CorruptState(ENTRY, "not an entry of the trash")
    for text in texts:
        relative_path(text, "model_id")
        if any(part.startswith(".") for part in text.split("/")):
            raise UnsafePath("model_id", "must not name a hidden folder")
    return TrashEntry(
        trash_id,
        model_id,
        tuple(texts),
        name,
        moment if isinstance(moment, str) and utc_moment(moment) is not None else "",
        _count(value.get("size_bytes")),
        _count(value.get("files")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _age_days(entry: TrashEntry) -> float:
    """Negative for a date in the future or none at all: such an entry is not old."""
    deleted = utc_moment(entry.deleted_at)
    return -1.0 if deleted is None else (datetime.datetime.now(datetime.UTC) - deleted).total_seconds() / 86400


def _remove_entry_without_model(place: Path) -> None:
    """Remove our own file and the folder if nothing else is in it. Never a tree."""
    if os.path.lexists(place / MODEL):
        return
    with contextlib.suppress(OSError):
        for name in os.listdir(place):
            if name == ENTRY or name.startswith(f"{ENTRY}."):
                (place / name).unlink()
        place.rmdir()
        fsync_folder(place.parent)


def _require_free(target: Path, model_id: str) -> None:
    if os.path.lexists(target):
        raise _taken(model_id)


def _taken(model_id: str) -> AlreadyExists:
    return AlreadyExists(f"{model_id} is in the library again; delete or move that first.")


def _is_model(library: Path, model_id: str) -> bool:
    try:
        model_folder(library, model_id)
    except (ModelNotFound, InvalidInput):
        return False
    return True
