"""The methods of the desktop: shortcuts under all the names that clients use for them, and opening things."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from pumas.desktop import contract as wire
from pumas.desktop.service import DesktopService, ShortcutState
from pumas.errors import (
    AlreadyExists,
    DiskError,
    FileUnavailable,
    InvalidInput,
    LaunchFailed,
    NoActiveVersion,
    NotEnoughSpace,
    PumasError,
    ReadOnly,
    UnknownApp,
    UnsafePath,
    Unsupported,
    VersionNotFound,
)
from pumas.rpc.models import NoParams
from pumas.rpc.registry import Methods

_DISK = (DiskError, NotEnoughSpace, ReadOnly)
_MAKE = (InvalidInput, VersionNotFound, AlreadyExists, Unsupported, *_DISK)
_OPEN = (FileUnavailable, Unsupported, LaunchFailed)


def register(methods: Methods, desktop: DesktopService) -> None:
    _register_states(methods, desktop)
    _register_changes(methods, desktop)
    _register_common(methods, desktop)
    _register_opening(methods, desktop)


def _register_states(methods: Methods, desktop: DesktopService) -> None:
    @methods.row("get_version_shortcuts", wire.OfTag, wire.ShortcutState, errors=[InvalidInput])
    async def get_version_shortcuts(p: wire.OfTag) -> wire.ShortcutState:
        """Say which shortcuts a version has."""
        return _state(await desktop.state(p.tag))

    @methods.row("get_version_shortcut_state", wire.OfTag, wire.ShortcutState, errors=[InvalidInput])
    async def get_version_shortcut_state(p: wire.OfTag) -> wire.ShortcutState:
        """Say which shortcuts a version has, without an envelope."""
        return _state(await desktop.state(p.tag))

    @methods.row("get_all_shortcut_states", NoParams, wire.ShortcutStates)
    async def get_all_shortcut_states(_p: NoParams) -> wire.ShortcutStates:
        """Say which shortcuts each installed version of ComfyUI has."""
        active, states = await desktop.states()
        return wire.ShortcutStates(active=active, states={state.tag: _state(state) for state in states})


def _register_changes(methods: Methods, desktop: DesktopService) -> None:
    @methods.row("set_version_shortcuts", wire.SetShortcuts, wire.Changed, errors=_MAKE)
    async def set_version_shortcuts(p: wire.SetShortcuts) -> wire.Changed:
        """Make or remove the chosen shortcuts of a version."""
        act = desktop.create if p.enabled else desktop.remove
        changed = await _changed(desktop, p.tag, act(p.tag, menu=p.menu, desktop=p.desktop))
        if not (p.enabled and changed.success):
            return changed
        return changed.model_copy(update={"menu": changed.state.menu, "desktop": changed.state.desktop})

    @methods.row("create_version_shortcuts", wire.CreateShortcuts, wire.Created, errors=_MAKE)
    async def create_version_shortcuts(p: wire.CreateShortcuts) -> wire.Created:
        """Make the shortcuts of an installed version, or renew them."""
        state = await desktop.create(p.tag, menu=p.create_menu, desktop=p.create_desktop)
        return wire.Created(menu=state.menu, desktop=state.desktop, state=_state(state))

    @methods.row("remove_version_shortcuts", wire.RemoveShortcuts, wire.Removed, errors=[InvalidInput, *_DISK])
    async def remove_version_shortcuts(p: wire.RemoveShortcuts) -> wire.Removed:
        """Remove the shortcuts of a version, installed or not; the icon goes with the last one."""
        return wire.Removed(state=_state(await desktop.remove(p.tag, menu=p.remove_menu, desktop=p.remove_desktop)))

    def toggle(name: str, *, menu: bool = False, desktop_too: bool = False) -> None:
        @methods.row(name, wire.OfTag, wire.Changed, errors=_MAKE)
        async def toggle_one(p: wire.OfTag) -> wire.Changed:
            """Make a version's shortcut when it is missing, else remove it; the name says which one."""
            return await _changed(desktop, p.tag, desktop.toggle(p.tag, menu=menu, desktop=desktop_too))

    toggle("toggle_version_menu", menu=True)
    toggle("toggle_version_menu_shortcut", menu=True)
    toggle("toggle_version_desktop", desktop_too=True)
    toggle("toggle_version_desktop_shortcut", desktop_too=True)

    @methods.row("toggle_menu", wire.MaybeTag, None, errors=[NoActiveVersion, *_MAKE])
    async def toggle_menu(p: wire.MaybeTag) -> None:
        """Make a version's shortcut in the menu when it is missing, else remove it."""
        await desktop.toggle(p.tag, menu=True)

    @methods.row("toggle_desktop", wire.MaybeTag, None, errors=[NoActiveVersion, *_MAKE])
    async def toggle_desktop(p: wire.MaybeTag) -> None:
        """Make a version's shortcut on the desktop when it is missing, else remove it."""
        await desktop.toggle(p.tag, desktop=True)


