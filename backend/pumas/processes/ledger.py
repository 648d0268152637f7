"""What this root's sidecars have started, kept on disk so that the next sidecar finds it again.

One JSON file (`storage/json_file.py`: durable, with a backup). It is a list of names to look for, never a licence to
signal: a record is believed only when the process that has its number was started then, in this boot, and carries the
run's mark (`recognised`). A forged, copied or outdated record therefore leads to nobody.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from pumas.errors import CorruptState
from pumas.processes import family, kernel
from pumas.processes.kernel import Identity
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders, put_aside
from pumas.storage.json_file import JsonObject, StateLock

KEPT_LOGS = 10
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_RUNS, _LOGS, _ON_EXIT = "runs", "logs", "when_sidecar_ends"


class OnExit(StrEnum):
    """What becomes of running apps when the sidecar ends in an orderly way, its parent's death included."""

    STOP = "stop"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Record:
    """One start of an app. `leader` is its first process, 0 when it was not known yet; both numbers hold in `boot`.

    `programs` are the files that it runs as, `log` is absolute, `started_at` is ISO 8601 in UTC.
    """

    run_id: str
    app_id: str
    tag: str
    boot: str
    keeper: int
    keeper_start: int
    leader: int
    leader_start: int
    port: int
    command: tuple[str, ...]
    programs: tuple[str, ...]
    folder: str
    log: str
    started_at: str

    @property
    def keeper_identity(self) -> Identity:
        return Identity(self.keeper, self.keeper_start, self.boot)

    @property
    def leader_identity(self) -> Identity:
        return Identity(self.leader, self.leader_start, self.boot)

    @property
    def marks(self) -> family.Marks:
        return family.Marks(self.leader, self.leader_start, self.programs, self.folder)

    def led_by(self, leader: Identity) -> Record:
        return replace(self, leader=leader.pid, leader_start=leader.start)


def read_record(raw: object) -> Record:
    """Raises ValueError when it is no record."""
    if not isinstance(raw, dict):
        raise ValueError("no object")
    given = cast(dict[str, Any], raw)
    values: dict[str, Any] = {}
    for name, kind in _KINDS.items():
        value = given.get(name)
        if kind is tuple:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in cast(list[object], value)):
                raise ValueError(name)
            value = tuple(cast(list[str], value))
        elif type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**63):
            raise ValueError(name)
        values[name] = value
    record = Record(**values)
    if not _RUN_ID.fullmatch(record.run_id):
        raise ValueError("run_id")
    return record


def exit_file(cache: Path, run_id: str) -> Path:
    """Where the keeper writes how the first process ended."""
    return cache / f"run-{run_id}.json"


_KINDS: dict[str, type] = {
    "run_id": str,
    "app_id": str,
    "tag": str,
    "boot": str,
    "keeper": int,
    "keeper_start": int,
    "leader": int,
    "leader_start": int,
    "port": int,
    "command": tuple,
    "programs": tuple,
    "folder": str,
    "log": str,
    "started_at": str,
}


def is_log(folder: Path, path: Path) -> bool:
    """Whether it is a log of an app in the folder of logs: no other is read or removed, whatever a record says."""
    return path.parent == folder and path.name.startswith("launch-")


def recognised(record: Record) -> str | None:
    """`keeper` or `leader`: which of the record's processes is there and proves to be it; None when neither does."""
    for name, who in (("keeper", record.keeper_identity), ("leader", record.leader_identity)):
        ours = who.pid > 1 and who.pid != os.getpid() and kernel.alive(who)
        if ours and kernel.has_variable(who.pid, family.MARK, record.run_id):
            return name
    return None


@dataclass(frozen=True, slots=True)
class Contents:
    """`wrong` says what could not be read."""

    runs: tuple[Record, ...]
    on_exit: OnExit
    wrong: str | None


