"""The blocking side of adoption, for worker threads: finds, takes in, lists and gives back.

Loaded at the first use, as most runs never adopt anything; `service.py` has the jobs and the event loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pumas.adoption.adopting import Adopter, find_model
from pumas.adoption.found import Look, StoredModel
from pumas.adoption.locations import Surroundings, known_locations, locations_in
from pumas.adoption.planning import AdoptMode, AdoptRequest
from pumas.adoption.scan import Scan, Scanner
from pumas.adoption.store import Adoption, Journal
from pumas.adoption.undoing import Undoer, Undone
from pumas.adoption.values import ListedAdoption, Wanted
from pumas.config import Layout
from pumas.errors import InvalidInput, PumasError, StoredModelNotFound
from pumas.jobs.store import Json
from pumas.library.importing import Work
from pumas.library.metadata import METADATA
from pumas.library.references import REFERENCES, State, references, state_of
from pumas.library.service import LibraryParts
from pumas.storage import json_file
from pumas.storage.paths import caller_path


class AdoptionWork:
    """Every method blocks."""

    def __init__(
        self,
        layout: Layout,
        parts: LibraryParts,
        journal: Journal,
        around: Callable[[], Surroundings] | None = None,
    ) -> None:
        self._layout = layout
        self._journal = journal
        self._around = around or (lambda: Surroundings.real(layout))
        self._scanner = Scanner(layout, parts.index, self._around)
        self._adopter = Adopter(layout, self._scanner, journal, parts.staging, parts.publisher, parts.index)
        self._undoer = Undoer(layout.trash, parts.models, parts.trash, journal)

    def recover(self) -> None:
        """See `Adopter.recover`."""
        self._adopter.recover()

    def scan(self, folders: Sequence[str], *, known: bool, check: Callable[[], None]) -> Scan:
        """See `Scanner.scan`."""
        return self._scanner.scan([Path(folder) for folder in folders], known=known, check=check)

    def adopt(self, work: Work, requests: Sequence[Json]) -> Json:
        """See `Adopter.run`."""
        return self._adopter.run(work, [AdoptRequest.from_json(value) for value in requests])

    def undo(self, *, adoption_id: str | None, model_id: str | None, dry_run: bool) -> Undone:
        """See `Undoer.undo`."""
        return self._undoer.undo(adoption_id=adoption_id, model_id=model_id, dry_run=dry_run)

    # -- what to adopt -----------------------------------------------------------------------------------------------

    def requests(
        self, wanted: Sequence[Wanted], mode: str, folders: Sequence[str], scans: Iterable[Scan], *, dry_run: bool
    ) -> list[AdoptRequest]:
        """What is meant by `wanted`: found in `scans`, or by a new look.

        Raises:
            StoredModelNotFound, InvalidInput, UnsafePath: one of them cannot be found.
        """
        paths = given_folders(folders)
        ids = {one.id for one in wanted if one.id is not None}
        by_id = {model.id: model for scan in scans for model in scan.models() if model.id in ids}
        if ids - by_id.keys():
            fresh = self._scanner.scan(paths, known=True)
            by_id |= {model.id: model for model in fresh.models() if model.id in ids}
        return [self._request(one, by_id, AdoptMode(mode), dry_run=dry_run) for one in wanted]

    def _request(self, one: Wanted, by_id: dict[str, StoredModel], mode: AdoptMode, *, dry_run: bool) -> AdoptRequest:
        if one.id is None:
            request = self._by_name(one)
        elif one.id in by_id:
            model = by_id[one.id]
            request = AdoptRequest(model.kind, model.store, model.name, model.revision)
        else:
            raise StoredModelNotFound(one.id)
        return replace(
            request,
            mode=mode,
            official_name=one.official_name,
            family=one.family,
            model_type=one.model_type,
            subtype=one.subtype,
            tags=one.tags,
            security_acknowledged=one.security_acknowledged,
            allow_duplicate=one.allow_duplicate,
            dry_run=dry_run,
        )

    def _by_name(self, one: Wanted) -> AdoptRequest:
        if one.store is None or one.name is None:
            raise InvalidInput("items", "each needs the stored_id of a scan, or store and name")
        (folder,) = given_folders([one.store], "store")
        kinds = {location.path: location for location in known_locations(self._around())}
        for location in [kinds.get(found.path, found) for found in locations_in(folder)]:
            store = self._scanner.read(Look(), location)
            if any(model.name == one.name for model in store.models):
                model = find_model(store.models, one.name, one.revision)
                return AdoptRequest(location.kind, location.path, model.name, model.revision)
        raise StoredModelNotFound(one.name)

    # -- adoptions ---------------------------------------------------------------------------------------------------

    def adoptions(self, *, undone: bool, limit: int, offset: int) -> tuple[list[ListedAdoption], int]:
        """(newest first, number of all)."""
        rows, total = self._journal.list(undone=undone, limit=limit, offset=offset)
        return [self._listed(row) for row in rows], total

    def _listed(self, row: Adoption) -> ListedAdoption:
        try:
            if not self._adopter.holds(row):
                return ListedAdoption(row, False, State.OK)
            metadata = json_file.load(self._layout.library / row.model_id / METADATA).value or {}
        except PumasError:
            return ListedAdoption(row, False, State.OK)
        name = metadata.get("official_name")
        state = state_of(references(metadata.get(REFERENCES)))
        return ListedAdoption(row, True, state, name if isinstance(name, str) else "")


def given_folders(texts: Sequence[str], field: str = "folders") -> list[Path]:
    """Raises UnsafePath, InvalidInput."""
    paths = [caller_path(text, field) for text in texts]
    for path in paths:
        if not os.path.isdir(path):
            raise InvalidInput(field, f"{path.name[:100]} is no folder that can be looked into")
    return paths
