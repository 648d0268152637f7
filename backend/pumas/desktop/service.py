"""The desktop around the apps: shortcuts of versions, and opening folders and pages.

Which versions there are it learns from `Versions`; what does the work is loaded at first use. Knows no wire.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from pumas.config import Layout
from pumas.processes.values import Version
from pumas.storage.paths import path_below
from pumas.system.service import COMFYUI

if TYPE_CHECKING:
    from pumas.desktop.shortcuts import Place, Shortcuts

T = TypeVar("T")

SKIP_VARIABLE = "SKIP_BROWSER"


class InstalledVersions(Protocol):
    """What is installed, of `pumas.versions`. Raises UnknownApp, VersionNotFound, NoActiveVersion, InvalidInput."""

    async def get(self, tag: str, app_id: str) -> Version: ...
    async def active(self, app_id: str) -> Version | None: ...
    async def require_active(self, app_id: str) -> Version: ...
    async def installed(self, app_id: str) -> Sequence[Version]: ...


@dataclass(frozen=True, slots=True)
class ShortcutState:
    tag: str
    menu: bool
    desktop: bool


class DesktopService:
    """For one event loop; shortcuts are those of ComfyUI."""

    def __init__(self, layout: Layout, versions: InstalledVersions) -> None:
        self._layout = layout
        self._versions = versions
        self._made: Shortcuts | None = None
        self._lock = asyncio.Lock()
        self.changes = 0
        """How often shortcuts of versions may have been changed: what was read before is old when it has grown."""

    # -- shortcuts of versions ---------------------------------------------------------------------------------------

    async def state(self, tag: str) -> ShortcutState:
        """Of any version, installed or not. Raises InvalidInput."""
        found = await self._do(lambda shortcuts: shortcuts.state(_checked(tag)))
        return ShortcutState(_checked(tag), found.menu, found.desktop)

    async def states(self) -> tuple[str | None, list[ShortcutState]]:
        """The active version, and the shortcuts of all that are installed."""
        active = await self._versions.active(COMFYUI)
        versions = await self._versions.installed(COMFYUI)
        return active.tag if active else None, [await self.state(version.tag) for version in versions]

    async def create(self, tag: str, *, menu: bool = True, desktop: bool = True) -> ShortcutState:
        """Make or renew shortcuts of an installed version.

        Raises:
            InvalidInput, VersionNotFound, AlreadyExists, Unsupported, DiskError, NotEnoughSpace, ReadOnly.
        """
        async with self._lock:
            tag = (await self._versions.get(tag, COMFYUI)).tag
            try:
                await self._do(lambda shortcuts: shortcuts.create(tag, _places(menu, desktop)))
            finally:
                self.changes += 1
        return await self.state(tag)

    async def remove(self, tag: str, *, menu: bool = True, desktop: bool = True) -> ShortcutState:
        """Remove shortcuts, of a version that is gone as well. Raises InvalidInput, DiskError, ReadOnly."""
        async with self._lock:
            try:
                await self._do(lambda shortcuts: shortcuts.remove(_checked(tag), _places(menu, desktop)))
            finally:
                self.changes += 1
        return await self.state(tag)

    async def toggle(self, tag: str | None, *, menu: bool = False, desktop: bool = False) -> ShortcutState:
        """Make the one that is missing, or remove the one that is there. None: of the active version.

        Raises:
            NoActiveVersion, and as `create`.
        """
        if tag is None:
            tag = (await self._versions.require_active(COMFYUI)).tag
        state = await self.state(tag)
        there = state.menu if menu else state.desktop
        return await (self.remove if there else self.create)(tag, menu=menu, desktop=desktop)

    # -- the shortcut of the active version --------------------------------------------------------------------------

    async def common(self) -> ShortcutState:
        """Whether there is one that starts whichever version is active."""
        found = await self._do(lambda shortcuts: shortcuts.state(None))
        return ShortcutState("", found.menu, found.desktop)

    async def create_common(self, *, menu: bool = False, desktop: bool = False) -> None:
        """Raises NoActiveVersion, AlreadyExists, Unsupported, InvalidInput, DiskError, NotEnoughSpace, ReadOnly."""
        await self._versions.require_active(COMFYUI)
        async with self._lock:
            await self._do(lambda shortcuts: shortcuts.create(None, _places(menu, desktop)))

    async def remove_common(self, *, menu: bool = False, desktop: bool = False) -> bool:
        """Whether there was one of ours. Raises DiskError, ReadOnly."""
        async with self._lock:
            return await self._do(lambda shortcuts: shortcuts.remove(None, _places(menu, desktop))) > 0

    async def install_icon(self) -> None:
        """Put the app's icon into the user's icon theme. Raises DiskError, NotEnoughSpace, ReadOnly."""
        await self._do(lambda shortcuts: shortcuts.install_icon(None))

    # -- opening -----------------------------------------------------------------------------------------------------

    async def open_path(self, text: str) -> str:
        """Open a folder of the launcher root or the library, or show a file there; the path that was meant.

        Raises:
            InvalidInput, UnsafePath, FileUnavailable, Unsupported, LaunchFailed.
        """

        def work() -> str:
            from pumas.desktop import opening

            path = path_below(self._layout.root, text, self._layout.library)
            opening.show(path)
            return str(path)

        return await asyncio.to_thread(work)

    async def open_url(self, url: str) -> None:
        """Open a page in the user's browser. Raises InvalidInput, Unsupported, LaunchFailed."""

        def work() -> None:
            from pumas.desktop import opening

            opening.open_target(opening.address(url))

        await asyncio.to_thread(work)

    async def open_app(self, url: str, app_id: str, tag: str) -> None:
        """Open the page of an app that runs; not where the environment says SKIP_BROWSER.

        Raises:
            InvalidInput, Unsupported, LaunchFailed, DiskError, NotEnoughSpace, ReadOnly.
        """
        if os.environ.get(SKIP_VARIABLE):
            return

        def work() -> None:
            from pumas.desktop import opening

            name = opening.window_of(app_id, tag)
            known = f"ComfyUI-{name}" if app_id == COMFYUI else name
            opening.open_window(opening.address(url), self._layout.data / "profiles" / name, known)

        await asyncio.to_thread(work)

    async def open_install(self, app_id: str = COMFYUI) -> str:
        """Open the folder of the active version. Raises UnknownApp, NoActiveVersion, Unsupported, LaunchFailed."""
        version = await self._versions.require_active(app_id)

        def work() -> None:
            from pumas.desktop import opening

            opening.open_target(str(version.folder))

        await asyncio.to_thread(work)
        return str(version.folder)

    async def _do(self, work: Callable[[Shortcuts], T]) -> T:
        def run() -> T:
            from pumas.desktop.shortcuts import Shortcuts

            if self._made is None:
                self._made = Shortcuts(self._layout)
            return work(self._made)

        return await asyncio.to_thread(run)


def _checked(tag: str) -> str:
    from pumas.versions.tags import check_tag

    return check_tag(tag)


def _places(menu: bool, desktop: bool) -> Collection[Place]:
    from pumas.desktop.shortcuts import Place

    return {place for place, chosen in ((Place.MENU, menu), (Place.DESKTOP, desktop)) if chosen}
