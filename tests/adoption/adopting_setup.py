"""An adopter and an undoer over a world of stores, with the real journal, staging, trash and verification."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from library.importing_setup import Job
from library.model_disk import DiskIndex, tree
from pumas.adoption.adopting import Adopter
from pumas.adoption.found import StoredModel
from pumas.adoption.planning import AdoptMode, AdoptRequest
from pumas.adoption.store import Journal
from pumas.adoption.undoing import Undoer, Undone
from pumas.library.metadata import ModelMetadata
from pumas.library.publishing import Publisher
from pumas.library.staging import Staging
from pumas.library.trash import Trash
from pumas.library.verify import VerifyService
from pumas.storage.database import Database, Schema
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles

from .stores import World


class Setup(World):
    def __init__(self, root: Path, **environment: str) -> None:
        super().__init__(root, **environment)
        lock = StateLock(self.layout.state_lock)
        self.staging = Staging(self.library, self.layout.staging)
        self.models = ModelMetadata(self.library, lock, self.index)
        self.trash = Trash(self.library, self.layout.trash, lock, self.index)
        self.database = Database(self.layout.adoptions_db, Schema.load("adoptions"), disposable=False)
        self.journal = Journal(self.database)
        publisher = Publisher(self.library, lock, self.staging, self.index)
        self.adopter = Adopter(self.layout, self.scanner, self.journal, self.staging, publisher, self.index)
        self.undoer = Undoer(self.layout.trash, self.models, self.trash, self.journal)
        self.troubles = Troubles()
        self.verify_service = VerifyService(self.layout, self.models, self.index, self.troubles)

    def adopt_all(
        self, *models: StoredModel, mode: str = "auto", job: Job | None = None, **options: Any
    ) -> list[dict[str, Any]]:
        requests = [
            AdoptRequest(m.kind, m.store, m.name, m.revision, AdoptMode(mode), **options)
            for m in models or self.scan().models()
        ]
        outcome = self.adopter.run(job or Job("adopt-1"), requests)
        assert outcome["adopted"] + outcome["failed"] == len(outcome["results"]) == len(requests)
        return outcome["results"]

    def adopt(self, model: StoredModel | None = None, **options: Any) -> dict[str, Any]:
        """The one model that the stores hold, or `model`."""
        (result,) = self.adopt_all(*([model] if model else []), **options)
        return result

    def adopted(self, model: StoredModel | None = None, **options: Any) -> str:
        """Its id; the adoption must succeed."""
        result = self.adopt(model, **options)
        assert result["success"], result
        return result["model_id"]

    def undo(self, model_id: str, *, dry_run: bool = False) -> Undone:
        return self.undoer.undo(adoption_id=None, model_id=model_id, dry_run=dry_run)

    def verify(self, *model_ids: str) -> dict[str, Any]:
        return self.verify_service.run_sync(Job("verify-1"), {"model_ids": list(model_ids) or None})

    def metadata(self, model_id: str) -> dict[str, Any]:
        return json.loads((self.library / model_id / "metadata.json").read_bytes())

    def own_files(self, model_id: str) -> list[str]:
        """What lies in the model's folder but for the two of ours."""
        return sorted(set(tree(self.library / model_id)) - {"metadata.json", "overrides.json"})

    def staged(self) -> list[str]:
        return sorted(tree(self.layout.staging))


def snapshot(folder: Path) -> dict[str, tuple[int, int, int, str]]:
    """Everything below a folder with identity, size, time and content: what must not change."""
    found: dict[str, tuple[int, int, int, str]] = {}
    digests = tree(folder)
    for path, _folders, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            status = os.lstat(full)
            relative = os.path.relpath(full, folder)
            found[relative] = (status.st_ino, status.st_size, status.st_mtime_ns, digests.get(relative, ""))
    return found


__all__ = ["DiskIndex", "Job", "Setup", "snapshot"]
