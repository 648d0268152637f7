"""A launcher root with a library, an app and everything that links them, over the real index and registry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from library.model_disk import make_model, safetensors, tree, write
from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.events.stream import EventStream
from pumas.library.library_index import LibraryIndex
from pumas.library.trash import Trash
from pumas.links.keeping import LinkKeeper
from pumas.links.store import LinkStore
from pumas.links.values import Applied, Plan, Resolution
from pumas.links.work import LinkWork
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles
from pumas.versions.state import VersionState

TAG = "v0.3.10"
APP = "comfyui"


def version(root: Path, tag: str = TAG) -> Path:
    """A version of ComfyUI with all that makes it whole."""
    folder = root / "comfyui-versions" / tag
    for name in ("main.py", "venv/bin/python"):
        write(folder / name, b"")
    return folder


class Setup:
    """Everything on one root; made again on the same root it is what a new start finds."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.library = self.layout.library
        self.troubles = Troubles()
        self.models = root / "comfyui-versions" / TAG / "models"
        if not (root / "comfyui-versions").exists():
            version(root)
        self.library.mkdir(parents=True, exist_ok=True)
        self.index = LibraryIndex(self.layout, EventStream(), self.troubles)
        self.store = LinkStore(self.layout, self.troubles)
        self.keeper = LinkKeeper(self.layout, self.store)
        self.trash = Trash(self.library, self.layout.trash, StateLock(self.layout.state_lock), self.index, self.keeper)
        self.states: dict[str, VersionState] = {}
        self.apps = Apps(self.layout)
        self.work = LinkWork(self.layout, self.apps, self.installed, self.store, self.keeper, self.index)

    def installed(self, app_id: str) -> VersionState:
        if app_id not in self.states:
            lock = StateLock(self.layout.state_lock)
            self.states[app_id] = VersionState(self.layout, self.apps.get(app_id), lock, self.troubles)
        return self.states[app_id]

    def close(self) -> None:
        self.index.close()
        self.store.database.close_sync()

    def model(self, model_id: str, *names: str, subtype: str = "checkpoints", **metadata: Any) -> Path:
        """A diffusion model with these files, known to the index."""
        files = {name: safetensors(hash((model_id, name)) % 1000, 600) for name in names or ("model.safetensors",)}
        folder = make_model(self.library, model_id, files, subtype=subtype, **metadata)
        self.index.refresh([model_id])
        return folder

    def plan(self, tag: str = TAG, **options: Any) -> Plan:
        return self.work.plan(APP, tag, **options)

    def apply(
        self, resolutions: Mapping[str, str] | None = None, tag: str = TAG, *, allow_copy: bool = False, **options: Any
    ) -> Applied:
        plan = self.work.plan_for_apply(APP, tag, None, allow_copy=allow_copy, **options)
        chosen = {model_id: Resolution(word) for model_id, word in (resolutions or {}).items()}
        return self.work.apply(plan, chosen, allow_copy=allow_copy)

    def tree(self) -> dict[str, str]:
        """All in the app's models folder: relative path -> digest or `-> text`."""
        return tree(self.models)

    def links(self) -> dict[str, str]:
        """Registered links of the app: path below the models folder -> model."""
        folder = str(self.models)
        return {
            os.path.relpath(self.store.absolute(row.target_path), folder): row.model_id
            for row in self.store.below(folder)
        }


__all__ = ["APP", "TAG", "Setup", "make_model", "safetensors", "tree", "version", "write"]
