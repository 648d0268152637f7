"""What is installed, by `versions.json` and by the disk: one object per app.

Reads both older forms (`path` is not used: a version lies in the app's folder under its tag) and keeps keys that are
not ours. A file that cannot be read is never "nothing installed": then the disk alone is asked and nothing is changed
until `rebuild`. Calls block; they come from worker threads.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pumas.apps.command import VENV, is_complete, missing_of
from pumas.apps.description import AppDescription
from pumas.config import Layout
from pumas.errors import CorruptState, InvalidInput, NoActiveVersion, VersionNotFound
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders, sweep, write_durably
from pumas.storage.json_file import JsonObject, StateLock, backup_path
from pumas.storage.paths import contained, display_name
from pumas.storage.troubles import Troubles
from pumas.versions.tags import check_tag, newest_first

MARKER = ".pumas-version.json"
"""In the folder of each version that we installed: what it is. Lets a start after a crash tell ours from others'."""

_HISTORY_KEPT = 10
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True)
class InstalledVersion:
    """`info` is what `versions.json` holds about it, older sidecars' keys included; `folder` is absolute."""

    app_id: str
    tag: str
    folder: Path
    info: JsonObject


@dataclass(frozen=True)
class Validation:
    """`incomplete`: listed, not whole on disk; `missing`: not there at all; `unknown`: folders that are not listed."""

    valid: list[str]
    incomplete: list[str]
    missing: list[str]
    unknown: list[str]


@dataclass(frozen=True)
class _State:
    value: JsonObject
    trusted: bool
    """False: rebuilt from the disk because the file cannot be read."""
    error: str = ""

    @functools.cached_property
    def entries(self) -> dict[str, JsonObject]:
        """Tag -> what is known; made once, since each version of a long list is asked for by itself."""
        return _entries(self.value)


