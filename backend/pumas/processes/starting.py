"""From an installed version to a running process: port, command, log, ledger, keeper. Blocking; call from a thread."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pumas.apps.command import Command, command_of
from pumas.apps.description import AppDescription
from pumas.config import Layout
from pumas.errors import InvalidInput
from pumas.processes import ports
from pumas.processes.ledger import Ledger, Record, exit_file, is_log
from pumas.processes.run import start
from pumas.processes.spawn import Orders
from pumas.processes.values import GRACE_S, Version
from pumas.storage.files import disk_errors, make_folders
from pumas.storage.paths import slug

MAX_ARGS, MAX_ARG = 200, 4096


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be started, and how. `port` None: the app's own when nobody uses it, else any; never one of `taken`.

    `grace_s` is how long the app may take to end when the sidecar leaves that to its keeper.
    """

    app: AppDescription
    version: Version
    extra_args: tuple[str, ...] = ()
    port: int | None = None
    taken: Collection[int] = ()
    grace_s: float = GRACE_S


def begin(layout: Layout, ledger: Ledger, wish: Wish) -> tuple[Record, subprocess.Popen[bytes]]:
    """Start it; the record that the ledger now has, and the keeper.

    Raises:
        FileUnavailable: the version is not whole. LaunchFailed, Unsupported: it could not be started.
        DiskError, NotEnoughSpace, ReadOnly, CorruptState: it could not be written down; nothing runs.
    """
    app, version = wish.app, wish.version
    port = wish.port or ports.free_port(app.launch.port, wish.taken)
    command = command_of(app, version.folder, layout.root, port, extra_args=wish.extra_args)
    log = _new_log(layout.logs, ledger, app.id, version.tag)
    run_id = secrets.token_hex(16)
    exits = exit_file(layout.cache, run_id)
    with disk_errors("Making the cache folder"):
        make_folders(exits.parent)
    record = Record(
        run_id=run_id,
        app_id=app.id,
        tag=version.tag,
        boot="",
        keeper=0,
        keeper_start=0,
        leader=0,
        leader_start=0,
        port=port,
        command=command.argv,
        programs=_programs(command.argv[0]),
        folder=str(version.folder),
        log=str(log),
        started_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )
    orders = Orders(
        command=command.argv,
        folder=command.folder,
        environment=_environment(command),
        programs=record.programs,
        log=log,
        exit_file=exits,
        grace_s=wish.grace_s,
    )
    return start(record, orders, ledger)


def check_arguments(extra_args: tuple[str, ...]) -> None:
    """They go into the argument vector as they are; only what no vector can hold is refused. Raises InvalidInput."""
    if len(extra_args) > MAX_ARGS or any(len(arg) > MAX_ARG for arg in extra_args):
        raise InvalidInput("extra_args", f"at most {MAX_ARGS} of at most {MAX_ARG} characters each")
    for arg in extra_args:
        if "\0" in arg:
            raise InvalidInput("extra_args", "must not hold NUL characters")
        try:
            arg.encode()
        except UnicodeEncodeError:
            raise InvalidInput("extra_args", "must be well-formed text") from None


def _new_log(folder: Path, ledger: Ledger, app_id: str, tag: str) -> Path:
    """A name that is free. The oldest logs of the app go, and none but those that the ledger knows as ours."""
    with disk_errors("Making the log folder"):
        make_folders(folder)
    stem = f"launch-{app_id}-{slug(tag, 'version')}-{int(time.time())}"
    path, number = folder / f"{stem}.log", 1
    while os.path.lexists(path):
        number += 1
        path = folder / f"{stem}-{number}.log"
    for spare in ledger.add_log(app_id, str(path)):
        _remove_log(folder, Path(spare))
    return path


def _remove_log(folder: Path, path: Path) -> None:
    if not is_log(folder, path):
        return
    for name in (path.name, *(f"{path.name}.{number}" for number in range(1, 10))):
        with contextlib.suppress(OSError):
            path.with_name(name).unlink()


def _programs(program: str) -> tuple[str, ...]:
    """The file and what it links to: a Python of a virtual environment is a link to another."""
    return tuple(dict.fromkeys((program, os.path.realpath(program))))


def _environment(command: Command) -> dict[str, str]:
    """Nothing that is meant for a sidecar: an app may start one of its own."""
    return {name: value for name, value in command.environment.items() if not name.startswith("PUMAS_")}
