"""Model files that lie outside the library: what the metadata says of them, and whether they are there now.

An adopted model may own no bytes: `references` in its `metadata.json` names the files in another program's store. This
module reads that key, which may come from anywhere, and looks at the files with `stat` alone; it never opens or changes
one. Who writes the key is `adoption/`; who asks is `reconcile.py` (the state in the index) and `verify.py` (where to
read).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import cast

from pumas.errors import UnsafePath
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import caller_path, contained, relative_path

REFERENCES = "references"
_MAX_REFERENCES = 10_000


class Storage(StrEnum):
    """Who holds a model's bytes: `owned` ours alone; `hardlink`, `reflink` shared with the program that the model was
    adopted from; `reference` that program alone."""

    OWNED = "owned"
    HARDLINK = "hardlink"
    REFLINK = "reflink"
    REFERENCE = "reference"


class State(StrEnum):
    """`missing`: its owner removed a file. `offline`: the drive or the whole store is away and may come back."""

    OK = "ok"
    MISSING = "missing"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Reference:
    """One file outside: `name` is the one it has in the model, `path` absolute, `size` in bytes.

    `store` is the root of the program's store, `mount` where the volume was mounted: what must be there for a missing
    file to mean that its owner removed it.
    """

    name: str
    path: str
    size: int
    mtime_ns: int
    store: str
    mount: str

    def to_json(self) -> JsonObject:
        return asdict(self)

    def state(self) -> State:
        """Looked up now."""
        try:
            return State.OK if stat.S_ISREG(os.stat(self.path).st_mode) else State.MISSING
        except (FileNotFoundError, NotADirectoryError):
            away = not os.path.isdir(self.store) or not os.path.ismount(self.mount)
            return State.OFFLINE if away else State.MISSING
        except OSError:
            # A network drive that does not answer, a folder that may not be entered now: not gone.
            return State.OFFLINE


def references(value: object) -> list[Reference]:
    """The usable elements of the metadata's `references`; what is not of that form is left out."""
    found: list[Reference] = []
    for item in cast(list[object], value)[:_MAX_REFERENCES] if isinstance(value, list) else []:
        if isinstance(item, dict):
            fields = cast(JsonObject, item)
            texts = [fields.get(key) for key in ("name", "path", "store", "mount")]
            numbers = [fields.get(key) for key in ("size", "mtime_ns")]
            if all(isinstance(t, str) for t in texts) and all(type(n) is int and n >= 0 for n in numbers):
                reference = Reference(**{key: fields[key] for key in Reference.__slots__})
                if _usable(reference):
                    found.append(reference)
    return found


def _usable(reference: Reference) -> bool:
    try:
        relative_path(reference.name)
        for path in (reference.path, reference.store, reference.mount):
            if caller_path(path) != Path(path):
                return False
    except UnsafePath:
        return False
    return True


def state_of(found: Iterable[Reference]) -> State:
    """The worst of the files: one that is gone for good counts more than one that is away."""
    states = {reference.state() for reference in found}
    return next((state for state in (State.MISSING, State.OFFLINE) if state in states), State.OK)


def file_path(folder: Path, outside: dict[str, Reference], name: str) -> Path:
    """Where the bytes of a model's file are. Raises UnsafePath for a name that would leave the folder."""
    reference = outside.get(name)
    return contained(folder, name, "file name") if reference is None else Path(reference.path)


def mount_of(path: Path) -> str:
    """The mount point of the volume that `path` lies on."""
    real = Path(os.path.realpath(path))
    return str(next(folder for folder in (real, *real.parents) if os.path.ismount(folder) or folder == folder.parent))
