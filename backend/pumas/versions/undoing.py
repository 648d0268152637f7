"""Which version is used, the way back to what was used before, and the trash. Blocks.

Each change is one rename and one change of the list; when the list cannot be written the rename is taken back. What a
kill leaves between the two is finished by `recovering.py`.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Collection

from pumas.apps.command import is_complete
from pumas.errors import (
    AlreadyExists,
    Busy,
    NothingToRollBack,
    PumasError,
    TrashEntryNotFound,
    VersionInUse,
)
from pumas.jobs.store import now
from pumas.storage.json_file import JsonObject
from pumas.versions.places import Removed, is_id
from pumas.versions.values import OneApp

REPLACED_KEPT = 2

Runs = Callable[[str, str], bool]
"""Whether a version of an app runs now."""


def switch(one: OneApp, tag: str) -> str:
    """Make a version active; its tag.

    Raises:
        VersionNotFound, InvalidInput, CorruptState, and the disk's failures; nothing was changed.
    """
    with one.state.held():
        wanted, former = one.state.get(tag).tag, one.state.active()
        past: JsonObject = {"kind": "switched", "tag": former, "at": now()}
        one.state.switch(wanted, remember=past if former not in (None, wanted) else None)
        return wanted


def roll_back(one: OneApp, runs: Runs) -> str:
    """Take the newest of the history back; the tag that is active then.

    Raises:
        NothingToRollBack, Busy, CorruptState, and the disk's failures; nothing was changed.
    """
    with one.state.held():
        one.state.require_trusted()
        passed: list[JsonObject] = []
        for past in reversed(one.state.history()):
            passed.append(past)
            if past.get("kind") == "replaced" and (removed := former_build(one, past)) is not None:
                _swap_back(one, removed, passed, runs)
                return removed.tag
            if past.get("kind") == "switched" and (tag := _former_choice(one, past)) is not None:
                one.state.switch(tag, forget=passed)
                return tag
        if passed:
            one.state.forget(passed)
        raise NothingToRollBack(one.app.name)


def former_build(one: OneApp, past: JsonObject) -> Removed | None:
    """The build that an entry of the history would bring back; None when there is none, or it is back already."""
    removed = one.places.find(str(past.get("trash_id")))
    if removed is None or not one.state.place(removed.tag).exists() or is_back(one, removed):
        return None
    return removed if is_complete(one.app, one.places.content(removed)) else None


def is_back(one: OneApp, removed: Removed) -> bool:
    """Whether what lies in the trash is the build that once took the place of another: then they changed places."""
    built = one.state.built_by(one.places.content(removed))
    return built is not None and removed.id == replaced_id(*built)


def replaced_id(tag: str, job_id: str) -> str:
    """Under which the build that an installation replaced lies in the trash."""
    return f"{tag}-{job_id}"


def _swap_back(one: OneApp, removed: Removed, passed: Collection[JsonObject], runs: Runs) -> None:
    if runs(one.app.id, removed.tag):
        raise Busy(f"{one.app.name} {removed.tag} runs now; stop it first.")
    place = one.state.place(removed.tag)
    one.places.swap_in(removed, place)
    try:
        one.state.put_back(removed.tag, removed.info or one.state.marker(place), passed)
    except PumasError:
        with contextlib.suppress(PumasError):
            one.places.swap_in(removed, place)
        raise


def _former_choice(one: OneApp, past: JsonObject) -> str | None:
    with contextlib.suppress(PumasError):
        tag = one.state.get(str(past.get("tag"))).tag
        return tag if tag != one.state.active() else None
    return None


def remove(one: OneApp, tag: str, runs: Runs, *, last: bool = False) -> Removed:
    """Move a version to the trash, whole or not. `last`: also the active one, when no other is installed.

    Raises:
        VersionNotFound, VersionInUse, CorruptState, and the disk's failures; nothing was changed.
    """
    with one.state.held():
        one.state.require_trusted()
        version = one.state.get_listed(tag)
        if one.job_id is not None and one.progress is not None and one.progress.tag == version.tag:
            raise VersionInUse(f"{one.app.name} {version.tag} is being installed.")
        if version.tag == one.state.active():
            if len(one.state.installed()) > 1:
                raise VersionInUse(f"{one.app.name} {version.tag} is active; switch to another version first.")
            if not last:
                text = "is active, and no other version is installed; pass last to remove it all the same."
                raise VersionInUse(f"{one.app.name} {version.tag} {text}")
        if runs(one.app.id, version.tag):
            raise VersionInUse(f"{one.app.name} {version.tag} runs or is being changed now; stop it, or wait a moment.")
        trash_id = f"{version.tag}-{secrets.token_hex(4)}"
        removed = one.places.remove(version.folder, trash_id, version.tag, "removed", version.info)
        try:
            one.state.drop(version.tag)
        except PumasError:
            with contextlib.suppress(PumasError):
                one.places.take_out(removed, version.folder)
                one.places.forget(removed)
            raise
        return removed


def restore(one: OneApp, trash_id: str) -> str:
    """Put a version from the trash back; its tag.

    Raises:
        TrashEntryNotFound, AlreadyExists, CorruptState, and the disk's failures; nothing was changed.
    """
    with one.state.held():
        removed = in_trash(one, trash_id)
        one.state.require_trusted()
        place, content = one.state.place(removed.tag), one.places.content(removed)
        if place.exists():
            raise AlreadyExists(f"{one.app.name} {removed.tag} is installed; remove it first.")
        # A build that was taken back lies where the former one lay, with what was noted of that.
        info = {**removed.info, **one.state.marker(content)}
        one.places.take_out(removed, place)
        try:
            one.state.add(removed.tag, info)
        except PumasError:
            with contextlib.suppress(PumasError):
                one.places.take_back(removed, place)
            raise
        with contextlib.suppress(PumasError):  # the next start does it
            one.places.forget(removed)
        return removed.tag


def in_trash(one: OneApp, trash_id: str) -> Removed:
    """Raises TrashEntryNotFound."""
    removed = one.places.find(trash_id) if is_id(trash_id) else None
    if removed is None:
        raise TrashEntryNotFound(trash_id, "list_removed_versions")
    return removed


def purge(one: OneApp, trash_id: str) -> str | None:
    """Remove an entry of the trash for good; its tag, when nothing of that is left anywhere. Raises
    TrashEntryNotFound, and the disk's failures."""
    removed = in_trash(one, trash_id)
    one.places.forget(removed)
    left = one.state.place(removed.tag).exists() or any(other.tag == removed.tag for other in one.places.trash())
    return None if left else removed.tag


def prune_replaced(one: OneApp) -> None:
    """Former builds of a tag are kept for a rollback or two, not for ever. What cannot be removed now goes later."""
    with contextlib.suppress(PumasError):
        for old in [removed for removed in one.places.trash() if removed.reason == "replaced"][REPLACED_KEPT:]:
            one.places.forget(old)
