"""An import service over a folder of its own, and a job that is only what it must be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from library.model_disk import DiskIndex, tree
from pumas.config import Layout
from pumas.library.import_plan import ImportRequest
from pumas.library.importing import ImportService
from pumas.library.staging import Staging
from pumas.storage.json_file import StateLock


class Job:
    """Remembers what it was told; `stop` is raised at the given number of checks."""

    def __init__(self, job_id: str = "import-1", checkpoint: dict[str, Any] | None = None) -> None:
        self.job_id = job_id
        self.checkpoint: dict[str, Any] = checkpoint or {}
        self.reports: list[tuple[str, int, int]] = []
        self.on_check: Callable[[], None] = lambda: None
        self.on_save: Callable[[dict[str, Any]], None] = lambda _state: None

    def check(self) -> None:
        self.on_check()

    def report(self, *, stage: str, done: int, total: int, item: str = "", unit: str = "bytes") -> None:
        self.reports.append((stage, done, total))

    def save_checkpoint_sync(self, state: dict[str, Any]) -> None:
        self.checkpoint = orjson.loads(orjson.dumps(state))
        self.on_save(self.checkpoint)

    @property
    def stages(self) -> list[str]:
        return list(dict.fromkeys(stage for stage, _done, _total in self.reports))


class Setup:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(root / "launcher")
        self.library = self.layout.library
        self.library.mkdir(parents=True)
        self.user = root / "user"
        self.user.mkdir()
        self.index = DiskIndex(self.library)
        self.staging = Staging(self.library, self.layout.staging)
        self.service = ImportService(self.layout, StateLock(self.layout.state_lock), self.staging, self.index)

    def run(self, *requests: ImportRequest, job: Job | None = None) -> list[dict[str, Any]]:
        outcome = self.service.run_sync(job or Job(), self.service.job_params(requests))
        assert outcome["imported"] + outcome["failed"] == len(outcome["results"]) == len(requests)
        assert outcome["success"] is (outcome["failed"] == 0)
        return outcome["results"]

    def one(self, path: Path, job: Job | None = None, **options: Any) -> dict[str, Any]:
        (result,) = self.run(ImportRequest(str(path), **options), job=job)
        return result

    def metadata(self, model_id: str) -> dict[str, Any]:
        return json.loads((self.library / model_id / "metadata.json").read_bytes())

    def files(self, model_id: str) -> dict[str, str]:
        """The model's files but for the two of ours."""
        found = tree(self.library / model_id)
        return {name: digest for name, digest in found.items() if name not in ("metadata.json", "overrides.json")}

    def staged(self) -> list[str]:
        return sorted(tree(self.layout.staging))
