"""What `get_status` says of the apps, put together from memory and from facts that are looked up in the background.

Implements `pumas.system.service.RunningApps`. Which version is active, whether it is patched, which shortcuts there
are and which release is newest is asked of callables, each a blocking look at files, so that this knows no other
domain; one thread asks them all, at most once a second while somebody polls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pumas.errors import PumasError
from pumas.processes.service import ProcessService
from pumas.processes.values import RunInfo, RunState
from pumas.system.sampling import Pace, Sampler
from pumas.system.service import COMFYUI, AppProcess, AppsReport, ReleaseInfo

T = TypeVar("T")

FACTS = Pace(max_age=3.0, interval=1.0, park_after=10.0)
"""The thread lives as long as somebody polls: starting one costs the event loop more than everything else here."""


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """Whether the active version is in the desktop's menu, and on the desktop."""

    menu: bool = False
    desktop: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the facts about ComfyUI come from. Each blocks, reads files at most, and may raise PumasError.

    `active`: the tag in use. `patched`: whether that version's server names itself. `shortcuts`: of that version.
    `newest`: the newest release's tag as far as it is known.
    """

    active: Callable[[], str | None]
    patched: Callable[[str], bool]
    newest: Callable[[], str | None] = lambda: None
    shortcuts: Callable[[str], Shortcuts] = lambda _tag: Shortcuts()


@dataclass(frozen=True, slots=True)
class Facts:
    active: str | None
    patched: bool
    shortcuts: Shortcuts
    release: ReleaseInfo


class AppsStatus:
    """Never waits for more than its first reading."""

    def __init__(self, processes: ProcessService, sources: Sources) -> None:
        self._processes = processes
        self._sources = sources
        self._facts = Sampler("facts about versions", lambda: contextlib.nullcontext(self._look), FACTS)

    async def report(self) -> AppsReport:
        facts = await self._facts.recent()
        runs = self._processes.list()
        return AppsReport(
            processes=tuple(_process(run, self._processes.ledger_path) for run in runs),
            active_tag=facts.active,
            last_launch_log=self._processes.last_launch_log,
            last_launch_error=self._processes.last_launch_error,
            patched=facts.patched,
            menu_shortcut=facts.shortcuts.menu,
            desktop_shortcut=facts.shortcuts.desktop,
            release_info=facts.release,
            message=_message(runs),
        )

    async def release(self, *, anew: bool = False) -> ReleaseInfo:
        """Whether a newer release is known than the one in use; asks nobody outside. Raises TimedOut."""
        if anew:
            return (await asyncio.to_thread(self._look)).release
        return (await self._facts.recent()).release

    async def close(self) -> None:
        await self._facts.close()

    def _look(self) -> Facts:
        sources = self._sources
        tag = _or(None, sources.active)
        return Facts(
            active=tag,
            patched=tag is not None and _or(False, lambda: sources.patched(tag)),
            shortcuts=Shortcuts() if tag is None else _or(Shortcuts(), lambda: sources.shortcuts(tag)),
            release=_release(tag, _or(None, sources.newest)),
        )


def _or(default: T, ask: Callable[[], T]) -> T:
    """A part that cannot be known takes nothing from the rest; its own methods say why."""
    with contextlib.suppress(PumasError):
        return ask()
    return default


def _release(tag: str | None, newest: str | None) -> ReleaseInfo:
    return ReleaseInfo(tag is not None and newest is not None and newest != tag, newest, tag)


def _process(run: RunInfo, ledger: str) -> AppProcess:
    return AppProcess(
        pid=run.pid,
        app_id=run.app_id,
        source="pid_file",
        tag=run.tag,
        cpu_usage=run.usage.cpu,
        ram_memory=run.usage.ram,
        gpu_memory=run.usage.gpu,
        pid_file=ledger,
    )


def _message(runs: list[RunInfo]) -> str:
    """Only an app that does not get ready asks something of the user."""
    stuck = [run.error for run in runs if run.state is RunState.NOT_ANSWERING and run.error]
    return stuck[0] if stuck else ""


__all__ = ["COMFYUI", "AppsStatus", "Shortcuts", "Sources"]
