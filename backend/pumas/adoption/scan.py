"""One look at all stores: where they are, what they hold, what of it we have, which bytes exist more than once.

Blocks, for worker threads; opens no model file. The readers know the stores, `duplicates.py` compares; how a model
comes in is `adopting.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pumas.adoption.duplicates import LIBRARY, Duplicates, Piece, find
from pumas.adoption.found import Look, Store, StoredModel, StoreKind
from pumas.adoption.huggingface import read_cache
from pumas.adoption.locations import Location, Surroundings, known_locations, locations_in, own_versions
from pumas.adoption.ollama import read_store
from pumas.adoption.trees import read_tree
from pumas.config import Layout
from pumas.errors import PumasError
from pumas.library.index import Index
from pumas.library.metadata import METADATA, file_entries
from pumas.library.references import REFERENCES, file_path, references
from pumas.storage import json_file
from pumas.storage.json_file import JsonObject


@dataclass(frozen=True, slots=True)
class Scan:
    """`in_library` says for ids of stored models which model of the library has all their bytes already."""

    stores: tuple[Store, ...]
    in_library: dict[str, str]
    duplicates: Duplicates
    seconds: float

    def models(self) -> Iterator[StoredModel]:
        for store in self.stores:
            yield from store.models


class Scanner:
    """The stores of one machine as one library sees them."""

    def __init__(self, layout: Layout, index: Index, around: Callable[[], Surroundings] | None = None) -> None:
        self._layout = layout
        self._index = index
        self._around = around or (lambda: Surroundings.real(layout))

    def scan(self, folders: Sequence[Path], *, known: bool, check: Callable[[], None] = lambda: None) -> Scan:
        """Look at the stores in `folders`, and with `known` at those where programs keep theirs.

        Args:
            check: called now and then; raises to stop.
        """
        started = time.perf_counter()
        look = Look(check)
        stores = tuple(self.read(look, location) for location in self._locations(folders, known=known))
        models = [model for store in stores for model in store.models]
        ours = list(self._ours(models, self._index.duplicated(), check))
        duplicates = find([*_pieces(models), *(piece for _id, piece in ours)])
        held = _held(models, ours)
        return Scan(self._finds(stores, held), held, duplicates, time.perf_counter() - started)

    def read(self, look: Look, location: Location) -> Store:
        """One store."""
        if location.kind is StoreKind.HUGGINGFACE:
            return read_cache(look, location.path)
        if location.kind is StoreKind.OLLAMA:
            return read_store(look, location.path)
        return read_tree(look, location.kind, location.path)

    def holder(self, model: StoredModel) -> str | None:
        """The model of the library that has all bytes of this one, or claims to."""
        return _held([model], self._ours([model])).get(model.id)

    def _locations(self, folders: Sequence[Path], *, known: bool) -> list[Location]:
        found = [location for folder in folders for location in locations_in(folder)]
        found += known_locations(self._around()) if known else []
        own = os.path.realpath(self._layout.library)
        distinct = {location.path: location for location in reversed(found)}
        return [location for location in reversed(distinct.values()) if not Path(location.path).is_relative_to(own)]

    def _finds(self, stores: Sequence[Store], held: dict[str, str]) -> tuple[Store, ...]:
        """Without what our own versions of an app have from the library: that is no other program's."""
        own = os.path.realpath(own_versions(self._layout))
        ours = [store for store in stores if Path(store.path).is_relative_to(own)]
        for store in ours:
            store.models = [model for model in store.models if model.id not in held]
        return tuple(store for store in stores if store not in ours or store.models or store.problems)

    # -- our own library ---------------------------------------------------------------------------------------------

    def _ours(
        self, models: Sequence[StoredModel], also: Iterable[str] = (), check: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[str, Piece]]:
        """Files of our models that may be like one in a store, by their sizes, and those of the models `also`."""
        ids = set(also)
        for size in {model.primary.size for model in models}:
            ids.update(self._index.find_by_size(size))
        for number, model_id in enumerate(sorted(ids)):
            if number % 64 == 0:
                check()
            folder = self._layout.library / model_id
            try:
                metadata = json_file.parse_object(folder / METADATA)
            except (OSError, ValueError):
                continue
            yield from ((model_id, piece) for piece in library_pieces(folder, model_id, metadata))


def library_pieces(folder: Path, model_id: str, metadata: JsonObject) -> Iterator[Piece]:
    """The files of one of our models that are there now."""
    outside = {reference.name: reference for reference in references(metadata.get(REFERENCES))}
    clones = _cloned_from(metadata)
    hashes: object = metadata.get("hashes")
    of_model = cast(JsonObject, hashes).get("sha256") if isinstance(hashes, dict) else None
    for entry in file_entries(metadata):
        try:
            path = os.path.realpath(file_path(folder, outside, entry.name))
            status = os.stat(path)
        except (PumasError, OSError):
            continue
        sha256 = entry.sha256
        if not sha256 and entry.name == metadata.get("primary_file") and isinstance(of_model, str):
            sha256 = of_model
        same = clones.get(entry.name) or (status.st_dev, status.st_ino)
        yield Piece(LIBRARY, model_id, entry.name, path, status.st_size, same, sha256 or entry.claimed, bool(sha256))


def _cloned_from(metadata: JsonObject) -> dict[str, tuple[int, int]]:
    """A clone has an inode of its own but shares its blocks: it counts as what it was cloned from, while that is
    unchanged."""
    found: dict[str, tuple[int, int]] = {}
    adoption: object = metadata.get("adoption")
    if metadata.get("storage") != "reflink" or not isinstance(adoption, dict):
        return found
    files: object = cast(JsonObject, adoption).get("files")
    for item in cast(list[object], files) if isinstance(files, list) else []:
        fields = cast(JsonObject, item) if isinstance(item, dict) else {}
        name, path = fields.get("name"), fields.get("path")
        try:
            status = os.stat(path) if isinstance(path, str) else None
        except (OSError, ValueError):
            continue
        if (
            status
            and isinstance(name, str)
            and (status.st_size, status.st_mtime_ns)
            == (
                fields.get("size"),
                fields.get("mtime_ns"),
            )
        ):
            found[name] = (status.st_dev, status.st_ino)
    return found


def _pieces(models: Iterable[StoredModel]) -> Iterator[Piece]:
    for model in models:
        for file in model.files:
            same = (file.device, file.inode)
            yield Piece(model.store, model.name, file.name, file.path, file.size, same, file.claimed_sha256)


def _held(models: Iterable[StoredModel], ours: Iterable[tuple[str, Piece]]) -> dict[str, str]:
    """Id of a stored model -> the model of ours whose files have all its bytes, or claim to."""
    by_bytes: dict[tuple[int, int], set[str]] = {}
    by_digest: dict[tuple[int, str], set[str]] = {}
    for model_id, piece in ours:
        by_bytes.setdefault(piece.bytes_id, set()).add(model_id)
        if piece.sha256:
            by_digest.setdefault((piece.size, piece.sha256), set()).add(model_id)
    held: dict[str, str] = {}
    for model in models:
        owners: set[str] | None = None
        for file in model.weights:
            same = by_bytes.get((file.device, file.inode), set()) | by_digest.get(
                (file.size, file.claimed_sha256), set()
            )
            owners = same if owners is None else owners & same
        if owners:
            held[model.id] = min(owners)
    return held
