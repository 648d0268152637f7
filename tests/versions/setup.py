"""A `VersionService` on a folder of its own, with a release server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures.releases import ReleaseServer
from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.downloads.bandwidth import Bandwidth
from pumas.events.stream import EventStream
from pumas.jobs.service import JobService
from pumas.jobs.store import Job, JobStore
from pumas.net.client import NetworkClient
from pumas.storage.database import Database, Schema
from pumas.storage.troubles import Troubles
from pumas.versions.rates import Rates
from pumas.versions.service import VersionService
from sidecar import Sidecar

MANY = {"install_version": 1000, "remove_version": 1000, "cancel_installation": 1000}


@dataclass
class Built:
    layout: Layout
    service: VersionService
    jobs: JobService
    events: EventStream
    troubles: Troubles

    async def install(self, tag: str, app_id: str = "comfyui", **options: Any) -> Job:
        job = await self.service.installs.install(tag, app_id, **options)
        return await self.jobs.wait(job.id, 60)

    async def tags(self, app_id: str = "comfyui") -> list[str]:
        return [version.tag for version in await self.service.installed(app_id)]


@contextlib.asynccontextmanager
async def built(root: Path, *, smoke: bool = True) -> AsyncIterator[Built]:
    """As the sidecar builds it; leaving closes it in the same order."""
    layout = Layout(root)
    layout.data.mkdir(parents=True, exist_ok=True)
    events, troubles = EventStream(), Troubles()
    events.bind(asyncio.get_running_loop())
    database = Database(layout.jobs_db, Schema.load("jobs"), disposable=False)
    jobs = JobService(JobStore(database), events)
    network = NetworkClient()
    service = VersionService(
        layout, Apps(layout, troubles), troubles, events, jobs, network, Bandwidth(), rates=Rates(MANY), smoke=smoke
    )
    await jobs.open()
    await service.open()
    try:
        yield Built(layout, service, jobs, events, troubles)
    finally:
        await jobs.close()
        network.close()
        await service.close()
        database.close_sync()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleaseServer]:
    with ReleaseServer() as one:
        for name, value in one.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "uv-cache"))
        yield one


def launch_app(sidecar: Sidecar, params: dict[str, Any]) -> dict[str, Any]:
    """Start an app. Tests beside this one start apps that like the same port, and end them before the sidecar can see
    who had it: then once more."""
    for _ in range(5):
        started = sidecar.result("launch_app", params)
        log = Path(started["log_path"]) if started.get("log_path") else None
        if started["success"] or log is None or b"Address already in use" not in log.read_bytes():
            break
    return started


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by path."""
    found: dict[str, bytes] = {}
    for path, _folders, names in os.walk(folder):
        for name in names:
            one = Path(path) / name
            found[str(one.relative_to(folder))] = os.readlink(one).encode() if one.is_symlink() else one.read_bytes()
    return found