class Ledger:
    """Blocking; call from a thread. What cannot be read is put aside and begun anew with what this object knows: the
    file is no one's only copy of anything, and an app must not be hindered by it."""

    def __init__(self, path: Path, lock: StateLock) -> None:
        self.path = path
        self._lock = lock
        self._own: dict[str, Record] = {}

    def load(self) -> Contents:
        """What is written down. Raises DiskError when a damaged file cannot be put aside."""
        try:
            value = json_file.load(self.path).value or {}
        except CorruptState as error:
            self._put_aside()
            return Contents((), OnExit.STOP, str(error))
        found: list[Record] = []
        wrong: str | None = None
        raw = value.get(_RUNS, {})
        for entry in cast(dict[str, object], raw).values() if isinstance(raw, dict) else ():
            try:
                found.append(read_record(entry))
            except ValueError as error:
                wrong = f"{self.path.name} holds a run that makes no sense ({error})"
        wish = value.get(_ON_EXIT)
        return Contents(tuple(found), OnExit.KEEP if wish == OnExit.KEEP else OnExit.STOP, wrong)

    def set_on_exit(self, wish: OnExit) -> None:
        """Raises DiskError, NotEnoughSpace, ReadOnly; nothing was changed then."""
        self._update(lambda value: value.update({_ON_EXIT: wish.value}))

    def put(self, record: Record) -> None:
        """Raises as `set_on_exit`."""

        def change(value: JsonObject) -> None:
            _object(value, _RUNS)[record.run_id] = asdict(record)

        self._update(change)
        self._own[record.run_id] = record

    def remove(self, run_ids: Iterable[str]) -> None:
        """Raises as `set_on_exit`."""
        gone = list(run_ids)

        def change(value: JsonObject) -> None:
            for run_id in gone:
                _object(value, _RUNS).pop(run_id, None)

        for run_id in gone:
            self._own.pop(run_id, None)
        if gone:
            self._update(change)

    def add_log(self, app_id: str, log: str) -> list[str]:
        """Remember a log, newest last, and return those of the app that may go. Raises as `set_on_exit`."""
        spare: list[str] = []

        def change(value: JsonObject) -> None:
            logs = _object(value, _LOGS)
            raw = logs.get(app_id)
            before = (
                [name for name in cast(list[object], raw) if isinstance(name, str)] if isinstance(raw, list) else []
            )
            names = [*(name for name in before if name != log), log]
            spare[:], logs[app_id] = names[:-KEPT_LOGS], names[-KEPT_LOGS:]

        self._update(change)
        return spare

    def last_log(self, app_id: str) -> str | None:
        """Of the newest run of an app, ended or not."""
        try:
            value = json_file.load(self.path).value or {}
        except CorruptState:
            return None
        logs = _object(value, _LOGS).get(app_id)
        last: object = cast(list[object], logs)[-1] if isinstance(logs, list) and logs else None
        return last if isinstance(last, str) else None

    def _update(self, change: Callable[[JsonObject], None]) -> None:
        def anew(value: JsonObject) -> None:
            _object(value, _RUNS).update({run_id: asdict(record) for run_id, record in self._own.items()})
            change(value)

        with disk_errors(f"Writing {self.path.name}"):
            make_folders(self.path.parent)
        try:
            json_file.update(self.path, self._lock, change)
        except CorruptState:
            self._put_aside()
            json_file.update(self.path, self._lock, anew)

    def _put_aside(self) -> None:
        """The file and its backup, both under a dated name."""
        with disk_errors(f"Putting {self.path.name} aside"):
            for path in (self.path, json_file.backup_path(self.path)):
                if os.path.lexists(path):
                    put_aside(path)
                    with contextlib.suppress(FileNotFoundError):
                        path.unlink()


def _object(value: JsonObject, key: str) -> JsonObject:
    inner = value.get(key)
    if not isinstance(inner, dict):
        value[key] = inner = {}
    return cast(JsonObject, inner)
