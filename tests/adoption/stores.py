"""Other programs' stores for tests, laid out as those programs do it, and the scanner over them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from library.model_disk import DiskIndex, gguf, sha256, write
from pumas.adoption.found import Store, StoredModel
from pumas.adoption.locations import Surroundings
from pumas.adoption.scan import Scan, Scanner
from pumas.config import Layout

COMMIT = "a" * 40


def git_id(data: bytes) -> str:
    """The name of a small file's blob: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def hf_file(cache: Path, repo_id: str, name: str, data: bytes, *, commit: str = COMMIT, large: bool = True) -> Path:
    """One file of a snapshot, as `hf_hub_download` leaves it: a relative link to a blob named by its etag."""
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    blob = write(repo / "blobs" / (sha256(data) if large else git_id(data)), data)
    link = repo / "snapshots" / commit / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    write(repo / "refs" / "main", commit.encode())
    return blob


def ollama_model(root: Path, name: str, data: bytes, *, extra: dict[str, bytes] | None = None, **manifest: Any) -> Path:
    """One model as `ollama pull` leaves it. `name` is `registry/namespace/model/tag`."""
    layers: list[dict[str, Any]] = []
    for kind, content in {"model": data, **(extra or {})}.items():
        digest = sha256(content)
        write(root / "blobs" / f"sha256-{digest}", content)
        layers.append(
            {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": len(content)}
        )
    value = {"schemaVersion": 2, "config": {"digest": f"sha256:{'0' * 64}", "size": 1}, "layers": layers, **manifest}
    write(root / "manifests" / name, json.dumps(value).encode())
    return root / "blobs" / f"sha256-{sha256(data)}"


def environment(home: Path) -> dict[str, str]:
    """Nothing of the machine that the tests run on."""
    empty = dict.fromkeys(("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "OLLAMA_MODELS", "PUMAS_ROOT"), "")
    return {**empty, "HOME": str(home), "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": "", "XDG_DATA_HOME": str(home / "d")}


class World:
    """A home folder, a launcher with a library, and a scanner that sees nothing else of the machine."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.home = root / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.layout = Layout(root / "launcher")
        self.library = self.layout.library
        self.library.mkdir(parents=True, exist_ok=True)
        self.index = DiskIndex(self.library)
        self.environment = environment
        self.scanner = Scanner(self.layout, self.index, self.around)

    def around(self) -> Surroundings:
        return Surroundings(self.environment, self.home, self.layout, system=self.home.parent / "system")

    @property
    def cache(self) -> Path:
        return self.home / ".cache" / "huggingface" / "hub"

    @property
    def ollama(self) -> Path:
        return self.home / ".ollama" / "models"

    @property
    def lm_studio(self) -> Path:
        return self.home / ".lmstudio" / "models"

    def scan(self, *folders: Path, known: bool = True) -> Scan:
        return self.scanner.scan(folders, known=known)


def only(scan: Scan) -> StoredModel:
    (model,) = scan.models()
    return model


def kinds(store: Store) -> list[str]:
    return sorted(problem.kind for problem in store.problems)


def names(models: Sequence[StoredModel]) -> list[str]:
    return sorted(model.name for model in models)


__all__ = [
    "COMMIT",
    "World",
    "environment",
    "gguf",
    "hf_file",
    "kinds",
    "names",
    "ollama_model",
    "only",
    "sha256",
    "write",
]
