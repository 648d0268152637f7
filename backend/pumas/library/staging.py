"""Where a model is put together before it is shown: `.staging/<id>/`, private, on the library's own volume.

`.staging/<id>.json` says who owns the folder and since when. It is written before the folder is made and removed after
it, so a folder of ours is never without an owner, and clean-up removes only what such a file names. Staging never holds
the only copy of anything: imports copy or link into it. What older sidecars left behind may be an only copy (they moved
the user's files into `.tmp_import_*`), so it is listed by `leftovers` and never touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pumas.errors import CorruptState, UnsafePath
from pumas.jobs.store import now
from pumas.storage import json_file
from pumas.storage.files import disk_errors, fsync_folder, make_folders, remove_stale_temporaries, write_durably
from pumas.storage.owner import process_start_time
from pumas.storage.paths import contained

MODEL = "model"
_MARKER_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class Leftover:
    """`path` is relative to the library. `kind`: `older_import`, `older_download` or `unknown_staging`."""

    path: str
    kind: str
    message: str


class Staging:
    """The staging folders of one library."""

    def __init__(self, library: Path, root: Path) -> None:
        """`root` is the folder that holds them all (`Layout.staging`); it is made when first needed."""
        self._library = library
        self._root = root

    def folder(self, staging_id: str) -> Path:
        return contained(self._root, staging_id, "staging_id")

    def model(self, staging_id: str) -> Path:
        """The folder that will be renamed into the library: the private one is its parent."""
        return self.folder(staging_id) / MODEL

    def open(self, staging_id: str, job_id: str, keep: Collection[str] = ()) -> Path:
        """Make the model folder of `staging_id`, or find it again for a job that goes on.

        Args:
            keep: names of the files in it that are known to be whole; whatever else a killed run left is removed, or it
                would be published with them.
        """
        with disk_errors("Preparing the staging folder"):
            make_folders(self._root, mode=0o700)
            write_durably(self._marker(staging_id), json_file.encode(_owner(job_id)), mode=0o600)
            folder = self.folder(staging_id)
            make_folders(folder, mode=0o700)
            make_folders(folder / MODEL)
            for path, _folders, names in os.walk(folder / MODEL):
                for name in names:
                    file = Path(path, name)
                    if file.relative_to(folder / MODEL).as_posix() not in keep:
                        file.unlink()
        return folder / MODEL

    def seal(self, staging_id: str) -> None:
        """Make every folder below the model folder durable; the files were synced when they were written."""
        with disk_errors("Syncing the staging folder"):
            for folder, _folders, _files in os.walk(self.model(staging_id), topdown=False):
                fsync_folder(Path(folder))
            fsync_folder(self.folder(staging_id))

    def discard(self, staging_id: str) -> None:
        """Remove the folder and then its marker. What cannot be removed now is removed by the next `sweep`.

        A link in the place of the folder leads elsewhere, so it stays, with its marker.
        """
        with contextlib.suppress(OSError, UnsafePath):
            _remove_tree(self.folder(staging_id))
            self._marker(staging_id).unlink(missing_ok=True)
            fsync_folder(self._root)

    def discard_job(self, job_id: str) -> None:
        for staging_id, owner in self._owned():
            if owner.get("job_id") == job_id:
                self.discard(staging_id)

    def sweep(self, is_open: Callable[[str], bool]) -> list[str]:
        """Remove the folders whose process is gone and whose job will not go on; returns their ids.

        Args:
            is_open: whether the job with this id can still be resumed, and so may want its files.
        """
        if not self._root.is_dir():
            return []
        removed: list[str] = []
        for staging_id, owner in list(self._owned()):
            if not _alive(owner) and not is_open(str(owner.get("job_id"))):
                self.discard(staging_id)
                removed.append(staging_id)
        with contextlib.suppress(OSError):
            remove_stale_temporaries(self._root)
        return removed

    def _marker(self, staging_id: str) -> Path:
        return contained(self._root, f"{staging_id}{_MARKER_SUFFIX}", "staging_id")

    def _owned(self) -> Iterator[tuple[str, json_file.JsonObject]]:
        """The folders with a marker that can be read; nothing else is ever removed."""
        for marker in _names(self._root):
            if not marker.endswith(_MARKER_SUFFIX):
                continue
            with contextlib.suppress(CorruptState):
                owner = json_file.load(self._root / marker).value
                if owner is not None and "job_id" in owner:
                    yield marker.removesuffix(_MARKER_SUFFIX), owner

    # -- what others left --------------------------------------------------------------------------------------------

    def leftovers(self) -> list[Leftover]:
        """Folders that may hold the only copy of a model: shown to the user, never removed by us."""
        return [*self._older_downloads(), *self._older_imports(), *self._unknown()]

    def _older_downloads(self) -> Iterator[Leftover]:
        for name in _names(self._library / ".downloads"):
            yield Leftover(
                f".downloads/{name}",
                "older_download",
                "An unfinished download of an older sidecar; look into it before you remove it.",
            )

    def _older_imports(self) -> Iterator[Leftover]:
        """Older sidecars staged in the library root or beside the final folder (type/family/.tmp_import_*)."""
        for folder in _folders_above_models(self._library):
            for name in _names(folder):
                if name.startswith(".tmp_import_"):
                    yield Leftover(
                        (folder / name).relative_to(self._library).as_posix(),
                        "older_import",
                        "An import of an older sidecar was cut off here; it may hold the only copy of the files. "
                        "Import the folder to keep them.",
                    )

    def _unknown(self) -> Iterator[Leftover]:
        owned = {staging_id for staging_id, _owner in self._owned()}
        for name in _names(self._root):
            if (self._root / name).is_dir() and name not in owned:
                yield Leftover(
                    f"{self._root.name}/{name}",
                    "unknown_staging",
                    "Nothing says who made this folder, so it was left alone; look into it before you remove it.",
                )


def _owner(job_id: str) -> json_file.JsonObject:
    return {
        "job_id": job_id,
        "pid": os.getpid(),
        "process_started": process_start_time(os.getpid()).timestamp(),
        "since": now(),
    }


def _alive(owner: json_file.JsonObject) -> bool:
    """Whether the process that made the folder still runs, as itself and not as a later one with its number.

    A process of this very sidecar counts as gone: `sweep` runs at start, before any import.
    """
    pid, started = owner.get("pid"), owner.get("process_started")
    if not isinstance(pid, int) or not isinstance(started, int | float) or pid == os.getpid():
        return False
    try:
        return abs(process_start_time(pid).timestamp() - started) < 2
    except (OSError, ValueError, OverflowError):
        return False


def _remove_tree(folder: Path) -> None:
    """Remove a folder without ever following a link (rmtree refuses a link at the top and does not enter others)."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _folders_above_models(library: Path) -> Iterator[Path]:
    yield library
    for kind in _plain_folders(library):
        yield kind
        yield from _plain_folders(kind)


def _plain_folders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = [e.path for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except OSError:
        return
    yield from (Path(path) for path in sorted(found))
