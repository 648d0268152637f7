"""What `get_status` says of the apps, put together from memory and from facts that are looked up in the background.

Implements `pumas.system.service.RunningApps`. Which version is active, which shortcuts it has and which release is
newest is asked of others (`Sources`), at most once a second while somebody polls, and never while somebody waits: a
poll is answered with what was found before. Only the first after a change that was made here looks itself, so that who
did something sees it done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pumas.errors import PumasError, TimedOut
from pumas.processes import patch
from pumas.processes.service import ProcessService
from pumas.processes.values import RunInfo, RunState, Version
from pumas.system.service import COMFYUI, AppProcess, AppsReport, ReleaseInfo

T = TypeVar("T")

LATER_S = 0.05
"""Looking begins when the poll that it is for has been answered: its threads would only hold that up."""
MAX_AGE_S, USELESS_S, ANSWER_S = 1.0, 2.0, 2.0
"""Facts are looked up anew when they are so old, are not given out at all after the second, so that who asks now and
then is not told what was long ago, and are waited for so long when there are none."""


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """Whether the active version is in the desktop's menu, and on the desktop."""

    menu: bool = False
    desktop: bool = False


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the facts about ComfyUI come from; they may look at files, and never ask the network, not even behind.

    `active`: the version in use. `newest`: the newest release's tag as far as it is known. `shortcuts`: of a tag.
    `changes`: a number from memory that grows with each change of any of them that was made here.
    """

    active: Callable[[], Awaitable[Version | None]]
    newest: Callable[[], Awaitable[str | None]] | None = None
    shortcuts: Callable[[str], Awaitable[Shortcuts]] | None = None
    changes: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True)
class _Facts:
    """`changes` were made before it was looked."""

    changes: int
    active: str | None
    patched: bool
    shortcuts: Shortcuts
    release: ReleaseInfo


class AppsStatus:
    """For one event loop. `clock` is in seconds and monotonic."""

    def __init__(
        self, processes: ProcessService, sources: Sources, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._processes = processes
        self._sources = sources
        self._clock = clock
        self._facts: _Facts | None = None
        self._found_at = 0.0
        self._looking: asyncio.Task[_Facts] | None = None

    async def report(self) -> AppsReport:
        """Raises TimedOut when there is nothing to say yet and looking takes too long."""
        facts = await self._recent()
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
        """The version in use and the newest release that is known. Raises TimedOut."""
        return (await (self._look() if anew else self._recent())).release

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    async def _recent(self) -> _Facts:
        age = self._clock() - self._found_at
        changes = self._sources.changes()
        if self._facts is None or age > USELESS_S or self._facts.changes < changes:
            facts = await _soon(self._begin(0.0))
            # One that was looking already may not have seen it.
            return facts if facts.changes >= changes else await _soon(self._begin(0.0))
        if age > MAX_AGE_S:
            self._begin(LATER_S)
        return self._facts

    def _begin(self, later_s: float) -> asyncio.Task[_Facts]:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_later(later_s))
            # Who asked may be gone; the next to ask hears of it.
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._looking

    async def _look_later(self, seconds: float) -> _Facts:
        if seconds:
            await asyncio.sleep(seconds)
        return await self._look()

    async def _look(self) -> _Facts:
        sources = self._sources
        changes = sources.changes()
        version = await _or(None, sources.active)
        shortcuts, newest = Shortcuts(), None
        if version is not None and (ask := sources.shortcuts) is not None:
            tag = version.tag
            shortcuts = await _or(shortcuts, lambda: ask(tag))
        if sources.newest is not None:
            newest = await _or(newest, sources.newest)
        patched = version is not None and await asyncio.to_thread(patch.is_patched, Path(version.folder))
        release = _release(version, newest)
        facts = _Facts(changes, release.current_version, patched, shortcuts, release)
        if self._facts is None or self._facts.changes <= changes:
            self._facts, self._found_at = facts, self._clock()
        return facts


async def _soon(looking: asyncio.Task[_Facts]) -> _Facts:
    try:
        async with asyncio.timeout(ANSWER_S):
            return await asyncio.shield(looking)
    except TimeoutError:
        raise TimedOut(f"Looking at the installed versions takes longer than {ANSWER_S:g} s.") from None


async def _or(default: T, ask: Callable[[], Awaitable[T]]) -> T:
    """A part that cannot be known takes nothing from the rest; its own methods say why."""
    try:
        return await ask()
    except PumasError:
        return default


def _release(version: Version | None, newest: str | None) -> ReleaseInfo:
    tag = None if version is None else version.tag
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
