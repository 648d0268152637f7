"""What a scan finds in other programs' stores, and the bounded look at folders that nobody has vouched for.

Only names, `stat` and small JSON manifests are used: no model file is opened here. Links are followed only where the
caller of a function says so, names that are not UTF-8 are reported and left out, special files are never touched.
Neighbours: one reader per kind of store (`huggingface.py`, `ollama.py`, `trees.py`) fills these values.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pumas import json_text
from pumas.library.entry import extension, is_model_file
from pumas.library.formats.quantization import parse_quantization
from pumas.library.formats.shards import is_projector
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import MAX_ABSOLUTE_BYTES, display_name

# A folder is listed whole before it is sorted, so this bounds memory too.
MAX_ENTRIES: Final = 300_000
MAX_MODELS: Final = 20_000
MAX_PROBLEMS: Final = 500
MAX_MANIFEST_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 16
_CHECK_EVERY = 256

SHA256: Final = re.compile(r"[0-9a-f]{64}")


class StoreKind(StrEnum):
    """`lm_studio` and `folder` are trees of `owner/repo/file`; `webui` is A1111's and Forge's `models`."""

    HUGGINGFACE = "huggingface"
    OLLAMA = "ollama"
    LM_STUDIO = "lm_studio"
    COMFYUI = "comfyui"
    WEBUI = "webui"
    PUMAS = "pumas"
    FOLDER = "folder"


# Files that their program names by their content and replaces, but never writes into.
WRITE_ONCE: Final = frozenset({StoreKind.HUGGINGFACE, StoreKind.OLLAMA})


@dataclass(frozen=True, slots=True)
class StoredFile:
    """`name` is the one it should have in a model, `path` where the bytes are, links resolved; `shown` is where the
    program shows them, with a name that says what they are. `links` counts the names (hard links) that the bytes have.
    `claimed_sha256` is what the store says, "" when it does not."""

    name: str
    path: str
    shown: str
    size: int
    mtime_ns: int
    device: int
    inode: int
    links: int
    claimed_sha256: str = ""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One model of a store. `name` is the store's own; with `revision` (a commit) it is unique there.

    At least one of `files` has weights. `title` is for people; `subtype`, `family` and `model_type` are what the
    store's folders or notes say. `problem` is why it cannot be adopted as it is, "" when it can.
    """

    kind: StoreKind
    store: str
    name: str
    title: str
    files: tuple[StoredFile, ...]
    repo_id: str | None = None
    revision: str | None = None
    refs: tuple[str, ...] = ()
    subtype: str = ""
    family: str = ""
    model_type: str = ""
    problem: str = ""

    @property
    def id(self) -> str:
        """The same in every scan, whatever else the store holds."""
        text = "\0".join((self.kind, self.store, self.name, self.revision or ""))
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def weights(self) -> tuple[StoredFile, ...]:
        return tuple(file for file in self.files if is_model_file(os.path.basename(file.name)))

    @property
    def primary(self) -> StoredFile:
        return max(self.weights, key=lambda file: (not is_projector(file.name), file.size, file.name))

    @property
    def format(self) -> str:
        """By the file's name alone; "" when it has no ending."""
        ending = extension(self.primary.name) if "." in self.primary.name else ""
        return "pickle" if ending in ("ckpt", "pt", "pth", "bin") else ending

    @property
    def quantization(self) -> str:
        found = parse_quantization(f"{self.name}/{self.primary.name}")
        return found.token if found else ""


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` is relative to the store. `kind`: `broken_link`, `incomplete`, `unreadable`, `outside`, `special_file`,
    `bad_manifest`, `unusable_name`, `unused`, `link_to_folder`, `limit`, `not_a_store`, `wrong_size`."""

    path: str
    kind: str
    message: str


@dataclass(slots=True)
class Store:
    """One store with what is in it. `truncated`: a limit was reached, so there is more."""

    kind: StoreKind
    path: str
    models: list[StoredModel] = field(default_factory=list[StoredModel])
    problems: list[Problem] = field(default_factory=list[Problem])
    more_problems: int = 0
    truncated: bool = False

    def problem(self, path: str, kind: str, message: str) -> None:
        """`path` absolute, below the store or not; shown relative to it where it is."""
        if len(self.problems) >= MAX_PROBLEMS:
            self.more_problems += 1
            return
        shown = os.path.relpath(path, self.path) if path.startswith(self.path) else os.path.basename(path)
        self.problems.append(Problem(display_name(shown), kind, message))


class LimitReached(Exception):
    """There is more than a scan looks at."""


class Look:
    """The limits of one scan over all its stores, and the only way in which readers list, stat and read."""

    def __init__(self, check: Callable[[], None] = lambda: None, entries: int = MAX_ENTRIES) -> None:
        """`check` is called now and then and raises to stop the scan."""
        self._check = check
        self._left = entries
        self.seen = 0

    def names(self, store: Store, folder: str) -> list[os.DirEntry[str]]:
        """What is in a folder, sorted by name, without what cannot be named in UTF-8. [] when it cannot be read.

        Raises:
            LimitReached: this and everything before was more than a scan looks at.
        """
        found: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._count()
                    if is_text(entry.name) and len(entry.path) < MAX_ABSOLUTE_BYTES:
                        found.append(entry)
                    else:
                        store.problem(entry.path, "unusable_name", "Its name is not UTF-8 or its path too long.")
        except OSError as error:
            store.problem(folder, "unreadable", f"{os.strerror(error.errno or 0)}.")
        return sorted(found, key=lambda entry: entry.name)

    def _count(self) -> None:
        self.seen += 1
        if self.seen % _CHECK_EVERY == 0:
            self._check()
        if self.seen > self._left:
            raise LimitReached

    def regular(self, store: Store, path: str, *, follow: bool = False) -> os.stat_result | None:
        """What `stat` says of a regular file; None, with the problem noted, for anything else."""
        try:
            status = os.stat(path, follow_symlinks=follow)
        except FileNotFoundError:
            store.problem(path, "broken_link", "It leads to a file that is not there.")
        except OSError as error:
            store.problem(path, "unreadable", f"{os.strerror(error.errno or 0)}.")
        else:
            if stat.S_ISREG(status.st_mode):
                return status
            store.problem(path, "special_file", "It is no regular file and was not opened.")
        return None

    def manifest(self, path: str) -> JsonObject:
        """A small JSON object. Raises ValueError, or OSError when it cannot be read."""
        value: object = json_text.loads(self.text(path))
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value  # pyright: ignore[reportUnknownVariableType] - an object of JSON

    def text(self, path: str) -> bytes:
        """A small file. Raises ValueError for one that is too large or no regular file, OSError."""
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise ValueError("not a regular file")
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_MANIFEST_BYTES:
                raise ValueError("not a small regular file")
            data = file.read(MAX_MANIFEST_BYTES + 1)
        if len(data) > MAX_MANIFEST_BYTES:
            raise ValueError("too large")
        return data


def stored(name: str, path: str, status: os.stat_result, claimed: str = "", *, shown: str = "") -> StoredFile:
    times, place = (status.st_size, status.st_mtime_ns), (status.st_dev, status.st_ino, status.st_nlink)
    return StoredFile(name, path, shown or path, *times, *place, claimed)


def is_text(name: str) -> bool:
    """Whether a name from disk can go onto the wire and into JSON."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in name
