"""Reads a Hugging Face cache: which revisions of which repositories it holds, and where their bytes are.

Layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. A snapshot's files are links to `blobs/<etag>`
of the same repository; an etag of 64 hex digits is the file's SHA-256 (large files), one of 40 the git id of a small
one. Since huggingface-hub 2 a blob may itself be a link into the cache-wide store `<cache>/blobs/<2 digits>/<hash>`:
that hash is 64 hex digits too, but no SHA-256 of the file. Links are read, compared with these forms and never
followed.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from pumas.adoption.found import (
    MAX_DEPTH,
    MAX_MODELS,
    SHA256,
    LimitReached,
    Look,
    Store,
    StoredFile,
    StoredModel,
    StoreKind,
    is_text,
    stored,
)
from pumas.adoption.grouping import groups

_PREFIX = "models--"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:--[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MAX_REFS = 1000


@dataclass(frozen=True, slots=True)
class _Blob:
    path: str
    status: os.stat_result
    claimed: str


def read_cache(look: Look, root: str) -> Store:
    """`root` is the folder with the `models--…` folders."""
    store = Store(StoreKind.HUGGINGFACE, root)
    try:
        for entry in look.names(store, root):
            if entry.name.startswith(_PREFIX) and os.path.isdir(entry.path):
                # A repository that was moved to another drive and linked from here is the user's own doing.
                _Repository(look, store, os.path.realpath(entry.path), entry.name.removeprefix(_PREFIX)).read()
            if len(store.models) >= MAX_MODELS:
                raise LimitReached
    except LimitReached:
        store.truncated = True
    return store


class _Repository:
    def __init__(self, look: Look, store: Store, folder: str, name: str) -> None:
        self._look = look
        self._store = store
        self._folder = folder
        self._repo_id = name.replace("--", "/", 1) if _REPO.fullmatch(name) else None
        self._used: set[str] = set()
        self._blobs: dict[str, _Blob] = {}

    def read(self) -> None:
        if self._repo_id is None:
            self._store.problem(self._folder, "unusable_name", "Its name is not one that the hub allows.")
            return
        self._blobs = dict(self._read_blobs())
        refs = self._refs()
        snapshots = f"{self._folder}/snapshots"
        if not os.path.isdir(snapshots):
            return
        for entry in self._look.names(self._store, snapshots):
            if not _COMMIT.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
                self._store.problem(entry.path, "bad_manifest", "It is not named like a commit.")
                continue
            self._snapshot(entry.name, entry.path, tuple(sorted(refs.get(entry.name, ()))))
        self._tell_unused()

    def _snapshot(self, commit: str, folder: str, refs: tuple[str, ...]) -> None:
        files = list(self._files(folder, folder, 0))
        found = groups(files)
        assert self._repo_id is not None
        short = self._repo_id.rpartition("/")[2]
        for group in found:
            several = len(found) > 1 and group.stem
            self._store.models.append(
                StoredModel(
                    kind=StoreKind.HUGGINGFACE,
                    store=self._store.path,
                    name=f"{self._repo_id}/{group.stem}" if several else self._repo_id,
                    title=group.stem if several else short,
                    files=group.files,
                    repo_id=self._repo_id if "/" in self._repo_id else None,
                    revision=commit,
                    refs=refs,
                    problem=group.problem,
                )
            )

    def _read_blobs(self) -> Iterator[tuple[str, _Blob]]:
        folder = f"{self._folder}/blobs"
        unfinished = 0
        for entry in self._look.names(self._store, folder) if os.path.isdir(folder) else []:
            if entry.name.endswith(".incomplete"):
                unfinished += 1
            elif not _BLOB.fullmatch(entry.name):
                self._store.problem(entry.path, "unusable_name", "It is not named like a blob.")
            else:
                path = self._shared(entry.path) if entry.is_symlink() else entry.path
                status = self._look.regular(self._store, path) if path else None
                if path and status is not None:
                    claimed = entry.name if SHA256.fullmatch(entry.name) else ""
                    yield entry.name, _Blob(path, status, claimed)
        if unfinished:
            self._store.problem(self._folder, "incomplete", f"{unfinished} files were not downloaded to the end.")

    def _shared(self, link: str) -> str | None:
        """Where a blob that is a link keeps its bytes: in the cache-wide store, or the link is not used."""
        target = _target(link)
        shared = f"{self._store.path}/blobs"
        name = os.path.basename(target)
        if SHA256.fullmatch(name) and target == f"{shared}/{name[:2]}/{name}" and not os.path.islink(shared):
            return target
        self._store.problem(link, "outside", "The blob is a link that leads out of the cache; it was not followed.")
        return None

    def _refs(self) -> dict[str, set[str]]:
        """Commit -> names of the branches and tags that point to it."""
        found: dict[str, set[str]] = {}
        pending = [(f"{self._folder}/refs", "")]
        count = 0
        while pending:
            folder, prefix = pending.pop()
            for entry in self._look.names(self._store, folder) if os.path.isdir(folder) else []:
                count += 1
                if count > _MAX_REFS:
                    return found
                if entry.is_dir(follow_symlinks=False):
                    if prefix.count("/") < MAX_DEPTH:
                        pending.append((entry.path, f"{prefix}{entry.name}/"))
                    continue
                try:
                    commit = self._look.text(entry.path).decode().strip()
                except (OSError, ValueError):
                    commit = ""
                if _COMMIT.fullmatch(commit):
                    found.setdefault(commit, set()).add(prefix + entry.name)
                else:
                    self._store.problem(entry.path, "bad_manifest", "It names no commit.")
        return found

    def _files(self, top: str, folder: str, depth: int) -> Iterator[StoredFile]:
        for entry in self._look.names(self._store, folder):
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH:
                    yield from self._files(top, entry.path, depth + 1)
                else:
                    self._store.problem(entry.path, "limit", "It lies too deep.")
                continue
            name = entry.path[len(top) + 1 :]
            if not entry.is_symlink():
                # A cache on a file system without links holds the files themselves.
                status = self._look.regular(self._store, entry.path)
                if status is not None:
                    yield stored(name, entry.path, status)
                continue
            file = self._linked(name, entry.path)
            if file is not None:
                yield file

    def _linked(self, name: str, link: str) -> StoredFile | None:
        target = _target(link)
        blob_name = os.path.basename(target)
        if target != f"{self._folder}/blobs/{blob_name}":
            self._store.problem(link, "outside", "It leads out of the cache's blobs; it was not followed.")
            return None
        blob = self._blobs.get(blob_name)
        if blob is None:
            self._store.problem(link, "broken_link", "The blob that it leads to is not there.")
            return None
        self._used.add(blob_name)
        return stored(name, blob.path, blob.status, blob.claimed, shown=link)

    def _tell_unused(self) -> None:
        unused = [blob.status.st_size for name, blob in self._blobs.items() if name not in self._used]
        if unused:
            message = f"{len(unused)} blobs ({sum(unused):,} bytes) belong to no revision."
            self._store.problem(self._folder, "unused", message)


def _target(link: str) -> str:
    """Where a link says that it leads, without asking the disk any further; "" when it cannot be read."""
    try:
        if not stat.S_ISLNK(os.lstat(link).st_mode):
            return ""
        target = os.readlink(link)
    except OSError:
        return ""
    return os.path.normpath(os.path.join(os.path.dirname(link), target)) if is_text(target) else ""
