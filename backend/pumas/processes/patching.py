"""Which version's `main.py` is meant, for `patch.py`. One change at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pumas.processes import patch
from pumas.processes.values import Version, Versions
from pumas.system.service import COMFYUI


class Patching:
    """None for a tag means the active version. All raise InvalidInput and VersionNotFound for a tag that is none."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self.changes = 0
        """How often a `main.py` may have been changed: what was read before is old when it has grown."""
        self._lock = asyncio.Lock()

    async def is_patched(self, tag: str | None) -> bool:
        version = await self._versions.active(COMFYUI) if tag is None else await self._versions.get(tag, COMFYUI)
        return version is not None and await asyncio.to_thread(patch.is_patched, version.folder)

    async def patch(self, tag: str | None) -> bool:
        """Whether anything was changed. Raises NoActiveVersion, and as `patch.patch`."""
        return await self._change(tag, lambda version: patch.patch(version.folder, version.tag))

    async def revert(self, tag: str | None) -> bool:
        """Whether anything was changed. Raises NoActiveVersion, and as `patch.revert`."""
        return await self._change(tag, lambda version: patch.revert(version.folder))

    async def toggle(self, tag: str | None) -> bool:
        """Whether it is patched then. Raises NoActiveVersion, and as `patch.patch` and `patch.revert`."""

        def turn(version: Version) -> bool:
            if patch.is_patched(version.folder):
                return not patch.revert(version.folder)
            return patch.patch(version.folder, version.tag)

        return await self._change(tag, turn)

    async def _change(self, tag: str | None, work: Callable[[Version], bool]) -> bool:
        versions = self._versions
        version = await (versions.require_active(COMFYUI) if tag is None else versions.get(tag, COMFYUI))
        async with self._lock:
            try:
                return await asyncio.to_thread(work, version)
            finally:
                self.changes += 1
