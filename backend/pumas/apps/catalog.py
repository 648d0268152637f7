"""The apps that there are: one description each, from `contracts/apps/` and from `launcher-data/apps/` of the root.

Read when first asked for. A file of the user's that cannot be used is a trouble and hides no other app; one that takes
a shipped app's id is not used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from pumas.apps.description import AppDescription, read
from pumas.config import Layout, contracts_folder
from pumas.errors import CorruptState, DiskError, UnknownApp
from pumas.storage.json_file import json_files
from pumas.storage.troubles import Troubles

DEFAULT_APP = "comfyui"
_LARGEST = 1024 * 1024


class Apps:
    """Thread-safe. The first call reads some small files."""

    def __init__(self, layout: Layout, troubles: Troubles | None = None) -> None:
        self._own = layout.apps
        self._troubles = troubles or Troubles()
        self._lock = threading.Lock()
        self._found: dict[str, AppDescription] | None = None
        self._damaged: dict[str, str] = {}

    def get(self, app_id: str) -> AppDescription:
        """Ids ignore case. Raises UnknownApp."""
        id_ = app_id.strip().lower()
        app = self.all().get(id_)
        if app is None:
            raise UnknownApp(app_id, self._damaged.get(id_, ""))
        return app

    def all(self) -> Mapping[str, AppDescription]:
        """By id, shipped ones first."""
        with self._lock:
            if self._found is None:
                self._found = self._read()
            return self._found

    def __iter__(self) -> Iterator[AppDescription]:
        return iter(self.all().values())

    def _read(self) -> dict[str, AppDescription]:
        found = {app.id: app for app in (read(path.name, path.read_bytes()) for path in json_files(shipped_folder()))}
        found = {id_: found[id_] for id_ in sorted(found, key=lambda id_: (id_ != DEFAULT_APP, id_))}
        for path in self._own_files():
            try:
                app = self._read_own(path)
                if app.id in found or any(app.folder == other.folder for other in found.values()):
                    raise CorruptState(path.name, f"the id {app.id} or the folder {app.folder} is another app's")
            except CorruptState as error:
                subject = f"launcher-data/apps/{path.name}"
                self._troubles.report(subject, "damaged_app", f"This app is not known: {error.reason}.")
                self._damaged[path.stem.lower()] = error.reason
                continue
            found[app.id] = app
        return found

    def _own_files(self) -> list[Path]:
        try:
            return json_files(self._own)
        except DiskError as error:
            self._troubles.report("launcher-data/apps", error.kind, f"{error} Apps of your own are not known.")
            return []

    def _read_own(self, path: Path) -> AppDescription:
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST:
                raise CorruptState(path.name, "it is no file of a sensible size")
            data = path.read_bytes()
        except OSError as error:
            raise CorruptState(path.name, error.strerror or "it cannot be read") from None
        return read(path.name, data)


def shipped_folder() -> Path:
    return contracts_folder() / "apps"
