"""Versions of apps as their callers see them: which there are, which is active, install, update, roll back, remove.

Each app has one `VersionState`. Installs are jobs of the kind `install`. Knows apps by their descriptions alone, and
nothing of the wire. What a poll asks is answered from memory or from some file stamps, never from the network.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

from pumas.apps.catalog import DEFAULT_APP, Apps
from pumas.config import Layout
from pumas.storage.json_file import StateLock
from pumas.storage.troubles import Troubles
from pumas.versions.state import InstalledVersion, VersionState

T = TypeVar("T")


class VersionService:
    def __init__(self, layout: Layout, apps: Apps, troubles: Troubles) -> None:
        self._layout = layout
        self._apps = apps
        self._troubles = troubles
        self._file_lock = StateLock(layout.state_lock)
        self._states: dict[str, VersionState] = {}
        self._lock = threading.Lock()

    async def installed(self, app_id: str = DEFAULT_APP) -> list[InstalledVersion]:
        """Newest first. Raises UnknownApp."""
        return await self._do(app_id, VersionState.installed)

    async def active(self, app_id: str = DEFAULT_APP) -> InstalledVersion | None:
        """The version in use; None when none is installed. Raises UnknownApp."""

        def active(state: VersionState) -> InstalledVersion | None:
            tag = state.active()
            return state.get(tag) if tag else None

        return await self._do(app_id, active)

    async def get(self, tag: str, app_id: str = DEFAULT_APP) -> InstalledVersion:
        """Raises UnknownApp, InvalidInput, VersionNotFound."""
        return await self._do(app_id, lambda state: state.get(tag))

    async def switch(self, tag: str, app_id: str = DEFAULT_APP) -> None:
        """Make a version active and the last selected. Raises as `get`, CorruptState and the disk's failures."""
        await self._do(app_id, lambda state: state.switch(tag))

    def state_of(self, app_id: str) -> VersionState:
        """Blocks at the first call. Raises UnknownApp."""
        app = self._apps.get(app_id)
        with self._lock:
            state = self._states.get(app.id)
            if state is None:
                state = self._states[app.id] = VersionState(self._layout, app, self._file_lock, self._troubles)
            return state

    async def _do(self, app_id: str, work: Callable[[VersionState], T]) -> T:
        return await asyncio.to_thread(lambda: work(self.state_of(app_id)))
