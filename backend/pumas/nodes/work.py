"""Custom nodes of one version on disk: listed, cloned, updated, moved to the trash and back. Blocks.

A node is cloned into a hidden folder of the version and takes its place by one rename. Where it came from and at which
commit it is stands in the version's record (`record.py`), which is written before anything is moved or checked out:
`tidy` finishes or takes back what a kill cut off. Nodes are programs: nothing of them is run here, and their
requirements are installed only when that is asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pumas.errors import (
    AlreadyExists,
    InvalidInput,
    LocalChanges,
    NodeNotFound,
    NotOurCheckout,
    PumasError,
    TrashEntryNotFound,
)
from pumas.jobs.store import now
from pumas.nodes.git import Git, check_commit, check_url
from pumas.nodes.record import Known, Record, facts, text
from pumas.storage.files import disk_errors, make_folders, rename_new
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import contained, relative_path
from pumas.versions.places import remove_tree, sync

STAGING = ".pumas-nodes"
TRASH = ".pumas-nodes-trash"
REQUIREMENTS = "requirements.txt"
LISTING = "list_removed_custom_nodes"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_TRASH_ID = re.compile(r"(.+)-[0-9a-f]{8}")
_HIDDEN = (".", "__")
"""What begins so is no node to ComfyUI either."""
_UPDATING = "updating"

InstallRequirements = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Node:
    """`url` and `commit` are what was recorded when it was installed or updated here; None for others."""

    name: str
    path: str
    url: str | None
    commit: str | None
    installed_at: str | None
    has_requirements: bool
    is_checkout: bool


@dataclass(frozen=True, slots=True)
class RemovedNode:
    """`url` and `commit` as of `Node`; `removed_at` is None when nobody wrote it down."""

    trash_id: str
    name: str
    url: str | None
    commit: str | None
    removed_at: str | None


def check_name(text: str) -> str:
    """Raises InvalidInput: not made of letters, digits, `.`, `_` and `-`, or no name for a folder everywhere."""
    if not _NAME.fullmatch(text):
        raise InvalidInput("node_name", "must be made of letters, digits, '.', '_' and '-', beginning with the former")
    return relative_path(text, "node_name")


def check_present(text: str) -> str:
    """The name of a node that may be there: people and other programs name folders as they like, with spaces and in any
    script. Raises InvalidInput: it is hidden, or no name of one folder everywhere."""
    if "/" in text or text.startswith(_HIDDEN):
        raise InvalidInput("node_name", "must be the name of one folder, as get_custom_nodes shows it")
    return relative_path(text, "node_name")


def name_of(url: str) -> str:
    """What a repository's folder is called by itself. Raises InvalidInput."""
    return check_name(check_url(url).rstrip("/").rsplit("/", 1)[-1].removesuffix(".git"))


