"""A model's own two files, read and changed without losing what others wrote into them.

`metadata.json` says what the model is, `overrides.json` which versions of an app may use it. Both may come from older
sidecars and may hold keys that nobody here knows: those stay. A damaged file is an error for that model and is never
written over. A model is a folder below the library that holds `metadata.json`; its id is that folder's relative path.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pumas.errors import InvalidInput, ModelNotFound
from pumas.jobs.store import now
from pumas.library.index import Index, follow
from pumas.storage import json_file
from pumas.storage.files import remove_stale_temporaries
from pumas.storage.json_file import JsonObject, StateLock
from pumas.storage.paths import contained

METADATA = "metadata.json"
OVERRIDES = "overrides.json"
OWN_FILES = frozenset({METADATA, OVERRIDES, f"{METADATA}.bak", f"{OVERRIDES}.bak"})

_DIGEST = re.compile(r"[0-9a-f]{64}")


def model_folder(library: Path, model_id: str) -> Path:
    """The folder of an existing model, damaged or not.

    Raises:
        UnsafePath: the id could name something outside the library.
        ModelNotFound: no such model; folders whose name starts with a dot (trash, staging) hold none.
    """
    folder = contained(library, model_id, "model_id")
    hidden = any(part.startswith(".") for part in model_id.split("/"))
    if hidden or not any(os.path.isfile(folder / name) for name in (METADATA, f"{METADATA}.bak")):
        raise ModelNotFound(model_id)
    return folder


def known_folder(library: Path, index: Index, model_id: str) -> Path:
    """As `model_folder`, and also a folder without metadata that the index shows as a model (put there by hand)."""
    try:
        return model_folder(library, model_id)
    except ModelNotFound:
        folder = contained(library, model_id, "model_id")
        if os.path.isdir(folder) and index.contains(model_id):
            return folder
        raise


class ModelMetadata:
    """Calls block; they come from worker threads."""

    def __init__(self, library: Path, lock: StateLock, index: Index) -> None:
        self._library = library
        self._lock = lock
        self._index = index

    def folder(self, model_id: str) -> Path:
        """See `known_folder`."""
        return known_folder(self._library, self._index, model_id)

    def load(self, model_id: str) -> JsonObject:
        """`{}` for a folder that was put into the library by hand and has none yet.

        Raises:
            ModelNotFound, UnsafePath: see `known_folder`.
            CorruptState: neither the file nor its backup can be read.
        """
        return json_file.load(self.folder(model_id) / METADATA).value or {}

    def update(self, model_id: str, change: Callable[[JsonObject], None]) -> JsonObject:
        """Let `change` modify the metadata in place, save it durably, and tell the index.

        Raises:
            ModelNotFound, UnsafePath: see `known_folder`.
            CorruptState, DiskError, NotEnoughSpace, ReadOnly: nothing was changed.
        """
        return self._save(model_id, METADATA, change)

    def mark_manual(self, model_id: str) -> None:
        """Protect the metadata from being replaced by what an online look-up finds. Raises as `update`."""
        self.edit(model_id, {})

    def edit(self, model_id: str, changes: JsonObject) -> None:
        """Set what a person wrote (`official_name`, `tags`, `notes`, …) and protect it as `mark_manual` does.

        Raises as `update`.
        """

        def change(metadata: JsonObject) -> None:
            metadata.update(changes, match_source="manual", pending_online_lookup=False, updated_date=now())

        self.update(model_id, change)

    def overrides(self, model_id: str) -> JsonObject:
        """`{}` when there are none. Raises as `load`."""
        return json_file.load(self.folder(model_id) / OVERRIDES).value or {}

    def update_overrides(self, model_id: str, overrides: JsonObject) -> None:
        """Replace what is stored by `overrides`; stored keys that nobody here knows stay unless they are given anew.

        Raises:
            InvalidInput: a version range is not written in the syntax of Python packaging.
            ModelNotFound, UnsafePath, CorruptState, DiskError, NotEnoughSpace, ReadOnly: as `update`.
        """
        check_overrides(overrides)

        def change(stored: JsonObject) -> None:
            stored.pop("version_ranges", None)
            stored.update(overrides)

        self._save(model_id, OVERRIDES, change)

    def _save(self, model_id: str, name: str, change: Callable[[JsonObject], None]) -> JsonObject:
        folder = self.folder(model_id)
        with contextlib.suppress(OSError):
            remove_stale_temporaries(folder)
        value = json_file.update(folder / name, self._lock, change)
        follow(self._index.refresh, [model_id])
        return value


def check_overrides(overrides: JsonObject) -> None:
    """Raise InvalidInput unless each `version_ranges` value is null or a version specifier.

    https://packaging.python.org/en/latest/specifications/version-specifiers/
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    ranges: object = overrides.get("version_ranges")
    if ranges is None:
        return
    if not isinstance(ranges, dict):
        raise InvalidInput("version_ranges", "must be an object: app id -> version specifier")
    for app, specifier in cast(dict[object, object], ranges).items():
        if specifier is None:
            continue
        field = f"version_ranges.{str(app)[:100]}"
        if not isinstance(specifier, str):
            raise InvalidInput(field, "must be text such as '>=0.4,<0.9'")
        try:
            SpecifierSet(specifier)
        except InvalidSpecifier:
            raise InvalidInput(field, "must be a version specifier such as '>=0.4,<0.9'") from None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One element of `files` in the metadata. `size` is None and digests are "" when nobody wrote them down.

    `claimed` is the SHA-256 that the name of the file in another program's store gave: nobody here hashed the bytes.
    """

    name: str
    size: int | None
    sha256: str
    blake3: str
    claimed: str = ""


def file_entries(metadata: JsonObject) -> list[FileEntry]:
    """The usable entries of `files`; what is not of that form is left out."""
    files: object = metadata.get("files")
    found: list[FileEntry] = []
    for value in cast(list[object], files) if isinstance(files, list) else []:
        if not isinstance(value, dict):
            continue
        entry = cast(dict[str, object], value)
        name, size = entry.get("name"), entry.get("size")
        if isinstance(name, str) and name:
            known_size = size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
            digests = [digest_text(entry.get(key)) for key in ("sha256", "blake3", "claimed_sha256")]
            found.append(FileEntry(name, known_size, *digests))
    return found


def digest_text(value: object) -> str:
    """A 256-bit digest in lower-case hex, or "" for anything else."""
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if _DIGEST.fullmatch(text) else ""
