"""What one folder of the library holds: the stamps by which a change is seen, the row it makes, what is wrong in it.

A reading is plain values: `readers.py` makes them in processes of their own when there are many to make. Whether a
folder is read at all, and what its reading means for the index, is decided in `reconcile.py`.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from pumas.errors import CorruptState, PumasError
from pumas.library.entry import (
    DamagedMetadata,
    FoundFile,
    IndexEntry,
    from_files,
    from_metadata,
    is_model_file,
    primary_file,
)
from pumas.library.formats.shards import PIPELINE_INDEX
from pumas.library.references import REFERENCES, Storage, references, state_of
from pumas.storage import json_file
from pumas.storage.files import TEMP_SUFFIX, remove_stale_temporaries
from pumas.storage.json_file import JsonObject

METADATA: Final = "metadata.json"
OVERRIDES: Final = "overrides.json"
_BACKUP: Final = f"{METADATA}.bak"
# Folders that are models by their files alone lie at least this deep: `<type>/<family>/…`.
_LEAST_DEPTH = 2
_MAX_DERIVED_FILES = 10_000

# Type, subtype, family as a model file's content tells them, "" where it does not.
Identify = Callable[[Path], tuple[str, str, str]]
Stamp = tuple[int, int, int]


class Reading(NamedTuple):
    """`stamp` is mtime (ns), size and inode of the file `witness`; `damage` says what is wrong with the metadata.

    `overrides_damage` says it of `overrides.json`, as far as that changed together with the folder or the metadata.
    `loose`: model files that belong to no model, because the folder is one for models. In such a folder, `linked` are
    links to folders outside of the library, `broken` those that lead to nothing that can be read.
    """

    mtime_ns: int
    inode: int
    folders: list[str]
    odd_names: list[str]
    has_metadata: bool
    witness: str
    stamp: Stamp
    entry: IndexEntry | None
    damage: str
    overrides_damage: str
    loose: bool
    linked: list[str]
    broken: list[str]


class _Listing(NamedTuple):
    folders: list[str]
    odd_names: list[str]
    links: list[str]
    model_files: list[os.DirEntry[str]]
    has_metadata: bool
    has_overrides: bool
    has_diffusers: bool
    has_temporaries: bool


def identify_file(path: Path) -> tuple[str, str, str]:
    """Type, subtype and family as the file's content tells them, "" where it does not."""
    from pumas.library.formats.families import ModelType
    from pumas.library.formats.identify import identify

    found = identify(path)
    return "" if found.model_type is ModelType.UNKNOWN else found.model_type.value, found.subtype, found.family


def read_folder(root: str, path: str, inside: int, identify: Identify = identify_file) -> Reading:
    """Read the folder `path` of the library `root`. `inside`: a folder above it is a model, so it is none by its files.

    Raises:
        OSError: it is gone, or something of it cannot be read now.
    """
    full = f"{root}/{path}" if path else root
    status = _folder_status(full, path)
    listing = _list(full)
    if listing.has_temporaries:
        # A write that was killed left it; a read-only library keeps it.
        with contextlib.suppress(OSError):
            remove_stale_temporaries(Path(full))
    witness, stamp, entry, damage, loose = "", (0, 0, 0), None, "", False
    if path and listing.has_metadata:
        # Whatever the file holds, a folder with metadata is a model: what is below it is not taken for others.
        witness, stamp = METADATA, _stamp_of(full, METADATA)
        entry, damage = _described(path, full, listing, identify)
    elif not inside and path.count("/") + 1 < _LEAST_DEPTH:
        loose = bool(listing.model_files)
    elif not inside and (listing.model_files or listing.has_diffusers):
        derived = _derive(path, full, listing, identify)
        if derived is not None:
            entry, primary = derived
            witness, stamp = primary.name, _stamp_of(full, primary.name)
    # What is linked inside of a model is the model's own affair, as folders inside of it are.
    is_for_models = not inside and entry is None and not (path and listing.has_metadata)
    linked, broken = _followed(root, full, listing.links) if is_for_models and listing.links else ([], [])
    return Reading(
        status.st_mtime_ns, status.st_ino, listing.folders, listing.odd_names, listing.has_metadata,
        witness, stamp, entry, damage, _overrides_damage(full) if entry and listing.has_overrides else "", loose,
        linked, broken,
    )  # fmt: skip


def _folder_status(full: str, path: str) -> os.stat_result:
    """Links are followed to the library itself, not below it. Raises OSError, also for what is no folder."""
    status = os.stat(full, follow_symlinks=not path)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(20, "not a folder")
    return status


def _followed(root: str, full: str, links: Iterable[str]) -> tuple[list[str], list[str]]:
    """Which links lead to folders outside of the library, and which to nothing that can be read."""
    linked: list[str] = []
    broken: list[str] = []
    library = os.path.join(os.path.realpath(root), "")
    for name in sorted(links):
        link = f"{full}/{name}"
        try:
            is_folder = stat.S_ISDIR(os.stat(link).st_mode)
        except OSError:
            broken.append(name)
            continue
        if is_folder and not os.path.join(os.path.realpath(link), "").startswith(library):
            linked.append(name)
    return linked, broken


