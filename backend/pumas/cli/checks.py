"""The checks of `pumas doctor`, each a small function that finds one verdict and, unless it is ok, a remedy."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pumas.cli import units
from pumas.cli.advice import typed
from pumas.cli.command import Cli
from pumas.cli.output import size
from pumas.client import PumasError, discovery
from pumas.config import Layout

Verdict = Literal["ok", "warn", "fail"]
MIN_PYTHON = (3, 11)
LOW_SPACE = 10 * 1024**3
NO_SPACE = 256 * 1024**2
_OPTIONAL_TOOLS = {
    "git": "needed only for custom nodes: install git",
    "uv": "installs packages faster: https://docs.astral.sh/uv",
    "nvidia-smi": "no NVIDIA driver found; GPU readings stay empty",
}


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    finding: str
    remedy: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run_checks(cli: Cli) -> list[Check]:
    """All checks. One that itself breaks is reported as a failure; the others go on."""
    found: list[Check] = []
    for check in (_python, _root, _space, _sidecar, _library, _tools):
        try:
            found += check(cli)
        except (OSError, PumasError) as error:
            found.append(Check(check.__name__.strip("_"), "fail", str(error), "see launcher-data/logs/launcher.log"))
    return found


def _python(_cli: Cli) -> Iterator[Check]:
    version = platform.python_version()
    if sys.version_info >= MIN_PYTHON:
        yield Check("python", "ok", version)
    else:
        yield Check("python", "fail", version, "use Python 3.11 or newer")


def _root(cli: Cli) -> Iterator[Check]:
    root = cli.root
    if not root.is_dir():
        yield Check("root", "fail", f"{root} is no folder", "name an existing one with --root or PUMAS_ROOT")
        return
    data = Layout(root).data
    place = data if data.is_dir() else root
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        yield Check("root", "fail", f"{place}: {error.strerror}", "make it writable, or choose another --root")
        return
    yield Check("root", "ok", f"{root} can be written")


def _space(cli: Cli) -> Iterator[Check]:
    free = shutil.disk_usage(cli.root).free
    finding = f"{size(free)} free"
    if free < NO_SPACE:
        yield Check("disk space", "fail", finding, "free some space; nothing can be written safely")
    elif free < LOW_SPACE:
        yield Check("disk space", "warn", finding, "large models will not fit; pumas trash empty may free some")
    else:
        yield Check("disk space", "ok", finding)


def _sidecar(cli: Cli) -> Iterator[Check]:
    layout = Layout(cli.root)
    owner = discovery.find(cli.root)
    yield from _rpc_file(layout, running=owner is not None)
    if owner is None:
        if cli.no_start:
            yield Check("sidecar", "warn", "none runs for this root", f"start one: pumas serve --root {cli.root}")
            return
        finding = "none runs; one started for this check"
    else:
        finding = f"process {owner.process.pid if owner.process else '?'} at {owner.url}"
    try:
        cli.client.health_check()
    except PumasError as error:
        yield Check("sidecar", "fail", str(error), "stop that process and start again: pumas serve")
        return
    yield Check("sidecar", "ok", finding)


def _rpc_file(layout: Layout, *, running: bool) -> Iterator[Check]:
    try:
        mode = layout.rpc_file.stat().st_mode & 0o777
    except FileNotFoundError:
        if running:
            yield Check("rpc.json", "warn", "it is gone", "restart the sidecar, so that clients find it")
        return
    if not running:
        yield Check("rpc.json", "warn", "left behind by a sidecar that was killed", "nothing: the next one replaces it")
    elif os.name == "posix" and mode & 0o077:
        yield Check("rpc.json", "fail", f"others may read it (mode {mode:o})", f"chmod 600 {layout.rpc_file}")
    else:
        yield Check("rpc.json", "ok", "readable only by you")


def _library(cli: Cli) -> Iterator[Check]:
    if cli.no_start and discovery.find(cli.root) is None:
        return
    library = cli.client.get_library_status()
    state = library["state"]
    remedies = {
        "offline": "connect the drive that holds the library",
        "read_only": "make shared-resources/models writable",
    }
    count = f"{units.count(library['model_count'], 'model')}, {state}" + (", indexing" if library["indexing"] else "")
    yield Check("library", "ok" if state == "ready" else "warn", count, remedies.get(state, ""))
    for trouble in library["troubles"]:
        yield Check("trouble", "warn", f"{trouble['subject']}: {typed(trouble['message'])}", _remedy(trouble["kind"]))


def _remedy(kind: str) -> str:
    return {
        "disk_full": "free some space",
        "read_only": "make the place writable",
        "corrupt_state": "restore the file from a backup, or delete it",
        "linked_folder": "remove the link once the models are in the library",
        "broken_link": "connect its drive, or remove the link",
    }.get(kind, "see launcher-data/logs/launcher.log")


def _tools(_cli: Cli) -> Iterator[Check]:
    from pumas.versions.packages import find_uv

    for tool, purpose in _OPTIONAL_TOOLS.items():
        found = find_uv() if tool == "uv" else shutil.which(tool)
        yield Check(tool, "ok", "found") if found else Check(tool, "warn", "not found", purpose)
