"""Which repository a file on disk is from: digests prove it, names only suggest it, and the answer says which it was.

The file's size rules out most candidates, so it is hashed only when some file on the hub has exactly its size, and then
once. Nothing here asks the hub or hashes: `service.py` brings the candidates and the digest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pumas.hub import kinds, names
from pumas.hub.metadata import TYPE_OF_TASK, describe, family
from pumas.hub.model import HUB, HubFile, HubListing, HubModel
from pumas.hub.selection import Choice
from pumas.library.formats.families import ModelType
from pumas.library.formats.reader import OpenedFile, open_regular
from pumas.library.hashing import Stamp
from pumas.storage.paths import caller_path

CANDIDATES: Final = 5
"""Repositories that are looked into."""
_PIECE: Final = 8 * 1024 * 1024
_DISPROVED: Final = 0.5
"""What a likeness of names is worth at most when the bytes are known to be others."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of the user's. `fast_hash` is the SHA-256 of its size and its first and last 8 MiB: it proves nothing."""

    path: Path
    stamp: Stamp
    fast_hash: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A repository that the file may be from; `model` once its files' digests were asked for."""

    listing: HubListing
    likeness: float
    model: HubModel | None = None

    def of_size(self, size: int) -> list[HubFile]:
        return [file for file in self.model.files if file.sha256 and file.size == size] if self.model else []

    def of_name(self, filename: str) -> HubFile | None:
        lowered = names.original(filename).lower()
        files = self.model.files if self.model else ()
        return next((file for file in files if file.path.rpartition("/")[2].lower() == lowered), None)


@dataclass(frozen=True, slots=True)
class Match:
    """`method`: `hash` is proof, `filename_exact` and `filename_fuzzy` are likeness of names (0.0 to 1.0).

    `hash_mismatch`: the repository lists a file of this name, and its bytes are others. `pending`: the file is still
    being hashed (`job_id`), so a later call may know more. `expected` is the hub's digest, `sha256` the file's own.
    """

    candidate: Candidate
    method: str
    confidence: float
    matched: str = ""
    expected: str = ""
    hash_mismatch: bool = False
    pending: bool = False
    job_id: str | None = None
    sha256: str = ""

    @property
    def requires_confirmation(self) -> bool:
        return self.method != "hash" and (self.confidence < names.PLAUSIBLE or self.hash_mismatch)


def read_local(file_path: str) -> LocalFile:
    """Raises UnsafePath for a path that is not absolute, FileUnavailable for anything but a regular file."""
    path = caller_path(file_path, "file_path")
    with open_regular(path) as file:
        return LocalFile(path, Stamp.of(os.fstat(file.fd)), _fast_hash(file))


def _fast_hash(file: OpenedFile) -> str:
    digest = hashlib.sha256(file.size.to_bytes(8))
    for start in (0, max(_PIECE, file.size - _PIECE)):
        if start < file.size:
            digest.update(file.pread(min(_PIECE, file.size - start), start))
    return digest.hexdigest()


def ranked(filename: str, listings: Iterable[HubListing]) -> list[Candidate]:
    """The repositories that are worth a look, most alike first, more downloaded before less."""
    found = [Candidate(listing, names.likeness(filename, listing.repo_id, listing.paths)) for listing in listings]
    worth = [one for one in found if one.likeness >= names.NOT_WORTH_SHOWING]
    return sorted(worth, key=lambda one: (-one.likeness, -(one.listing.downloads or 0), one.listing.repo_id))


def to_look_into(filename: str, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that can hold the file: they list one with its extension. At most `CANDIDATES`."""
    suffix = kinds.extension(filename)
    fitting = [one for one in candidates if any(kinds.extension(path) == suffix for path in one.listing.paths)]
    return fitting[:CANDIDATES]


def match(
    filename: str, candidates: Sequence[Candidate], local: LocalFile | None, sha256: str, job_id: str | None = None
) -> Match | None:
    """The best that can be said. `sha256` is the file's digest, `""` when it is not (yet) known.

    Candidates come most alike first.
    """
    if local is not None and sha256:
        for candidate in candidates:
            for file in candidate.of_size(local.stamp.size):
                if file.sha256 == sha256:
                    return Match(candidate, "hash", 1.0, file.path, sha256, sha256=sha256)
    if not candidates:
        return None
    best = candidates[0]
    named = best.of_name(filename)
    found = Match(
        best,
        "filename_exact" if best.likeness > names.EXACT else "filename_fuzzy",
        round(best.likeness, 4),
        matched=named.path if named else "",
        expected=(named.sha256 or "") if named else "",
        pending=job_id is not None or (local is None and bool(named and named.sha256)),
        job_id=job_id,
        sha256=sha256,
    )
    if local is None or named is None or named.sha256 is None:
        return found
    others = named.size != local.stamp.size or (bool(sha256) and sha256 != named.sha256)
    if not others:
        return found
    # The same name with other bytes: another revision, or a damaged copy. A name that was proven wrong is no exact one.
    return replace(
        found, hash_mismatch=True, method="filename_fuzzy", confidence=min(found.confidence, _DISPROVED), pending=False
    )


def described(found: Match, filename: str, local: LocalFile | None) -> dict[str, object]:
    """The match in the words that clients read (`HfMatch`)."""
    listing, model = found.candidate.listing, found.candidate.model
    if model is not None:
        said = describe(model, Choice(model.files, (), None, 0))
    else:
        model_type = TYPE_OF_TASK.get(listing.pipeline_tag, ModelType.LLM)
        said = {"model_type": str(model_type), "family": family(listing, model_type, ""), "description": ""}
    return {
        "repo_id": listing.repo_id,
        "official_name": listing.name,
        "family": said["family"],
        "model_type": said["model_type"],
        "subtype": "",
        "variant": names.variant(filename),
        "precision": names.precision(filename),
        "tags": list(listing.tags),
        "base_model": next(iter(listing.base_model), ""),
        "download_url": f"{HUB}/{listing.repo_id}",
        "description": said["description"],
        "license": listing.license,
        "gated": bool(listing.gated),
        "revision": listing.commit,
        "match_confidence": found.confidence,
        "match_method": found.method,
        "requires_confirmation": found.requires_confirmation,
        "hash_mismatch": found.hash_mismatch,
        "matched_filename": found.matched,
        "pending_full_verification": found.pending,
        "fast_hash": local.fast_hash if local else "",
        "expected_sha256": found.expected,
        "sha256": found.sha256,
        "job_id": found.job_id,
    }