def _register_common(methods: Methods, desktop: DesktopService) -> None:
    make = (NoActiveVersion, AlreadyExists, Unsupported, *_DISK)

    @methods.row("menu_exists", NoParams, bool)
    async def menu_exists(_p: NoParams) -> bool:
        """Say whether the menu has a shortcut that starts the active version, whichever that is."""
        return (await desktop.common()).menu

    @methods.row("desktop_exists", NoParams, bool)
    async def desktop_exists(_p: NoParams) -> bool:
        """Say whether the desktop has a shortcut that starts the active version, whichever that is."""
        return (await desktop.common()).desktop

    @methods.row("create_menu_shortcut", NoParams, bool, errors=make)
    async def create_menu_shortcut(_p: NoParams) -> bool:
        """Make a shortcut in the menu that starts the active version, whichever that is; true when it is there."""
        await desktop.create_common(menu=True)
        return (await desktop.common()).menu

    @methods.row("create_desktop_shortcut", NoParams, bool, errors=make)
    async def create_desktop_shortcut(_p: NoParams) -> bool:
        """Make a shortcut on the desktop that starts the active version, whichever that is; true when it is there."""
        await desktop.create_common(desktop=True)
        return (await desktop.common()).desktop

    @methods.row("remove_menu_shortcut", NoParams, bool, errors=_DISK)
    async def remove_menu_shortcut(_p: NoParams) -> bool:
        """Remove the menu's shortcut of the active version; false when there is none of this launcher."""
        return await desktop.remove_common(menu=True)

    @methods.row("remove_desktop_shortcut", NoParams, bool, errors=_DISK)
    async def remove_desktop_shortcut(_p: NoParams) -> bool:
        """Remove the desktop's shortcut of the active version; false when there is none of this launcher."""
        return await desktop.remove_common(desktop=True)

    @methods.row("install_icon", NoParams, bool, errors=_DISK)
    async def install_icon(_p: NoParams) -> bool:
        """Put the icon of shortcuts into the user's icon theme; true when it is there."""
        await desktop.install_icon()
        return True


def _register_opening(methods: Methods, desktop: DesktopService) -> None:
    @methods.row("open_path", wire.OpenPath, wire.Opened, errors=[InvalidInput, UnsafePath, *_OPEN])
    async def open_path(p: wire.OpenPath) -> wire.Opened:
        """Open a folder of the launcher root, or show a file in its folder. Files are never opened themselves."""
        return wire.Opened(path=await desktop.open_path(p.path))

    @methods.row("open_url", wire.OpenUrl, None, errors=[InvalidInput, Unsupported, LaunchFailed])
    async def open_url(p: wire.OpenUrl) -> None:
        """Open a page in the user's browser."""
        await desktop.open_url(p.url)

    @methods.row(
        "open_active_install",
        wire.OpenInstall,
        wire.Opened,
        errors=[UnknownApp, NoActiveVersion, Unsupported, LaunchFailed],
    )
    async def open_active_install(p: wire.OpenInstall) -> wire.Opened:
        """Open the folder of an app's active version."""
        return wire.Opened(path=await desktop.open_install(p.app_id))


async def _changed(desktop: DesktopService, tag: str, act: Coroutine[Any, Any, ShortcutState]) -> wire.Changed:
    """Older clients take the state also from a failure."""
    try:
        state = await act
    except InvalidInput:
        raise
    except PumasError as error:
        state = await desktop.state(tag)
        return wire.Changed(success=False, state=_state(state), tag=tag, error=str(error), error_code=error.kind)
    return wire.Changed(success=True, state=_state(state), tag=state.tag)


def _state(state: ShortcutState) -> wire.ShortcutState:
    return wire.ShortcutState.model_validate(state)
