"""Reads folders of model files with their own names: LM Studio, ComfyUI, A1111 and Forge, other Pumas libraries.

Links to files are followed, as people link one file into several programs; links to folders are not, but for the
folders right below the top (a drive full of checkpoints). A folder that some program marked as one model is one,
whatever lies below it; else each file or set of shards is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pumas.adoption.found import (
    MAX_DEPTH,
    MAX_MODELS,
    LimitReached,
    Look,
    Store,
    StoredFile,
    StoredModel,
    StoreKind,
    is_text,
    stored,
)
from pumas.adoption.grouping import Group, groups, is_marked, is_weights
from pumas.errors import NotAModel
from pumas.library.import_source import is_junk, require_downloaded
from pumas.library.metadata import METADATA, OWN_FILES, digest_text, file_entries
from pumas.library.references import REFERENCES
from pumas.storage.json_file import JsonObject

_METADATA_FORM = frozenset({"official_name", "model_type", "hashes", "cleaned_name", "model_id"})
# The folders of ComfyUI, A1111 and Forge, lower case, in this library's words for what lies in them.
SUBTYPES = {
    "checkpoints": "checkpoints",
    "stable-diffusion": "checkpoints",
    "loras": "loras",
    "lora": "loras",
    "lycoris": "loras",
    "vae": "vae",
    "vae_approx": "vae",
    "controlnet": "controlnet",
    "embeddings": "embeddings",
    "upscale_models": "upscale",
    "esrgan": "upscale",
    "realesrgan": "upscale",
    "clip": "clip",
    "text_encoders": "clip",
    "text_encoder": "clip",
}


def read_tree(look: Look, kind: StoreKind, root: str) -> Store:
    """Everything below `root`."""
    store = Store(kind, root)
    try:
        _Tree(look, store).folder(root, "", 0)
    except LimitReached:
        store.truncated = True
    return store


class _Tree:
    def __init__(self, look: Look, store: Store) -> None:
        self._look = look
        self._store = store

    def folder(self, path: str, relative: str, depth: int) -> None:
        """Add the models in one folder and in those below it."""
        entries = [entry for entry in self._look.names(self._store, path) if not is_junk(entry.name)]
        names = [entry.name for entry in entries]
        if METADATA in names and self._store.kind is StoreKind.PUMAS:
            self._pumas_model(path, relative)
            return
        if is_marked(names) and relative:
            files = list(self._below(entries, "", depth))
            if any(is_weights(file.name) for file in files):
                self._add(relative, groups(files))
                return
        here = [e for e in entries if is_weights(e.name) and not _is_folder(e)]
        self._add(relative, groups([file for entry in here if (file := self._file(entry, entry.name))]))
        for entry in entries:
            if _is_folder(entry) and self._enters(entry, depth):
                below = f"{relative}/{entry.name}" if relative else entry.name
                self.folder(entry.path, below, depth + 1)

    def _enters(self, entry: os.DirEntry[str], depth: int) -> bool:
        """Whether a folder is looked into."""
        linked = entry.is_symlink() and (depth > 0 or _is_around(self._store.path, entry.path))
        if linked:
            self._store.problem(entry.path, "link_to_folder", "A link to a folder is not followed; scan it by itself.")
        elif depth >= MAX_DEPTH:
            self._store.problem(entry.path, "limit", "It lies too deep.")
        return not linked and depth < MAX_DEPTH

    def _below(self, entries: list[os.DirEntry[str]], prefix: str, depth: int) -> Iterator[StoredFile]:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if depth < MAX_DEPTH and not is_junk(entry.name):
                    inside = self._look.names(self._store, entry.path)
                    yield from self._below(inside, f"{prefix}{entry.name}/", depth + 1)
            elif not is_junk(entry.name):
                file = self._file(entry, prefix + entry.name)
                if file is not None:
                    yield file

    def _file(self, entry: os.DirEntry[str], name: str) -> StoredFile | None:
        if is_weights(name):
            try:
                require_downloaded(Path(entry.path), entry.name)
            except NotAModel as error:
                self._store.problem(entry.path, "incomplete", str(error))
                return None
        if not entry.is_symlink():
            status = self._look.regular(self._store, entry.path)
            return None if status is None else stored(name, entry.path, status)
        if not is_weights(name):
            # What else a link might lead to is nobody's model.
            return None
        status = self._look.regular(self._store, entry.path, follow=True)
        real = os.path.realpath(entry.path)
        return stored(name, real, status, shown=entry.path) if status is not None and is_text(real) else None

    def _add(self, relative: str, found: list[Group]) -> None:
        for group in found:
            if len(self._store.models) >= MAX_MODELS:
                raise LimitReached
            name = "/".join(part for part in (relative, group.stem) if part)
            if group.stem and sum(other.stem == group.stem for other in found) > 1:
                name = "/".join(part for part in (relative, group.files[0].name) if part)
            parts = relative.split("/")
            by_owner = len(parts) == 2 and self._store.kind in (StoreKind.LM_STUDIO, StoreKind.FOLDER)
            self._store.models.append(
                StoredModel(
                    kind=self._store.kind,
                    store=self._store.path,
                    name=name,
                    title=group.stem or parts[-1],
                    files=group.files,
                    repo_id=relative if by_owner and self._store.kind is StoreKind.LM_STUDIO else None,
                    subtype=SUBTYPES.get(parts[0].lower(), "") if self._store.kind in _IMAGE_PROGRAMS else "",
                    model_type="diffusion" if SUBTYPES.get(parts[0].lower()) and _images(self._store) else "",
                    problem=group.problem,
                )
            )

    # -- another library of ours -------------------------------------------------------------------------------------

    def _pumas_model(self, path: str, relative: str) -> None:
        try:
            metadata = self._look.manifest(f"{path}/{METADATA}")
        except (OSError, ValueError, RecursionError):
            self._store.problem(path, "bad_manifest", "Its metadata cannot be read.")
            return
        if len(_METADATA_FORM & metadata.keys()) < 2:
            return
        if metadata.get(REFERENCES):
            self._store.problem(path, "outside", "It is only referenced there; adopt it from the store that has it.")
            return
        entries = [e for e in self._look.names(self._store, path) if e.name not in OWN_FILES and not is_junk(e.name)]
        claims = _claims(metadata)
        files = [
            replace(file, claimed_sha256=claims.get(file.name, ""))
            for file in self._below(entries, "", 0)
            if file.name.rpartition("/")[2] != METADATA
        ]
        if not any(is_weights(file.name) for file in files):
            self._store.problem(path, "incomplete", "None of its model files is there.")
            return
        text = {key: value for key, value in metadata.items() if isinstance(value, str)}
        self._store.models.append(
            StoredModel(
                kind=self._store.kind,
                store=self._store.path,
                name=relative,
                title=text.get("official_name") or relative.rpartition("/")[2],
                files=tuple(files),
                subtype=text.get("subtype", ""),
                family=text.get("family", ""),
                model_type=text.get("model_type", ""),
            )
        )


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder or leads to one; a link that leads to itself does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_around(path: str, link: str) -> bool:
    """Whether a link to a folder leads to `path` or to a folder that it lies in."""
    real = os.path.realpath(link)
    return os.path.commonpath((real, path)) == real


_IMAGE_PROGRAMS = frozenset({StoreKind.COMFYUI, StoreKind.WEBUI})


def _images(store: Store) -> bool:
    return store.kind in _IMAGE_PROGRAMS


def _claims(metadata: JsonObject) -> dict[str, str]:
    """File name -> SHA-256, of which only that library knows whether it hashed the bytes."""
    found = {entry.name: entry.sha256 for entry in file_entries(metadata) if entry.sha256}
    hashes: object = metadata.get("hashes")
    primary: object = metadata.get("primary_file")
    if isinstance(hashes, dict) and isinstance(primary, str):
        found.setdefault(primary, digest_text(hashes.get("sha256")))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return found
