"""The apps that there are: one description each, from `contracts/apps/` and from `launcher-data/apps/` of the root.

Read when first asked for; the user's files again when somebody wants a list of the apps, or one that is not known. A
file of the user's that cannot be used is a trouble and hides no other app; one that takes a shipped app's id is not
used. An app whose file goes, or cannot be used any more, stays known as it was: it may run, and has to be stopped.
"""

from __future__ import annotations

import functools
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
_SUBJECT = Layout(Path()).apps.as_posix()


class Apps:
    """Thread-safe. The first call reads some small files."""

    def __init__(self, layout: Layout, troubles: Troubles | None = None) -> None:
        self._own = layout.apps
        self._troubles = troubles or Troubles()
        self._lock = threading.Lock()
        self._found: dict[str, AppDescription] | None = None
        self._damaged: dict[str, str] = {}
        self._troubled: set[str] = set()

    def get(self, app_id: str) -> AppDescription:
        """Ids ignore case. Raises UnknownApp."""
        id_ = app_id.strip().lower()
        app = self.all().get(id_) or self.refreshed().get(id_)
        if app is None:
            raise UnknownApp(app_id, self._damaged.get(id_, ""))
        return app

    def all(self) -> Mapping[str, AppDescription]:
        """By id, shipped ones first."""
        with self._lock:
            if self._found is None:
                self._found = self._read({})
            return self._found

    def refreshed(self) -> Mapping[str, AppDescription]:
        """As `all`, with the user's files as they are now. What did not change is the very same as before."""
        with self._lock:
            self._found = self._read(self._found or {})
            return self._found

    def holds(self, app: AppDescription) -> bool:
        """Whether the app is still known just so. Reads nothing."""
        return self._found is not None and self._found.get(app.id) is app

    def __iter__(self) -> Iterator[AppDescription]:
        return iter(self.all().values())

    def _read(self, before: Mapping[str, AppDescription]) -> dict[str, AppDescription]:
        found = dict(_shipped(shipped_folder()))
        troubled, self._troubled = self._troubled, set()
        self._damaged = {}
        for path in self._own_files():
            try:
                app = self._read_own(path)
                if app.id in found or any(app.folder == other.folder for other in found.values()):
                    raise CorruptState(path.name, f"the id {app.id} or the folder {app.folder} is another app's")
            except CorruptState as error:
                self._tell(f"{_SUBJECT}/{path.name}", "damaged_app", f"This description is not used: {error.reason}.")
                self._damaged[path.stem.lower()] = error.reason
                continue
            found[app.id] = app
        for subject in troubled - self._troubled:
            self._troubles.clear(subject)
        folders = {app.folder for app in found.values()}
        gone = {id_: app for id_, app in before.items() if id_ not in found and app.folder not in folders}
        return {id_: before[id_] if before.get(id_) == app else app for id_, app in (found | gone).items()}

    def _tell(self, subject: str, kind: str, message: str) -> None:
        self._troubled.add(subject)
        self._troubles.report(subject, kind, message)

    def _own_files(self) -> list[Path]:
        try:
            return json_files(self._own)
        except DiskError as error:
            self._tell(_SUBJECT, error.kind, f"{error} Apps of your own are not known.")
            return []

    def _read_own(self, path: Path) -> AppDescription:
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST:
                raise CorruptState(path.name, "it is no file of a sensible size")
            data = path.read_bytes()
        except OSError as error:
            raise CorruptState(path.name, error.strerror or "it cannot be read") from None
        return read(path.name, data)


@functools.cache
def _shipped(folder: Path) -> Mapping[str, AppDescription]:
    """The default app first."""
    found = {app.id: app for app in (read(path.name, path.read_bytes()) for path in json_files(folder))}
    return {id_: found[id_] for id_ in sorted(found, key=lambda id_: (id_ != DEFAULT_APP, id_))}


def shipped_folder() -> Path:
    return contracts_folder() / "apps"
