"""One file that a download must bring, and how to tell that what arrived is it.

The hub names large files by the SHA-256 of their bytes and all others by git's id of a blob, the SHA-1 of a short
header and the bytes (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects). Nothing here touches network or disk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pumas.errors import InvalidInput
from pumas.jobs.store import Json
from pumas.storage.paths import relative_path

# No repository is known to hold a file near this size; more is a hub that errs or lies.
LARGEST_FILE = 1 << 47
_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_OID = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class WantedFile:
    """`path` in the repository, which is also its path in the model; `size` in bytes; digests in lower-case hex.

    `sha256` is None for files that the hub keeps in git itself.
    """

    path: str
    size: int
    sha256: str | None
    git_oid: str

    def __post_init__(self) -> None:
        """
        Raises:
            UnsafePath: the path cannot be one of a model's file.
            InvalidInput: the size or a digest is impossible.
        """
        relative_path(self.path, "file")
        if not 0 <= self.size <= LARGEST_FILE:
            raise InvalidInput("file", f"the hub gives {self.path} an impossible size")
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise InvalidInput("file", f"the hub gives {self.path} a digest that is none")
        if self.sha256 is None and not _GIT_OID.fullmatch(self.git_oid):
            raise InvalidInput("file", f"the hub gives {self.path} no digest, so it could not be verified")

    @property
    def expected(self) -> str:
        """The digest that decides."""
        return self.sha256 or self.git_oid

    def digest(self, sha256: str, pieces: Iterable[memoryview | bytes]) -> str:
        """The digest to compare with `expected`; `pieces`, the bytes once more, are read only where git names it."""
        return sha256 if self.sha256 is not None else git_blob_id(self.size, pieces)

    def to_json(self) -> Json:
        return {"path": self.path, "size": self.size, "sha256": self.sha256, "git_oid": self.git_oid}

    @classmethod
    def from_json(cls, value: Json) -> WantedFile:
        return cls(value["path"], value["size"], value["sha256"], value["git_oid"])


def git_blob_id(size: int, pieces: Iterable[memoryview | bytes]) -> str:
    """Git's name for these `size` bytes."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
