"""A download without a sidecar: the real engine, files, staging and HTTP client over the test hub."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fixtures.hub import Generated, Hub, HubContent, Options, Repo
from fixtures.hub.repositories import TOKENS
from library.importing_setup import Job
from library.model_disk import DiskIndex
from pumas.config import Layout
from pumas.downloads.bandwidth import Bandwidth
from pumas.downloads.downloading import Download, Tools
from pumas.downloads.meter import Meter
from pumas.downloads.plan import DownloadPlan, DownloadRequest
from pumas.downloads.schedule import Gate
from pumas.downloads.space import Space
from pumas.downloads.wanted import WantedFile
from pumas.hub.client import HubClient
from pumas.library.holdings import Holdings
from pumas.library.metadata import ModelMetadata
from pumas.library.publishing import Publisher
from pumas.library.service import LibraryParts
from pumas.library.staging import Staging
from pumas.library.trash import Trash
from pumas.net.client import NetworkClient
from pumas.storage.json_file import StateLock

MIB = 1 << 20
REPO = "maker/model"


class DownloadJob(Job):
    """`done` is what was reported last."""

    done = 0


def repository(files: Mapping[str, Any], repo_id: str = REPO) -> HubContent:
    repo = Repo(repo_id, "text-generation", "transformers", "mit")
    repo.commit(dict(files))
    return HubContent.of(repo, users=TOKENS)


def one_file(size: int, name: str = "weights.safetensors") -> HubContent:
    return repository({"config.json": b'{"model_type": "llama"}', name: Generated(size, 3)})


class Setup:
    """One library, one hub, one client whose waits are short."""

    def __init__(self, root: Path, hub: Hub, patience_s: float = 3.0) -> None:
        self.hub = hub
        self.layout = Layout(root / "launcher")
        self.library = self.layout.library
        self.library.mkdir(parents=True)
        self.index = DiskIndex(self.library)
        lock = StateLock(self.layout.state_lock)
        staging = Staging(self.library, self.layout.staging)
        self.parts = LibraryParts(
            self.index,
            staging,
            Publisher(self.library, lock, staging, self.index),
            ModelMetadata(self.library, lock, self.index),
            Trash(self.library, self.layout.trash, lock, self.index),
            Holdings(self.library, self.index),
        )
        self.network = NetworkClient(sleep=lambda seconds: time.sleep(min(seconds, 0.01)))
        self.client = HubClient(self.network, {"HF_ENDPOINT": hub.url, "HOME": str(root), "HF_TOKEN": "hf_granted"})
        self.bandwidth, self.gate = Bandwidth(), Gate()
        self.space = Space(self.library)
        self.patience_s = patience_s
        self.meter = Meter([])

    def plan(self, repo_id: str = REPO, **wishes: Any) -> DownloadPlan:
        """Everything in the repository, without asking the hub's API."""
        commit = self.hub.content.repos[repo_id].at("main")
        assert commit is not None
        files = tuple(
            WantedFile(path, file.size, file.sha256 if file.lfs else None, file.blob_id)
            for path, file in commit.files.items()
        )
        return DownloadPlan(
            DownloadRequest(repo_id, **wishes),
            repo_id,
            commit.id,
            self.client.page_url(repo_id),
            "",
            files,
            tuple(file.path for file in files if file.sha256),
            {"family": "llama", "repo_id": repo_id, "revision": commit.id, "match_source": "hf"},
        )

    def download(self, plan: DownloadPlan | None = None, job: Job | None = None, **wishes: Any) -> dict[str, Any]:
        plan = DownloadPlan.from_json(json.loads(json.dumps((plan or self.plan(**wishes)).to_json())))
        job = job or DownloadJob("download-1")
        self.meter = Meter([(file.path, file.size) for file in plan.files])
        tools = Tools(
            self.layout,
            self.parts,
            self.client,
            self.network,
            self.bandwidth,
            self.gate,
            self.space,
            self.patience_s,
        )
        return Download(tools, job, plan, self.meter).run()

    def files(self, model_id: str) -> dict[str, bytes]:
        """The model's files, without the library's own."""
        folder = self.library / model_id
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return {
            name: path.read_bytes() for name, path in found.items() if name not in ("metadata.json", "overrides.json")
        }

    def expected(self, repo_id: str = REPO) -> dict[str, bytes]:
        commit = self.hub.content.repos[repo_id].at("main")
        assert commit is not None
        return {
            path: file.data if isinstance(file.data, bytes) else file.data.read() for path, file in commit.files.items()
        }

    def models(self) -> list[str]:
        """Every folder of the library that holds metadata, dot folders aside."""
        found = self.library.rglob("metadata.json")
        return sorted(p.parent.relative_to(self.library).as_posix() for p in found if ".staging" not in p.parts)

    def staged(self) -> list[str]:
        """Everything in staging."""
        root = self.layout.staging
        return sorted(p.relative_to(root).as_posix() for p in root.rglob("*")) if root.is_dir() else []

    def close(self) -> None:
        self.network.close()


class Stopper:
    """Raises `error` in the job's checks from the moment `when` first holds."""

    def __init__(self, job: Job, error: Exception, when: Callable[[], bool]) -> None:
        self._error, self._when = error, when
        self._stopped = threading.Event()
        job.on_check = self._check

    def _check(self) -> None:
        if self._stopped.is_set() or self._when():
            self._stopped.set()
            raise self._error


__all__ = ["MIB", "REPO", "DownloadJob", "Options", "Setup", "Stopper", "one_file", "os", "repository"]
