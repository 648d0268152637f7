"""Take an adoption back: our names for the bytes go, never a byte of the owner's.

Only while the owner has the bytes too; when ours are the last ones the undo is refused, and the way is the trash. The
model is first moved into the trash by one rename and then removed from there, file by file of a list made before;
whatever else lies in its folder, or was changed by hand, stays in the trash.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pumas.adoption.adopting import adoption_id_of
from pumas.adoption.store import Adoption, AdoptionState, Journal
from pumas.errors import AdoptionNotFound, CorruptState, LastCopy, PumasError
from pumas.jobs.store import Json
from pumas.library.metadata import METADATA, OVERRIDES, OWN_FILES, ModelMetadata
from pumas.library.references import Storage
from pumas.library.trash import MODEL, Trash
from pumas.storage import json_file
from pumas.storage.paths import contained, display_name


@dataclass(frozen=True, slots=True)
class Undone:
    """`kept_in_store` are the owner's files, all still there. `trash_id`: the folder held more than what was adopted,
    or was changed by hand, so it is in the trash; `reasons` say why. `size`: bytes of names that were removed."""

    adoption_id: str
    model_id: str
    mode: str
    size: int
    removed: tuple[str, ...]
    kept_in_store: tuple[str, ...]
    trash_id: str | None
    reasons: tuple[str, ...]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class _Adopted:
    """One file as the metadata of its model has it."""

    name: str
    path: str
    size: int
    mtime_ns: int


class Undoer:
    """Calls block; they come from worker threads."""

    def __init__(self, trash_root: Path, models: ModelMetadata, trash: Trash, journal: Journal) -> None:
        self._trash_root = trash_root
        self._models = models
        self._trash = trash
        self._journal = journal

    def undo(self, *, adoption_id: str | None, model_id: str | None, dry_run: bool) -> Undone:
        """
        Raises:
            AdoptionNotFound: no such adoption, or the model was not adopted.
            ModelNotFound, UnsafePath, CorruptState: the model cannot be looked at.
            LastCopy: nothing was removed.
            DiskError, NotEnoughSpace, ReadOnly: the model is where it was, or in the trash.
        """
        row = self._row(adoption_id)
        model_id = model_id if row is None else row.model_id
        assert model_id is not None
        metadata = self._models.load(model_id)
        found_id, storage = adoption_id_of(metadata), str(metadata.get("storage"))
        if not found_id or storage not in set(Storage) or (row is not None and row.id != found_id):
            raise AdoptionNotFound(adoption_id or model_id)
        folder, files = self._models.folder(model_id), _adopted(metadata)
        _require_other_copies(folder, model_id, Storage(storage), files)
        reasons = _reasons_to_keep(folder, metadata, [file.name for file in files])
        undone = Undone(
            adoption_id=found_id,
            model_id=model_id,
            mode=storage,
            size=sum(file.size for file in files),
            removed=tuple(file.name for file in files),
            kept_in_store=tuple(file.path for file in files if os.path.exists(file.path)),
            trash_id=None,
            reasons=tuple(reasons),
            dry_run=dry_run,
        )
        if dry_run:
            return undone
        row = row or (self._journal.get(found_id) if self._journal.exists else None)
        self._note(row, AdoptionState.UNDOING)
        trash_id = self._trash.delete(model_id).trash_id
        if not reasons:
            with contextlib.suppress(LastCopy):
                # The owner may have removed theirs a moment ago: then what is in the trash stays there.
                _require_other_copies(self._trash_root / trash_id / MODEL, model_id, Storage(storage), files)
                self._trash.empty([trash_id])
        kept = trash_id if (self._trash_root / trash_id).exists() else None
        self._note(row, AdoptionState.UNDONE, kept)
        return replace(undone, trash_id=kept)

    def _row(self, adoption_id: str | None) -> Adoption | None:
        if adoption_id is None:
            return None
        row = self._journal.get(adoption_id) if self._journal.exists else None
        if row is None or row.state is AdoptionState.UNDONE:
            raise AdoptionNotFound(adoption_id)
        return row

    def _note(self, row: Adoption | None, state: AdoptionState, trash_id: str | None = None) -> None:
        if row is not None:
            self._journal.save(replace(row, state=state, trash_id=trash_id))


def _adopted(metadata: Json) -> list[_Adopted]:
    """The usable elements of `adoption.files`."""
    listed: object = cast(Json, metadata["adoption"]).get("files")
    found: list[_Adopted] = []
    for item in cast(list[object], listed) if isinstance(listed, list) else []:
        fields = cast(Json, item) if isinstance(item, dict) else {}
        name, path, size, mtime = (fields.get(key) for key in ("name", "path", "size", "mtime_ns"))
        if isinstance(name, str) and isinstance(path, str) and isinstance(size, int) and isinstance(mtime, int):
            found.append(_Adopted(name, path, size, mtime))
    return found


def _require_other_copies(folder: Path, model_id: str, storage: Storage, files: Sequence[_Adopted]) -> None:
    """Raise LastCopy unless the bytes of each file exist outside `folder` too."""
    for file in files:
        try:
            own = contained(folder, file.name).lstat()
        except (PumasError, OSError):
            continue  # not there: nothing of it can be lost
        if storage is Storage.HARDLINK and own.st_nlink < 2:
            raise LastCopy(model_id, display_name(file.name))
        if storage is Storage.REFLINK and not _is_unchanged(file):
            raise LastCopy(model_id, display_name(file.name))


def _is_unchanged(file: _Adopted) -> bool:
    try:
        status = os.stat(file.path)
    except (OSError, ValueError):
        return False
    return (status.st_size, status.st_mtime_ns) == (file.size, file.mtime_ns)


def _reasons_to_keep(folder: Path, metadata: Json, adopted: Sequence[str]) -> list[str]:
    """Why the folder must not be removed for good: what in it is not of the adoption's making."""
    expected = {*adopted, *OWN_FILES}
    others = sorted(
        name
        for path, _folders, names in os.walk(folder)
        for name in (Path(path, n).relative_to(folder).as_posix() for n in names)
        if name not in expected
    )
    reasons = [f"{display_name(name)} was not adopted." for name in others[:10]]
    if metadata.get("updated_date") != metadata.get("added_date"):
        reasons.append("Its metadata was changed by hand.")
    try:
        if json_file.load(folder / OVERRIDES).value:
            reasons.append("It has overrides.")
    except CorruptState:
        reasons.append("Its overrides cannot be read.")
    if metadata.get("storage") == Storage.REFERENCE and any((folder / name).exists() for name in adopted):
        reasons.append(f"A file lies beside {METADATA} that should only be referenced.")
    return reasons
