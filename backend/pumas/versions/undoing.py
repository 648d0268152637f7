"""Going back: the trash, the history of what was in use, and what a start finds half done. Blocks."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable

from pumas.errors import Busy, NothingToRollBack, VersionInUse, VersionNotFound
from pumas.storage.json_file import JsonObject
from pumas.versions.places import Removed
from pumas.versions.values import OneApp

REPLACED_KEPT = 2

Runs = Callable[[str, str], bool]
"""Whether a version of an app runs now."""


def roll_back(one: OneApp, runs: Runs) -> str:
    """Take the newest of the history back; the tag that is active then. Raises NothingToRollBack, Busy, …"""
    one.state.require_trusted()
    for past in reversed(one.state.history()):
        if past.get("kind") == "replaced" and _swap_back(one, past, runs):
            return str(past["tag"])
        if past.get("kind") == "switched":
            with contextlib.suppress(VersionNotFound):
                tag = one.state.get(str(past.get("tag"))).tag
                if tag != one.state.active():
                    _forget_past(one, past)
                    one.state.switch(tag)
                    return tag
        _forget_past(one, past)
    raise NothingToRollBack(one.app.name)


def _swap_back(one: OneApp, past: JsonObject, runs: Runs) -> bool:
    removed = one.places.find(str(past.get("trash_id")))
    if removed is None or not one.state.is_whole(removed.tag):
        return False
    if runs(one.app.id, removed.tag):
        raise Busy(f"{one.app.name} {removed.tag} runs now; stop it first.")
    one.places.swap_in(removed, one.state.place(removed.tag))
    info = one.state.marker(one.state.place(removed.tag)) or removed.info
    one.state.add(removed.tag, info)
    _forget_past(one, past)
    return True


def _forget_past(one: OneApp, past: JsonObject) -> None:
    def change(value: JsonObject) -> None:
        value["history"] = [other for other in one.state.history() if other != past]

    one.state.change(change)


def remove(one: OneApp, tag: str, runs: Runs) -> Removed:
    """Move a version to the trash. Raises VersionNotFound, VersionInUse, CorruptState, and the disk's failures."""
    with one.state.held():
        one.state.require_trusted()
        version = one.state.get(tag)
        if one.job_id is not None and one.progress is not None and one.progress.tag == version.tag:
            raise VersionInUse(f"{one.app.name} {version.tag} is being installed.")
        if version.tag == one.state.active():
            raise VersionInUse(f"{one.app.name} {version.tag} is active; switch to another version first.")
        if runs(one.app.id, version.tag):
            raise VersionInUse(f"{one.app.name} {version.tag} runs now; stop it first.")
        trash_id = f"{version.tag}-{secrets.token_hex(4)}"
        removed = one.places.remove(version.folder, trash_id, version.tag, "removed", version.info)
        one.state.drop(version.tag)
        return removed


def prune_replaced(one: OneApp) -> None:
    """Former builds of a tag are kept for a rollback or two, not for ever."""
    for old in [removed for removed in one.places.trash() if removed.reason == "replaced"][REPLACED_KEPT:]:
        one.places.forget(old)


def clean(one: OneApp, kept: set[str]) -> None:
    """Finish what a kill left half done, and remove what no installation owns any more; `kept` are the ids of those
    that may go on. Raises CorruptState and the disk's failures."""
    for job_id in one.places.leftovers() - kept:
        one.places.discard(job_id)
    listed = one.state.listed()
    for half in one.places.half_done():
        if half.tag not in listed and one.state.is_whole(half.tag):
            # It was being restored.
            one.state.add(half.tag, half.info or one.state.marker(one.state.place(half.tag)))
        one.places.forget(half)
    gone = {removed.tag for removed in one.places.trash()}
    for tag in one.state.validate(set()).missing:
        if tag in gone:
            one.state.drop(tag)