def load_metadata(full: str) -> tuple[JsonObject, str | None]:
    """The metadata of a model folder, and why its backup had to be used.

    Raises:
        OSError: it is there and may be good, but cannot be read now.
        CorruptState: neither file can be used.
    """
    path = f"{full}/{METADATA}"
    try:
        return json_file.parse_object(path), None
    except (FileNotFoundError, IsADirectoryError, ValueError):
        loaded = json_file.load(Path(path))
        return loaded.value or {}, loaded.recovered


def _described(path: str, full: str, listing: _Listing, identify: Identify) -> tuple[IndexEntry | None, str]:
    """The row of a folder with metadata, and what is wrong with that."""
    try:
        metadata, recovered = load_metadata(full)
        entry = from_metadata(path, metadata)
        if entry.storage == Storage.REFERENCE:
            entry = entry._replace(state=state_of(references(metadata.get(REFERENCES))).value)
    except (CorruptState, DamagedMetadata) as error:
        reason = str(error) if isinstance(error, DamagedMetadata) else "it and its backup are not usable JSON"
        derived = _derive(path, full, listing, identify)
        return derived[0] if derived else None, f"{reason}; repair it or remove it"
    return entry, f"{recovered}; its backup is used instead" if recovered else ""


def _overrides_damage(full: str) -> str:
    """What is wrong with the model's `overrides.json`; most are sound and cost one short read."""
    path = f"{full}/{OVERRIDES}"
    try:
        json_file.parse_object(path)
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            try:
                recovered = json_file.load(Path(path)).recovered
            except CorruptState:
                return "it and its backup are not usable JSON; repair it or remove it"
            return f"{recovered}; its backup is used instead" if recovered else ""
    return ""


def _derive(path: str, full: str, listing: _Listing, identify: Identify) -> tuple[IndexEntry, FoundFile] | None:
    """The row of a folder without metadata, and its primary file."""
    files = _sizes(listing.model_files)
    if listing.has_diffusers:
        files = files + _files_below(full)
    primary = primary_file(files)
    if primary is None:
        return None
    identity = ("", "", "")
    # A header that cannot be read says nothing; the path still does.
    with contextlib.suppress(PumasError, OSError, ValueError):
        identity = identify(Path(full, primary.name))
    try:
        modified = os.stat(f"{full}/{primary.name}").st_mtime
    except OSError:
        return None
    return from_files(path, files, modified, identity), primary


def _stamp_of(full: str, name: str) -> Stamp:
    """Taken before the file is read, so that a change in between is seen next time."""
    try:
        status = os.stat(f"{full}/{name}")
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _list(full: str) -> _Listing:
    """Names in one folder. Of files only links and model files are kept, so that a million others cost no memory.

    What an entry is, the listing itself tells on nearly all file systems.
    """
    folders: list[str] = []
    odd: list[str] = []
    links: list[str] = []
    files: list[os.DirEntry[str]] = []
    has_metadata = has_overrides = has_diffusers = has_temporaries = False
    with os.scandir(full) as entries:
        for entry in entries:
            name = entry.name
            if name == OVERRIDES:
                has_overrides = True
            if entry.is_dir(follow_symlinks=False):
                if name.startswith("."):
                    continue
                (folders if _usable(name) else odd).append(name)
                continue
            if entry.is_symlink() and not name.startswith("."):
                links.append(name)
            if name in (METADATA, _BACKUP):
                has_metadata = True
            elif name == PIPELINE_INDEX:
                has_diffusers = True
            elif is_model_file(name) and len(files) < _MAX_DERIVED_FILES and _usable(name):
                files.append(entry)
            elif name.endswith(TEMP_SUFFIX):
                has_temporaries = True
    return _Listing(folders, odd, links, files, has_metadata, has_overrides, has_diffusers, has_temporaries)


def _usable(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _sizes(entries: Iterable[os.DirEntry[str]]) -> list[FoundFile]:
    found: list[FoundFile] = []
    for entry in entries:
        with contextlib.suppress(OSError):
            status = entry.stat()
            if stat.S_ISREG(status.st_mode):
                found.append(FoundFile(entry.name, status.st_size))
    return found


def _files_below(folder: str) -> list[FoundFile]:
    """Model files in the folders below one, named relative to it; bounded."""
    found: list[FoundFile] = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and _usable(name))
        if base == folder:
            continue
        for name in sorted(names):
            if is_model_file(name) and _usable(name):
                with contextlib.suppress(OSError):
                    status = os.stat(f"{base}/{name}")
                    if stat.S_ISREG(status.st_mode):
                        found.append(FoundFile(os.path.relpath(f"{base}/{name}", folder), status.st_size))
        if len(found) >= _MAX_DERIVED_FILES:
            break
    return found
