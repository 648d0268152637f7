"""Plain values about running apps, for callers; loading them loads nothing that starts or watches a process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

GRACE_S = 5.0
"""How long an app may take to end before it is killed."""


class RunState(StrEnum):
    """`not_answering`: it runs, but was not ready in the time its description gives it."""

    STARTING = "starting"
    READY = "ready"
    NOT_ANSWERING = "not_answering"
    STOPPING = "stopping"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in percent of one core (may exceed 100), `ram` and `gpu` memory in GiB; sums over all processes.

    Memory that processes share counts in each. GPU memory is 0 where the driver does not tell, as inside containers.
    """

    cpu: float = 0.0
    ram: float = 0.0
    gpu: float = 0.0


class Version(Protocol):
    """An installed version; `folder` is absolute."""

    @property
    def tag(self) -> str: ...
    @property
    def folder(self) -> Path: ...


class Versions(Protocol):
    """What is installed; `pumas.versions` knows it. Raises UnknownApp, VersionNotFound, InvalidInput."""

    async def get(self, tag: str, app_id: str) -> Version: ...
    async def active(self, app_id: str) -> Version | None: ...
    async def require_active(self, app_id: str) -> Version:
        """Raises NoActiveVersion."""
        ...

    async def switch(self, tag: str, app_id: str) -> None: ...
    async def prepare(self, tag: str, app_id: str) -> None:
        """See that what a start needs is there. Raises DependencyFailed, and the disk's failures."""
        ...


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as it is now. `pid` is its first process, `processes` how many it has; `started_at` is ISO 8601 in UTC."""

    run_id: str
    app_id: str
    tag: str
    state: RunState
    pid: int
    port: int
    url: str
    log_path: str
    started_at: str
    adopted: bool
    exit_code: int | None
    error: str | None
    usage: Usage

    @property
    def ready(self) -> bool:
        return self.state is RunState.READY


@dataclass(frozen=True, slots=True)
class Stopped:
    """How many processes were told to end, and how many of them had to be killed."""

    processes: int
    killed: int


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a run's log, oldest line first; `cut` says that there is more before it."""

    log_path: str
    lines: tuple[str, ...]
    cut: bool
