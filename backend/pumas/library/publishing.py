"""Give a staged model its place in the library: its metadata, one rename, the index.

Whoever staged the files (an import, a download) says what they are and keeps the checkpoint; nothing is fetched,
copied or hashed here. A model appears whole or not at all; what a killed process had published is recognised.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pumas.errors import AlreadyExists, PumasError
from pumas.library.index import Index, follow
from pumas.library.metadata import METADATA, OVERRIDES, file_entries, model_folder
from pumas.library.staging import Staging
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders, remove_if_empty, rename_new, write_durably
from pumas.storage.json_file import JsonObject, StateLock
from pumas.storage.paths import contained

# Publishing takes milliseconds, but may wait behind another job's fsync on a slow disk.
_LOCK_TIMEOUT_S = 60.0
_MAX_NAMES = 10_000


class Publisher:
    """Calls block; they come from worker threads."""

    def __init__(self, library: Path, lock: StateLock, staging: Staging, index: Index) -> None:
        self._library = library
        self._lock = lock
        self._staging = staging
        self._index = index

    def publish(
        self,
        staging_id: str,
        wanted_id: str,
        metadata: Callable[[str], JsonObject],
        overrides: JsonObject,
        *,
        announce: Callable[[str], None],
        require_new: Callable[[], None],
    ) -> str:
        """Rename the staged model to a free id and tell the index. Returns the id.

        Args:
            wanted_id: `type/family/name`; `-2` and so on is appended while it is taken.
            metadata: the content of `metadata.json` for an id.
            announce: called with the id before its rename, to keep it in a checkpoint.
            require_new: raises when another job has added the model meanwhile; called under the library's lock.

        Raises:
            AlreadyExists: no name is free.
            UnsafePath, DiskError, NotEnoughSpace, ReadOnly, and what the callables raise: nothing is published.
        """
        folder = self._staging.model(staging_id)
        for model_id in _free_ids(self._library, wanted_id):
            with disk_errors("Writing the metadata"):
                write_durably(folder / METADATA, json_file.encode(metadata(model_id)))
                write_durably(folder / OVERRIDES, json_file.encode(overrides))
            self._staging.seal(staging_id)
            announce(model_id)
            target = contained(self._library, model_id, "model_id")
            with self._lock.held(_LOCK_TIMEOUT_S), disk_errors(f"Adding {model_id} to the library"):
                require_new()
                made = make_folders(target.parent)
                try:
                    rename_new(folder, target)
                except AlreadyExists:
                    continue
                except BaseException:
                    remove_if_empty(made)
                    raise
                follow(self._index.refresh, [model_id])
            return model_id
        raise AlreadyExists(f"There are too many models named {wanted_id}; choose another name.")

    def finish_killed(self, staging_id: str, model_id: str, digests: Mapping[str, str]) -> bool:
        """Whether the announced rename happened before a kill; then the index learns of it.

        Staging gave the folder away, and the files with these SHA-256 `digests` (by name) are there.
        """
        if os.path.lexists(self._staging.model(staging_id)):
            return False
        try:
            folder = model_folder(self._library, model_id)
            entries = file_entries(json_file.load(folder / METADATA).value or {})
        except PumasError:
            return False
        whole = {entry.name: entry.sha256 for entry in entries if size_of(folder, entry.name) == entry.size}
        if whole != dict(digests):
            return False
        follow(self._index.refresh, [model_id])
        return True


def size_of(folder: Path, name: str) -> int | None:
    """Size of a file of a model in bytes, None when it is not there; `name` may come from anywhere."""
    with contextlib.suppress(PumasError, OSError):
        return contained(folder, name).stat().st_size
    return None


def _free_ids(library: Path, wanted: str) -> Iterator[str]:
    taken = _names_in((library / wanted).parent)
    for number in itertools.chain([""], (f"-{n}" for n in range(2, _MAX_NAMES))):
        model_id = f"{wanted}{number}"
        if _folded(model_id.rpartition("/")[2]) not in taken and not os.path.lexists(library / model_id):
            yield model_id


def _names_in(folder: Path) -> set[str]:
    """As systems see them that know no case: two models must not become one when the library is copied there."""
    with contextlib.suppress(OSError):
        return set(map(_folded, os.listdir(folder)))
    return set()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()
