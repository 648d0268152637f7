"""What the library holds already, by content: so that nothing is kept twice that nobody wants twice.

Answers from the index and the models' own metadata; opens no model file. What is done about a duplicate is decided by
imports and downloads.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pumas.errors import PumasError
from pumas.library.index import Index
from pumas.library.metadata import METADATA, FileEntry, file_entries, model_folder
from pumas.library.publishing import size_of
from pumas.storage import json_file
from pumas.storage.paths import contained

# A file by what it is: SHA-256 in lower-case hex, size in bytes.
Held = tuple[str, int]


class Holdings:
    """Calls block; they come from worker threads."""

    def __init__(self, library: Path, index: Index) -> None:
        self._library = library
        self._index = index

    def model_with(self, weights: Iterable[Held]) -> str | None:
        """A model that has all these files on disk; the largest of them is taken for its primary one."""
        wanted = set(weights)
        primary = max(wanted, key=lambda file: (file[1], file[0]))
        for model_id in self._index.find_by_sha256(primary[0]):
            if wanted <= self._files_of(model_id, primary):
                return model_id
        return None

    def copy_of(self, file: Held) -> Path | None:
        """A file of the library with this content, as far as metadata and size tell."""
        for model_id in self._index.find_by_sha256(file[0]):
            folder, entries = self._entries(model_id)
            for entry in entries:
                if entry.sha256 == file[0] and size_of(folder, entry.name) == file[1]:
                    return contained(folder, entry.name)
        return None

    def _files_of(self, model_id: str, primary: Held) -> set[Held]:
        """The files that the model really has on disk; empty for one that is gone or damaged.

        Older sidecars hashed the primary file only: its digest counts for the file of its size.
        """
        folder, entries = self._entries(model_id)
        sizes = {entry: size_of(folder, entry.name) for entry in entries}
        return {
            (entry.sha256 or (primary[0] if size == primary[1] else ""), size)
            for entry, size in sizes.items()
            if size is not None
        }

    def _entries(self, model_id: str) -> tuple[Path, list[FileEntry]]:
        try:
            folder = model_folder(self._library, model_id)
            return folder, file_entries(json_file.load(folder / METADATA).value or {})
        except PumasError:
            return self._library, []
