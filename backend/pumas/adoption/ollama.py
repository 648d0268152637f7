"""Reads Ollama's store: `manifests/<registry>/<namespace>/<model>/<tag>` and `blobs/sha256-<hex>`.

A manifest is a small JSON document in the form of OCI image manifests
(https://github.com/opencontainers/image-spec/blob/main/manifest.md) whose layers name blobs by digest. What a manifest
says becomes part of a path only after it was matched against 64 hex digits. A blob's name claims its SHA-256.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import cast

from pumas.adoption.found import (
    MAX_MODELS,
    LimitReached,
    Look,
    Store,
    StoredFile,
    StoredModel,
    StoreKind,
    stored,
)
from pumas.storage.paths import slug

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_BLOB = re.compile(r"sha256-([0-9a-f]{64})")
_LAYER = "application/vnd.ollama.image."
_DEFAULT_REGISTRY, _DEFAULT_NAMESPACE = "registry.ollama.ai", "library"
_HUBS = frozenset({"hf.co", "huggingface.co"})
# What a layer becomes beside the model; other kinds (messages, parts of a model) make no file.
_NAMES = {
    "model": "{stem}.gguf",
    "projector": "mmproj-{stem}.gguf",
    "adapter": "adapter-{stem}.gguf",
    "license": "LICENSE",
    "template": "template.txt",
    "system": "system.txt",
    "params": "params.json",
}
_MAX_LAYERS = 1000


def read_store(look: Look, root: str) -> Store:
    """`root` is the folder with `manifests` and `blobs`."""
    store = Store(StoreKind.OLLAMA, root)
    try:
        _tell_partial(look, store)
        for path, parts in _manifests(look, store, f"{root}/manifests", ()):
            if len(store.models) >= MAX_MODELS:
                raise LimitReached
            model = _model(look, store, path, parts)
            if model is not None:
                store.models.append(model)
    except LimitReached:
        store.truncated = True
    return store


def _manifests(look: Look, store: Store, folder: str, parts: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(path, (registry, namespace, model, tag)) of each manifest."""
    for entry in look.names(store, folder):
        if entry.name.startswith("."):
            continue
        if len(parts) == 3:
            if entry.is_file(follow_symlinks=False):
                yield entry.path, (*parts, entry.name)
            else:
                store.problem(entry.path, "special_file", "A manifest must be a regular file.")
        elif entry.is_dir(follow_symlinks=False):
            yield from _manifests(look, store, entry.path, (*parts, entry.name))


def _model(look: Look, store: Store, path: str, parts: tuple[str, ...]) -> StoredModel | None:
    try:
        layers = look.manifest(path).get("layers")
    except (ValueError, RecursionError):
        store.problem(path, "bad_manifest", "The manifest is damaged or too large.")
        return None
    except OSError as error:
        store.problem(path, "unreadable", f"{os.strerror(error.errno or 0)}.")
        return None
    registry, namespace, model, tag = parts
    stem = slug(model if tag == "latest" else f"{model}-{tag}", "model")
    files: list[StoredFile] = []
    for layer in cast(list[object], layers)[:_MAX_LAYERS] if isinstance(layers, list) else []:
        file = _file(look, store, path, stem, cast(dict[str, object], layer) if isinstance(layer, dict) else {})
        if file is not None and file.name not in {other.name for other in files}:
            files.append(file)
    if not any(file.name == _NAMES["model"].format(stem=stem) for file in files):
        store.problem(path, "incomplete", "None of its layers is a model file that is here.")
        return None
    short = model if namespace == _DEFAULT_NAMESPACE else f"{namespace}/{model}"
    known = short if registry == _DEFAULT_REGISTRY else f"{registry}/{namespace}/{model}"
    return StoredModel(
        kind=StoreKind.OLLAMA,
        store=store.path,
        name=f"{known}:{tag}",
        title=stem,
        files=tuple(files),
        repo_id=f"{namespace}/{model}" if registry in _HUBS else None,
        refs=(tag,),
    )


def _file(look: Look, store: Store, manifest: str, stem: str, layer: dict[str, object]) -> StoredFile | None:
    kind, digest, size = (layer.get(key) for key in ("mediaType", "digest", "size"))
    if not isinstance(kind, str) or not kind.startswith(_LAYER):
        return None
    name = _NAMES.get(kind.removeprefix(_LAYER))
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if name is None:
        return None
    if match is None:
        store.problem(manifest, "bad_manifest", "A layer's digest is not one.")
        return None
    path = f"{store.path}/blobs/sha256-{match[1]}"
    status = look.regular(store, path)
    if status is None:
        return None
    if status.st_size != size:
        store.problem(path, "wrong_size", "The blob is not as large as its manifest says.")
        return None
    return stored(name.format(stem=stem), path, status, match[1])


def _tell_partial(look: Look, store: Store) -> None:
    folder = f"{store.path}/blobs"
    names = [entry.name for entry in look.names(store, folder)] if os.path.isdir(folder) else []
    partial = {name[:71] for name in names if _BLOB.match(name) and "-partial" in name[71:]}
    if partial:
        store.problem(folder, "incomplete", f"{len(partial)} blobs were not downloaded to the end.")
