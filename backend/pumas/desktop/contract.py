"""Wire models of shortcuts and of opening things. The forms are those of existing clients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pumas.rpc.models import Params, PathText, Result

Tag = Annotated[str, Field(max_length=200, description="Of a ComfyUI version.")]


class OfTag(Params):
    tag: Tag


class MaybeTag(Params):
    tag: Tag | None = Field(None, description="Left out: the active version.")


class SetShortcuts(OfTag):
    enabled: bool = Field(description="Make them, or remove them.")
    menu: bool = Field(True, description="The one in the menu is meant.")
    desktop: bool = Field(True, description="The one on the desktop is meant.")


class CreateShortcuts(OfTag):
    create_menu: bool = True
    create_desktop: bool = True


class RemoveShortcuts(OfTag):
    remove_menu: bool = True
    remove_desktop: bool = True


class OpenPath(Params):
    path: PathText = Field(description="Absolute, with `~`, or relative to the launcher root; must lie in the root.")


class OpenUrl(Params):
    url: Annotated[str, Field(min_length=1, max_length=4096, description="http or https.")]


class OpenInstall(Params):
    app_id: Annotated[str, Field(max_length=100)] = "comfyui"


class ShortcutState(Result):
    tag: str
    menu: bool = Field(description="There is an entry of this launcher in the menu.")
    desktop: bool = Field(description="There is an entry of this launcher on the desktop.")


class ShortcutStates(Result):
    active: str | None
    states: dict[str, ShortcutState]


class Changed(Result):
    """How it is now, whether the change succeeded or not."""

    success: bool
    state: ShortcutState
    tag: str
    error: str | None = Field(default=None, exclude_if=lambda value: value is None)
    error_code: str | None = Field(default=None, exclude_if=lambda value: value is None)
    menu: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    desktop: bool | None = Field(default=None, exclude_if=lambda value: value is None)


class Created(Result):
    menu: bool
    desktop: bool
    state: ShortcutState


class Removed(Result):
    state: ShortcutState


class Opened(Result):
    path: str = Field(description="Links followed.")
