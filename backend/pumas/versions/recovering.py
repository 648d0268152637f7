"""What a start does about changes that a kill cut short: each is finished or undone, and nobody's files are touched.

Folders that are ours by name or by the marker inside say what happened: no journal has to be right. What is thrown away
is only put out of sight here, and removed by whoever calls `Places.tidy`. Blocks.
"""

from __future__ import annotations

from pumas.versions.placing import Placing
from pumas.versions.undoing import is_back
from pumas.versions.values import OneApp


def recover(one: OneApp, kept: set[str]) -> None:
    """`kept` are the ids of installations that may go on, and do the same themselves.

    Raises:
        CorruptState: the list cannot be read; nothing was changed. And the disk's failures.
    """
    one.state.require_trusted()
    _settle_builds(one, kept)
    _finish_restores_and_removals(one)
    _finish_rollbacks(one)
    _list_what_we_built(one, kept)


def _settle_builds(one: OneApp, kept: set[str]) -> None:
    """A build that took its place is listed, and the former one goes to the trash; any other is thrown away."""
    folders = (one.state.folder / name for name in one.state.folders())  # of others, too: not each name is a tag
    placed = {built[1]: built[0] for folder in folders if (built := one.state.built_by(folder)) is not None}
    for job_id in one.places.leftovers() - kept:
        tag = placed.get(job_id)
        if tag is None:
            one.places.discard(job_id, at_once=False)
        else:
            Placing(one.state, one.places, tag, job_id).settle({}, activate=False)


def _finish_restores_and_removals(one: OneApp) -> None:
    listed = one.state.listed()
    for half in one.places.half_done():
        if half.tag not in listed and one.state.is_whole(half.tag):
            # It was being restored.
            one.state.add(half.tag, {**half.info, **one.state.marker(one.state.place(half.tag))})
        one.places.forget(half)
    gone = {removed.tag for removed in one.places.trash() if removed.reason == "removed"}
    for tag in one.state.validate(set()).missing:
        if tag in gone:
            one.state.drop(tag)


def _finish_rollbacks(one: OneApp) -> None:
    """The former build is back in its place, and the history still offers it."""
    for past in one.state.history():
        removed = one.places.find(str(past.get("trash_id"))) if past.get("kind") == "replaced" else None
        if removed is not None and is_back(one, removed):
            one.state.put_back(removed.tag, removed.info or one.state.marker(one.state.place(removed.tag)), [past])


def _list_what_we_built(one: OneApp, kept: set[str]) -> None:
    """Whole folders that we built, in their place, and not listed."""
    for tag in sorted(set(one.state.folders()) - one.state.listed()):
        built = one.state.built_by(one.state.folder / tag)
        if built is not None and built[0] == tag and built[1] not in kept and one.state.is_whole(tag):
            one.state.add(tag, one.state.marker(one.state.place(tag)))
