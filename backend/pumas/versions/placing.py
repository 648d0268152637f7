"""How a finished build takes its place: one rename, then the list; and back again when the list cannot be written.

An installation calls it, and a start that finds one which was killed in between. Blocks; knows nothing of how a build
is made.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from pumas.apps.command import is_complete
from pumas.errors import AlreadyExists, Busy, PumasError
from pumas.jobs.store import now
from pumas.storage.json_file import JsonObject
from pumas.versions.places import Places
from pumas.versions.state import VersionState
from pumas.versions.undoing import replaced_id


@dataclass(frozen=True, slots=True)
class Placing:
    """The build that the installation `job_id` made of `tag`."""

    state: VersionState
    places: Places
    tag: str
    job_id: str

    def is_placed(self) -> bool:
        """Whether it has its place, and what was there before lies where it was built."""
        return self.state.built_by(self.state.place(self.tag)) == (self.tag, self.job_id)

    def take(self, *, replace: bool, in_use: Callable[[str, str], bool]) -> None:
        """Raises AlreadyExists, Busy, and the disk's failures; nothing was changed."""
        tree, place = self.places.tree(self.job_id), self.state.place(self.tag)
        if not place.exists():
            self.places.put(tree, place)
            return
        if not replace:
            raise AlreadyExists(f"{place.name} appeared in {place.parent.name} meanwhile; it was left as it is.")
        if in_use(self.state.app.id, self.tag):
            raise Busy(f"{self.state.app.name} {self.tag} runs now; stop it and install again.")
        self.places.exchange(tree, place)

    def settle(self, info: JsonObject, *, activate: bool) -> None:
        """All that follows the rename; done again after a crash.

        Raises:
            CorruptState, and the disk's failures: what was there before is back, as far as the disk allows.
        """
        try:
            self._settle(info, activate)
        except PumasError:
            with contextlib.suppress(PumasError):
                self._take_back()
            raise
        self.places.discard(self.job_id)

    def _settle(self, info: JsonObject, activate: bool) -> None:
        tag, trash_id, tree = self.tag, replaced_id(self.tag, self.job_id), self.places.tree(self.job_id)
        history = self.state.history()
        past: list[JsonObject] = []
        if tree.exists():  # the former build; one that cannot be gone back to is not pruned with those that can
            reason = "replaced" if is_complete(self.state.app, tree) else "removed"
            self.places.remove(tree, trash_id, tag, reason, self.state.info(tag) or self.state.marker(tree))
        known = any(entry.get("trash_id") == trash_id for entry in history)
        former = self.places.find(trash_id)
        if former is not None and former.reason == "replaced" and not known:
            past.append({"kind": "replaced", "tag": tag, "trash_id": trash_id, "at": now()})
        active = self.state.active()  # before there is another one to choose from
        if activate and active is not None and active != tag:
            past.append({"kind": "switched", "tag": active, "at": now()})
        self.state.add(tag, self.state.marker(self.state.place(tag)) or info, remember=past, select=activate)

    def _take_back(self) -> None:
        tree, place = self.places.tree(self.job_id), self.state.place(self.tag)
        removed = self.places.find(replaced_id(self.tag, self.job_id))
        if tree.exists():
            self.places.exchange(tree, place)
        elif removed is not None:
            self.places.swap_in(removed, place)
            self.places.forget(removed)
        else:
            self.places.put(place, tree)
        self.places.discard(self.job_id)
