"""Whether the hub has something newer than a model that we hold: its files' digests decide, not the commit alone.

Most commits change a model card. A file that we hold is compared by SHA-256 with what the hub lists now: by our own, or
for an adopted one by what its store says. The hub gives none for small files: these are told apart by their sizes,
which proves nothing when they are equal. Nothing here asks the hub or reads a disk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import cast

from pumas.hub.model import HubModel, is_commit
from pumas.library.metadata import FileEntry, digest_text, file_entries
from pumas.storage.json_file import JsonObject


class Drift(StrEnum):
    """`same_files`: newer commits, but none changed a file that we hold. `newer`: one did. `unknown`: nothing to go by.

    `gone`: the hub does not show the repository any more. `unasked`: the hub could not be asked, or not yet.
    """

    CURRENT = "current"
    SAME_FILES = "same_files"
    NEWER = "newer"
    UNKNOWN = "unknown"
    GONE = "gone"
    UNASKED = "unasked"


@dataclass(frozen=True, slots=True)
class HeldModel:
    """A model of the library that came from the hub. `revision` is the commit, `""` when it was not recorded."""

    model_id: str
    repo_id: str
    revision: str
    files: tuple[FileEntry, ...] = ()

    @classmethod
    def of(cls, model_id: str, repo_id: str, metadata: JsonObject) -> HeldModel:
        adoption: object = metadata.get("adoption")
        told = [
            metadata.get("revision"),
            cast(JsonObject, adoption).get("revision") if isinstance(adoption, dict) else "",
        ]
        commit = next((text for text in told if isinstance(text, str) and is_commit(text)), "")
        files = [replace(file, sha256=file.sha256 or file.claimed) for file in file_entries(metadata)]
        hashes = metadata.get("hashes")
        primary: object = metadata.get("primary_file")
        if isinstance(hashes, dict) and not any(file.sha256 for file in files):
            # Older sidecars kept one digest, that of the primary file.
            digest = digest_text(hashes.get("sha256"))  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType] - JSON
            name = primary if isinstance(primary, str) else max(files, key=lambda f: f.size or 0).name if files else ""
            files = [FileEntry(name, None, digest, "")] if digest and name else []
        return cls(model_id, repo_id, commit, tuple(files))


@dataclass(frozen=True, slots=True)
class DriftReport:
    """`changed` are files of ours that the hub has in another form now, `removed` those that it has no more."""

    held: HeldModel
    state: Drift
    upstream: str = ""
    upstream_date: str = ""
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    error: str = ""
    error_code: str = ""
    stale: bool = False


def compare(held: HeldModel, upstream: HubModel, *, stale: bool = False) -> DriftReport:
    """What became of the files that we hold in the repository as it is now."""
    changed, removed, proven = _differences(held, upstream)
    if held.revision == upstream.commit:
        state, changed, removed = Drift.CURRENT, [], []
    elif changed or removed:
        state = Drift.NEWER
    elif proven:
        state = Drift.SAME_FILES
    else:
        state = Drift.NEWER if held.revision else Drift.UNKNOWN
    return DriftReport(
        held, state, upstream.commit, upstream.last_modified, tuple(changed), tuple(removed), stale=stale
    )


def _differences(held: HeldModel, upstream: HubModel) -> tuple[list[str], list[str], bool]:
    """(changed, removed, whether any file could be compared). A file that was only moved or renamed is neither."""
    digests = {file.sha256 for file in upstream.files if file.sha256}
    large = {file.path.rpartition("/")[2].lower() for file in upstream.files if file.sha256}
    names = {file.path.rpartition("/")[2].lower() for file in upstream.files}
    # Without a commit of ours, a small file of the same name may never have been the hub's.
    small = {file.path: file.size for file in upstream.files if not file.sha256} if held.revision else {}
    changed: list[str] = []
    removed: list[str] = []
    proven = False
    for file in held.files:
        name = file.name.rpartition("/")[2].lower()
        if file.size is not None and small.get(file.name, file.size) != file.size:
            changed.append(file.name)
            continue
        if not file.sha256:
            continue
        if file.sha256 in digests:
            proven = True
        elif name in large:
            changed.append(file.name)
        elif name not in names and _is_weights(name):
            removed.append(file.name)
    return changed, removed, proven or bool(changed or removed)


def _is_weights(name: str) -> bool:
    from pumas.hub.kinds import format_of

    return bool(format_of(name))