class VersionState:
    """Thread-safe."""

    def __init__(self, layout: Layout, app: AppDescription, lock: StateLock, troubles: Troubles) -> None:
        self.app = app
        self.folder = layout.root / app.folder
        self._path = layout.data / "metadata" / app.versions_file
        self._active_path = layout.root / app.active_file
        self._file_lock = lock
        self._troubles = troubles
        self._lock = threading.RLock()
        self._cached: tuple[tuple[_Stamp, _Stamp], _State] | None = None
        self._active: str | None = None
        self._told = set[str]()

    # -- reading -----------------------------------------------------------------------------------------------------

    def installed(self) -> list[InstalledVersion]:
        """Those that are listed and whole on disk, newest first."""
        known = self._load().entries
        tags = [tag for tag in known if self.is_whole(tag)]
        self._tell_of(known.keys() - set(tags))
        return [InstalledVersion(self.app.id, tag, self.place(tag), known[tag]) for tag in newest_first(self.app, tags)]

    def listed(self) -> set[str]:
        """Tags in the list, whole on disk or not."""
        return set(self._load().entries)

    def get(self, tag: str) -> InstalledVersion:
        """Raises VersionNotFound, InvalidInput."""
        found = self.get_listed(tag)
        lacks = missing_of(self.app, found.folder)
        if lacks:
            helps = "install_version_dependencies" if self._only_environment(lacks) else "install_version"
            why = f"is not whole: it has no {lacks[0].split('|')[0]}; {helps} builds it anew"
            raise VersionNotFound(self.app.name, found.tag, why)
        return found

    def _tell_of(self, incomplete: Collection[str]) -> None:
        """Those that are there and not whole would go without a word."""
        if not incomplete and not self._told:
            return
        told: dict[str, str] = {}
        for tag in incomplete:
            with contextlib.suppress(InvalidInput):
                if self.place(tag).is_dir():
                    try:
                        self.get(tag)
                    except VersionNotFound as error:
                        told[f"{self.app.folder}/{tag}"] = str(error)
        with self._lock:
            for subject in self._told - told.keys():
                self._troubles.clear(subject)
            for subject, message in told.items():
                self._troubles.report(subject, "incomplete_version", message)
            self._told = set(told)

    def get_listed(self, tag: str) -> InstalledVersion:
        """Also one that is there and not whole. Raises as `get`."""
        tag = check_tag(tag)
        info = self._load().entries.get(tag)
        if info is None:
            raise VersionNotFound(self.app.name, tag)
        place = self.place(tag)
        if not place.is_dir():
            helps = "bring it back, or install_version installs it anew"
            why = f"is listed, but its folder {display_name(str(place))} is not there; {helps}"
            raise VersionNotFound(self.app.name, tag, why)
        return InstalledVersion(self.app.id, tag, place, info)

    def lacks_environment(self, tag: str) -> bool:
        """Whether all that it lacks is its Python environment, as after the system's Python has gone."""
        return self._only_environment(missing_of(self.app, self.place(tag)))

    def _only_environment(self, lacks: Collection[str]) -> bool:
        return bool(lacks) and self.app.python is not None and all(one.startswith(VENV) for one in lacks)

    def place(self, tag: str) -> Path:
        """Where a version lies, whether it is there or not. Raises InvalidInput."""
        return contained(self.folder, check_tag(tag), "tag")

    def is_whole(self, tag: str) -> bool:
        try:
            return is_complete(self.app, self.place(tag))
        except InvalidInput:
            return False

    def active(self) -> str | None:
        """The tag in use. When it is gone: the default, the last selected, what was active before, or the newest."""
        with self._lock:
            if self._active is not None and self._known(self._active):
                return self._active
            tags = [version.tag for version in self.installed()]
            value = self._load().value
            wishes = (value.get("defaultVersion"), value.get("lastSelectedVersion"), self._written_active())
            chosen = next((wish for wish in wishes if wish in tags), tags[0] if tags else None)
            self._set_active(cast("str | None", chosen))
            return self._active

    def require_active(self) -> InstalledVersion:
        """The version in use. Raises NoActiveVersion: none is listed, or none of those is whole; then it says why not
        of the one that would be used."""
        tag = self.active()
        if tag is not None:
            return self.get(tag)
        value = self._load().value
        wishes = [value.get("defaultVersion"), value.get("lastSelectedVersion")]
        listed = newest_first(self.app, self.listed())
        for tag in sorted(listed, key=lambda tag: wishes.index(tag) if tag in wishes else len(wishes)):
            try:
                return self.get(tag)
            except VersionNotFound as error:
                raise NoActiveVersion(self.app.name, str(error)) from None
            except InvalidInput:  # no name for a folder; nobody could use it
                continue
        raise NoActiveVersion(self.app.name)

    def default(self) -> str | None:
        """The tag that the user prefers, installed or not."""
        value = self._load().value.get("defaultVersion")
        return value if isinstance(value, str) and value else None

    def history(self) -> list[JsonObject]:
        """What `rollback` can take back, oldest first."""
        value: object = self._load().value.get("history")
        entries = cast("list[object]", value) if isinstance(value, list) else []
        return [cast(JsonObject, entry) for entry in entries if isinstance(entry, dict)]

    # -- changing ----------------------------------------------------------------------------------------------------

    def switch(
        self, tag: str, *, remember: JsonObject | None = None, forget: Collection[JsonObject] | None = None
    ) -> None:
        """Make a version active. `remember` becomes the newest of the history, `forget` leaves it.

        Raises:
            VersionNotFound, CorruptState, and the disk's failures; nothing was changed.
        """
        with self._lock:
            chosen = self.get(tag).tag

            def change(value: JsonObject) -> None:
                value["lastSelectedVersion"] = chosen
                self._rewrite_history(value, [remember] if remember else [], forget or [])

            self.change(change)
            self._set_active(chosen)

    def set_default(self, tag: str | None) -> None:
        """None clears it. Raises as `switch`."""
        if tag is not None:
            tag = self.get(tag).tag
        self.change(lambda value: value.update(defaultVersion=tag))

    def add(
        self, tag: str, info: JsonObject, *, remember: Collection[JsonObject] | None = None, select: bool = False
    ) -> None:
        """List a version that is whole on disk now, and with `select` use it, by one change. Keys of an earlier entry
        that are not given stay. Raises CorruptState, and the disk's failures; nothing was changed."""

        def change(value: JsonObject) -> None:
            entries = value["installed"]
            entries[tag] = {**entries.get(tag, {}), **info} if isinstance(entries.get(tag), dict) else info
            self._rewrite_history(value, remember or [], [])
            if select:
                value["lastSelectedVersion"] = tag

        with self._lock:
            self.change(change)
            if select:
                self._set_active(tag)

    def put_back(self, tag: str, info: JsonObject, forget: Collection[JsonObject]) -> None:
        """List the former build of a version instead of the newer one, and forget that it can be had back. Raises as
        `add`."""

        def change(value: JsonObject) -> None:
            value["installed"][tag] = info
            self._rewrite_history(value, [], forget)

        self.change(change)

    def forget(self, past: Collection[JsonObject]) -> None:
        """Take entries from the history. Raises as `add`."""
        self.change(lambda value: self._rewrite_history(value, [], past))

    def drop(self, tag: str) -> JsonObject:
        """Take a version from the list and return its entry; nothing refers to it then."""
        entry: JsonObject = {}

        def change(value: JsonObject) -> None:
            entry.update(_entries(value).get(tag, {}))
            value["installed"].pop(tag, None)
            for key in ("defaultVersion", "lastSelectedVersion"):
                if value.get(key) == tag:
                    value[key] = None
            if "history" in value:
                value["history"] = [past for past in self.history() if past.get("tag") != tag]

        self.change(change)
        return entry

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Nobody else changes what is installed or active meanwhile."""
        with self._lock:
            yield

    def require_trusted(self) -> None:
        """Raises CorruptState while the list cannot be read."""
        state = self._load()
        if not state.trusted:
            raise CorruptState(self._path.name, state.error)

    def change(self, change: Callable[[JsonObject], None]) -> None:
        """Load, change, save. Raises CorruptState, DiskError, NotEnoughSpace, ReadOnly; nothing was changed then."""
        with self._lock, self._file_lock.held():
            state = self._load()
            if not state.trusted:
                raise CorruptState(self._path.name, state.error)
            value: JsonObject = {"installed": {}, "lastSelectedVersion": None, "defaultVersion": None, **state.value}
            value["installed"] = dict(value["installed"] or {})
            change(value)
            self._save(value)

    def rebuild(self) -> None:
        """List anew what is whole on disk. The damaged file stays under a dated name."""
        with self._lock, self._file_lock.held():
            state = self._load()
            if not state.trusted:
                self._save({"lastSelectedVersion": None, "defaultVersion": None, **state.value})

    def validate(self, busy: set[str]) -> Validation:
        """Compare the list with the disk. `busy` tags are being worked on and left out."""
        known = self._load().entries
        whole = {tag for tag in known if self.is_whole(tag)}
        there = set(self.folders())
        return Validation(
            newest_first(self.app, whole),
            sorted(tag for tag in known if tag not in whole and tag in there and tag not in busy),
            sorted(tag for tag in known if tag not in there and tag not in busy),
            sorted(there - known.keys() - busy),
        )

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _subject(self) -> str:
        return f"launcher-data/metadata/{self._path.name}"

    def _rewrite_history(
        self, value: JsonObject, remember: Collection[JsonObject], forget: Collection[JsonObject]
    ) -> None:
        if remember or forget:
            kept = [past for past in self.history() if past not in forget]
            value["history"] = [*kept, *remember][-_HISTORY_KEPT:]

    def _known(self, tag: str) -> bool:
        return tag in self._load().entries and self.is_whole(tag)

    def _load(self) -> _State:
        with self._lock:
            stamps = (_stamp(self._path), _stamp(backup_path(self._path)))
            if self._cached is not None and self._cached[0] == stamps and self._cached[1].trusted:
                return self._cached[1]
            state = self._read()
            self._cached = (stamps, state)
            return state

    def _read(self) -> _State:
        try:
            value = self._parsed()
        except CorruptState as error:
            self._troubles.report(
                self._subject,
                error.kind,
                f"{error} What is on disk is shown; validate_installations with rebuild lists it anew.",
            )
            return _State({"installed": self._from_disk()}, trusted=False, error="it is damaged")
        if value is None or value.get("installed") is None:
            # Who says nothing of versions does not say that there are none.
            value = {**(value or {}), "installed": self._from_disk()}
        return _State(value, trusted=True)

    def _parsed(self) -> JsonObject | None:
        """The file's content, or that of its backup; None when there is neither."""
        loaded = json_file.load(self._path)
        value, recovered = loaded.value, loaded.recovered
        if value is not None and not _is_state(value):
            recovered = "its entries are of the wrong kind"
            try:
                value = json_file.parse_object(backup_path(self._path))
            except (OSError, ValueError):
                raise CorruptState(self._path.name, recovered) from None
            if not _is_state(value):
                raise CorruptState(self._path.name, recovered)
        if recovered:
            self._troubles.report(
                self._subject, "recovered_state", f"{self._path.name} was damaged ({recovered}); its backup is used."
            )
        return value

    def _save(self, value: JsonObject) -> None:
        with disk_errors("Writing the list of versions"):
            make_folders(self._path.parent)
        json_file.save(self._path, value)
        self._cached = None
        self._troubles.clear(self._subject)

    def _from_disk(self) -> dict[str, JsonObject]:
        return {tag: self.marker(self.folder / tag) for tag in self.folders() if self.is_whole(tag)}

    def folders(self) -> list[str]:
        """Names of folders that could be versions. Hidden ones, links and files are none.

        Raises:
            DiskError: nobody can say; that is not the same as none.
        """
        with disk_errors(f"Looking into {self.folder.name}"):
            try:
                with os.scandir(self.folder) as entries:
                    return [e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []

    def sweep(self) -> None:
        """Remove what killed writes left, those of custom nodes in each version too. Raises as `folders`."""
        sweep((self.folder, *(self.folder / name for name in self.folders())))

    def info(self, tag: str) -> JsonObject:
        """What the list holds about a version, whole on disk or not; `{}` when nothing."""
        return self._load().entries.get(tag, {})

    @staticmethod
    def marker(folder: Path) -> JsonObject:
        """What we wrote into a version's folder; `{}` when it is not ours."""
        info = _marked(folder).get("info")
        return cast(JsonObject, info) if isinstance(info, dict) else {}

    def built_by(self, folder: Path) -> tuple[str, str] | None:
        """(tag, id of the installation) of a folder that we built for this app; None for any other."""
        value = _marked(folder)
        tag, job_id = value.get("tag"), value.get("job")
        ours = value.get("app") == self.app.id and isinstance(tag, str) and isinstance(job_id, str)
        return (cast(str, tag), cast(str, job_id)) if ours else None

    def _written_active(self) -> str | None:
        if not self._active_path.is_file():
            return None  # a pipe would be waited for
        try:
            with open(self._active_path, "rb") as file:
                return file.read(200).decode("utf-8", "replace").strip() or None
        except OSError:
            return None

    def _set_active(self, tag: str | None) -> None:
        """Remember it, also for older sidecars; a disk that does not take the file does not matter."""
        self._active = tag
        if tag == self._written_active():
            return
        with contextlib.suppress(OSError):
            if tag is None:
                self._active_path.unlink(missing_ok=True)
            else:
                write_durably(self._active_path, tag.encode())


def _marked(folder: Path) -> JsonObject:
    try:
        return json_file.parse_object(folder / MARKER)
    except (OSError, ValueError):
        return {}


def _is_state(value: JsonObject) -> bool:
    return value.get("installed") is None or isinstance(value["installed"], dict)


def _entries(value: JsonObject) -> dict[str, JsonObject]:
    """Tag -> what is known; an entry that is no object says nothing, but its tag counts."""
    installed = cast(dict[str, Any], value.get("installed") or {})
    return {tag: cast(JsonObject, entry) if isinstance(entry, dict) else {} for tag, entry in installed.items()}


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