class Nodes:
    """Of the version in `folder`; `place` is the name of the folder of its nodes."""

    def __init__(self, folder: Path, tag: str, place: str, git: Git | None = None) -> None:
        self._folder, self._tag = folder, tag
        self._git = git or Git()
        self._place = contained(folder, place, "version_tag")
        self._trash = folder / TRASH
        self._record = Record(folder)

    def list(self) -> list[Node]:
        """By name; what is hidden or a file does not count. Raises CorruptState, and the disk's failures."""
        known = self._record.read()
        with disk_errors("Looking for custom nodes"):
            try:
                with os.scandir(self._place) as entries:
                    names = sorted(e.name for e in entries if not e.name.startswith(_HIDDEN) and e.is_dir())
            except (FileNotFoundError, NotADirectoryError):
                return []
        return [self._node(name, known.nodes.get(name, {})) for name in names]

    # -- install and update ------------------------------------------------------------------------------------------

    def install(
        self, url: str, name: str, ref: str | None, requirements: InstallRequirements | None, job_id: str = ""
    ) -> Node:
        """Clone into the place of a new node, at `ref` (see `Git.clone`). One that the same job had put there before a
        kill is taken for done.

        Raises:
            InvalidInput, AlreadyExists, GitFailed, InstallFailed, CorruptState and the disk's failures.
        """
        place = self._where(name)
        known = self._record.read()  # one that cannot be read is found out before anything is done
        if os.path.lexists(place):
            entry = known.nodes.get(name, {})
            if job_id and text(entry, "job_id") == job_id:
                return self._node(name, entry)
            raise AlreadyExists(f"{name} already exists in {self._place.name}.")
        staging = self._folder / STAGING / secrets.token_hex(8)
        # What a killed process was cloning; there is never more than one at work.
        remove_tree(staging.parent)
        with disk_errors("Preparing the custom node"):
            make_folders(staging.parent, 0o700)
        try:
            found = self._git.clone(url, staging, ref)
            if requirements is not None and (staging / REQUIREMENTS).is_file():
                requirements(staging / REQUIREMENTS)
            entry = {"url": url, "commit": found, "installed_at": now(), "job_id": job_id}
            with disk_errors("Putting the custom node in place"):
                make_folders(self._place)
                sync(staging)
                self._put(staging, name, entry)
        finally:
            remove_tree(staging.parent)
        return self._node(name, entry)

    def _put(self, staging: Path, name: str, entry: JsonObject) -> None:
        self._record.note(name, entry)
        try:
            rename_new(staging, self._place / name)
        except BaseException:
            self._record.note(name, None)  # somebody else has taken the place meanwhile
            raise

    def update(self, name: str, requirements: InstallRequirements | None) -> tuple[str, str]:
        """Go forward to the newest commit of its branch; (commit before, commit now).

        Raises:
            NodeNotFound, NotOurCheckout, LocalChanges, and as `install`: it is as it was.
            GitFailed: also when it cannot go straight forward.
        """
        place = self._there(name)
        if not _is_checkout(place):
            raise NotOurCheckout(f"{name} is no git checkout of its own, so it cannot be updated.")
        known = self._settled(name)
        before = self._git.head(place)
        url, branch = text(known, "url") or self._git.remote(place), self._git.branch(place)
        if not url or not branch:
            raise NotOurCheckout(f"{name} has no https address or no branch to be updated from.")
        if self._git.changed(place):
            raise LocalChanges(f"Files of {name} were changed here; undo that, or remove and install it again.")
        newest = self._git.fetch(place, url, branch)
        self._record.note(name, known | {_UPDATING: {"before": before, "after": newest}})
        try:
            if newest != before:
                self._git.forward(place, newest)
            if requirements is not None and (place / REQUIREMENTS).is_file():
                requirements(place / REQUIREMENTS)
            newest = self._git.head(place)  # commits of the user's may follow
        except BaseException:
            with contextlib.suppress(PumasError):  # else the next start or update does it
                self._settled(name)
            raise
        moment = {"commit": newest, "previous_commit": before, "updated_at": now()}
        self._record.note(name, {**known, "url": url, **moment})
        return before, newest

    def _settled(self, name: str) -> JsonObject:
        """What is known of a node, after a step forward that was not finished is taken back.

        Raises:
            GitFailed, CorruptState, and the disk's failures.
        """
        known = dict(self._record.read().nodes.get(name, {}))
        step = facts(known, _UPDATING)
        if known.pop(_UPDATING, None) is None:
            return known
        place = self._place / name
        if _is_checkout(place):
            before, after = (check_commit(str(step.get(key))) for key in ("before", "after"))
            kept = Git().mend(place, before, after)
            known |= {"kept_changes": kept} if kept else {}
        self._record.note(name, known)
        return known

    # -- trash -------------------------------------------------------------------------------------------------------

    def remove(self, name: str) -> str:
        """Move it to the version's trash, a link as the link it is; its name there.

        Raises:
            NodeNotFound, CorruptState, and the disk's failures.
        """
        place = self._there(name)
        known = self._record.read()
        trash_id = f"{name}-{secrets.token_hex(4)}"
        known.trash[trash_id] = {"name": name, "removed_at": now(), "node": known.nodes.pop(name, {})}
        with disk_errors(f"Removing {name}"):
            make_folders(self._trash, 0o700)
            self._record.save(known)
            try:
                rename_new(place, self._trash / trash_id)
            except BaseException:
                with contextlib.suppress(PumasError):  # else the next start does it
                    self.tidy()
                raise
        return trash_id

    def removed(self) -> Sequence[RemovedNode]:
        """What lies in the trash, newest first. Raises CorruptState."""
        known = self._record.read()
        found = [self._removed(trash_id, known) for trash_id in self._in_trash()]
        return sorted(found, key=lambda one: (one.removed_at or "", one.trash_id), reverse=True)

    def restore(self, trash_id: str) -> str:
        """Put a node back; its name.

        Raises:
            TrashEntryNotFound, AlreadyExists, CorruptState, and the disk's failures.
        """
        known = self._record.read()
        one = self._find(trash_id, known)
        place = contained(self._place, check_present(one.name), "node_name")
        entry = facts(known.trash.pop(trash_id, {}), "node")
        if os.path.lexists(place):
            raise AlreadyExists(f"{one.name} already exists in {self._place.name}; remove it first.")
        with disk_errors(f"Restoring {one.name}"):
            make_folders(self._place)
            rename_new(self._trash / trash_id, place)
            if entry:
                known.nodes[one.name] = entry
            self._record.save(known)
        return one.name

    def purge(self, trash_id: str) -> None:
        """Remove a node from the trash for good. Raises TrashEntryNotFound, CorruptState, and the disk's failures."""
        known = self._record.read()
        self._find(trash_id, known)
        with disk_errors("Emptying the trash of custom nodes"):
            # What is half removed must not look like something that can be restored.
            make_folders(self._folder / STAGING, 0o700)
            rename_new(self._trash / trash_id, self._folder / STAGING / trash_id)
            if known.trash.pop(trash_id, None) is not None:
                self._record.save(known)
            remove_tree(self._folder / STAGING)

    def _in_trash(self) -> Sequence[str]:
        with disk_errors("Looking into the trash of custom nodes"):
            try:
                return [name for name in os.listdir(self._trash) if _name_in(name) is not None]
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _find(self, trash_id: str, known: Known) -> RemovedNode:
        if trash_id not in self._in_trash():
            raise TrashEntryNotFound(trash_id, LISTING)
        return self._removed(trash_id, known)

    @staticmethod
    def _removed(trash_id: str, known: Known) -> RemovedNode:
        entry = known.trash.get(trash_id, {})
        node = facts(entry, "node")
        name = _name_in(trash_id)
        assert name is not None
        return RemovedNode(trash_id, name, text(node, "url"), text(node, "commit"), text(entry, "removed_at"))

    # -- after a kill ------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Finish or take back what a killed process left half done; what is not recorded is not touched.

        Raises:
            CorruptState, GitFailed, and the disk's failures.
        """
        known = self._record.read()
        changed = False
        for trash_id, entry in list(known.trash.items()):
            name, node = _name_in(trash_id), facts(entry, "node")
            if name is None or os.path.lexists(self._trash / trash_id):
                continue
            # It was not moved there yet, or is back already; or it was being removed for good.
            purged = os.path.lexists(self._folder / STAGING / trash_id)
            if node and not purged and os.path.lexists(self._place / name):
                known.nodes.setdefault(name, node)
            del known.trash[trash_id]
            changed = True
        for name, entry in list(known.nodes.items()):
            if "installed_at" in entry and not self._is_there(name):
                del known.nodes[name]
                changed = True
        if changed:
            self._record.save(known)
        remove_tree(self._folder / STAGING)
        for name in [name for name, entry in known.nodes.items() if _UPDATING in entry and self._is_there(name)]:
            self._settled(name)

    # -- one node ----------------------------------------------------------------------------------------------------

    def _where(self, name: str) -> Path:
        return contained(self._place, check_name(name), "node_name")

    def _there(self, name: str) -> Path:
        path = self._place / check_present(name)
        if not path.is_dir():
            raise NodeNotFound(name, self._tag)
        return path

    def _is_there(self, name: str) -> bool:
        with contextlib.suppress(InvalidInput):
            return os.path.lexists(self._place / check_present(name))
        return False

    def _node(self, name: str, entry: JsonObject) -> Node:
        path = self._place / name
        return Node(
            name,
            str(path),
            *(text(entry, key) for key in ("url", "commit", "installed_at")),
            has_requirements=(path / REQUIREMENTS).is_file(),
            is_checkout=_is_checkout(path),
        )


def _name_in(trash_id: str) -> str | None:
    """The name inside an id of the trash; None when it is none of ours."""
    match = _TRASH_ID.fullmatch(trash_id)
    if match is not None:
        with contextlib.suppress(InvalidInput):
            return check_present(match[1])
    return None


def _is_checkout(path: Path) -> bool:
    """With a repository inside: a `.git` file would lead somewhere else."""
    git = path / ".git"
    return git.is_dir() and not git.is_symlink() and not path.is_symlink()
