"""A root with apps, a service on it without a sidecar around, and nothing that outlives a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.errors import DependencyFailed, NoActiveVersion, VersionNotFound
from pumas.events.stream import EventStream
from pumas.processes.service import ProcessService
from pumas.storage.troubles import Troubles

from .programs import Root


@dataclass(frozen=True)
class Installed:
    tag: str
    folder: Path


class Folders:
    """Installed is what has a folder; the newest name is the active one."""

    def __init__(self, layout: Layout, apps: Apps) -> None:
        self._layout, self._apps = layout, apps
        self.switched: list[tuple[str, str]] = []
        self.lacking: set[tuple[str, str]] = set()

    async def get(self, tag: str, app_id: str) -> Installed:
        app = self._apps.get(app_id)
        folder = self._layout.root / app.folder / tag
        if not folder.is_dir():
            raise VersionNotFound(app.name, tag)
        return Installed(tag, folder)

    async def active(self, app_id: str) -> Installed | None:
        place = self._layout.root / self._apps.get(app_id).folder
        tags = sorted(os.listdir(place)) if place.is_dir() else []
        return await self.get(tags[-1], app_id) if tags else None

    async def require_active(self, app_id: str) -> Installed:
        found = await self.active(app_id)
        if found is None:
            raise NoActiveVersion(app_id)
        return found

    async def switch(self, tag: str, app_id: str) -> None:
        self.switched.append((app_id, tag))

    async def prepare(self, tag: str, app_id: str) -> None:
        if (app_id, tag) in self.lacking:
            raise DependencyFailed("dependencies", f"{tag} lacks tiny-colors")


@dataclass
class Bench:
    """A service and what is around it."""

    root: Root
    layout: Layout
    events: EventStream
    troubles: Troubles
    versions: Folders
    service: ProcessService


MakeBench = Callable[..., "contextlib.AbstractAsyncContextManager[Bench]"]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """Whatever a test started in it is gone afterwards."""
    one = Root(tmp_path / "root")
    one.path.mkdir()
    yield one
    for pid in one.leftovers():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def opened(root: Root) -> MakeBench:
    """`async with opened(grace_s=1) as bench:` opens a service on the root, and closes it."""

    @contextlib.asynccontextmanager
    async def go(**options: float) -> AsyncIterator[Bench]:
        layout, events, troubles = Layout(root.path), EventStream(), Troubles()
        events.bind(asyncio.get_running_loop())
        apps = Apps(layout, troubles)
        versions = Folders(layout, apps)
        service = ProcessService(layout, events, troubles, apps, versions, **options)  # type: ignore[arg-type]
        await service.open()
        try:
            yield Bench(root, layout, events, troubles, versions, service)
        finally:
            await service.close()

    return go


@pytest.fixture
async def bench(opened: MakeBench) -> AsyncIterator[Bench]:
    async with opened(grace_s=1.0) as one:
        yield one
