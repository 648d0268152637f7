"""Custom nodes of one version on disk: listed, cloned, updated, moved to the trash. Blocks.

A node is cloned into a hidden folder of the version and takes its place by one rename. Where it came from and at which
commit it is stands in `.pumas-nodes.json` in the version's folder, and goes where that goes. Nodes are programs:
nothing of them is run here, and their requirements are installed only when that is asked for.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pumas.errors import AlreadyExists, InvalidInput, LocalChanges, NodeNotFound, NotOurCheckout
from pumas.jobs.store import now
from pumas.nodes.git import Git, check_url
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders, rename_new
from pumas.storage.json_file import JsonObject
from pumas.storage.paths import contained, relative_path

RECORD = ".pumas-nodes.json"
STAGING = ".pumas-nodes"
TRASH = ".pumas-nodes-trash"
REQUIREMENTS = "requirements.txt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

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


def check_name(text: str) -> str:
    """Raises InvalidInput: not made of letters, digits, `.`, `_` and `-`, or no name for a folder everywhere."""
    if not _NAME.fullmatch(text):
        raise InvalidInput("node_name", "must be made of letters, digits, '.', '_' and '-', beginning with the former")
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

    def list(self) -> list[Node]:
        """By name; what is hidden or a file does not count. Raises CorruptState."""
        record = self._record()
        try:
            with os.scandir(self._place) as entries:
                names = sorted(e.name for e in entries if not e.name.startswith((".", "__")) and e.is_dir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self._node(name, record) for name in names]

    def install(self, url: str, name: str, commit: str | None, requirements: InstallRequirements | None) -> Node:
        """Raises InvalidInput, AlreadyExists, GitFailed, InstallFailed, CorruptState and the disk's failures."""
        place = self._where(name)
        self._record()  # one that cannot be read is found out before anything is done
        if os.path.lexists(place):
            raise AlreadyExists(f"{name} already exists in {self._place.name}.")
        staging = self._folder / STAGING / secrets.token_hex(8)
        # What a killed process was cloning; there is never more than one at work.
        shutil.rmtree(staging.parent, ignore_errors=True)
        with disk_errors("Preparing the custom node"):
            make_folders(staging.parent, 0o700)
        try:
            found = self._git.clone(url, staging, commit)
            if requirements is not None and (staging / REQUIREMENTS).is_file():
                requirements(staging / REQUIREMENTS)
            with disk_errors("Putting the custom node in place"):
                make_folders(self._place)
                rename_new(staging, place)
        finally:
            shutil.rmtree(staging.parent, ignore_errors=True)
        self._note(name, {"url": url, "commit": found, "installed_at": now()})
        return self._node(name, self._record())

    def update(self, name: str, requirements: InstallRequirements | None) -> tuple[str, str]:
        """Go forward to the newest commit of its branch; (commit before, commit now).

        Raises:
            NodeNotFound, NotOurCheckout, LocalChanges, and as `install`.
            GitFailed: also when it cannot go straight forward.
        """
        place = self._there(name)
        known = self._entry(self._record(), name)
        if not _is_checkout(place):
            raise NotOurCheckout(f"{name} is no git checkout of its own, so it cannot be updated.")
        before = self._git.head(place)
        url, branch = str(known.get("url") or "") or self._git.remote(place), self._git.branch(place)
        if not url or not branch:
            raise NotOurCheckout(f"{name} has no https address or no branch to be updated from.")
        if self._git.changed(place):
            raise LocalChanges(f"Files of {name} were changed here; undo that, or remove and install it again.")
        newest = self._git.fetch(place, url, branch)
        if newest != before:
            self._git.forward(place, newest)
        after = self._git.head(place)
        if requirements is not None and (place / REQUIREMENTS).is_file():
            requirements(place / REQUIREMENTS)
        self._note(name, {**known, "url": url, "commit": after, "previous_commit": before, "updated_at": now()})
        return before, after

    def remove(self, name: str) -> Path:
        """Move it to the version's trash, a link as the link it is; where it lies there.

        Raises:
            NodeNotFound, CorruptState, and the disk's failures.
        """
        place = self._there(name)
        self._record()
        trash = self._folder / TRASH / f"{name}-{secrets.token_hex(4)}"
        with disk_errors(f"Removing {name}"):
            make_folders(trash.parent, 0o700)
            rename_new(place, trash)
        self._note(name, None)
        return trash

    def _where(self, name: str) -> Path:
        return contained(self._place, check_name(name), "node_name")

    def _there(self, name: str) -> Path:
        check_name(name)
        path = self._place / name
        if not path.is_dir():
            raise NodeNotFound(name, self._tag)
        return path

    def _node(self, name: str, record: JsonObject) -> Node:
        known, path = self._entry(record, name), self._place / name
        return Node(
            name,
            str(path),
            *(cast("str | None", known.get(key)) for key in ("url", "commit", "installed_at")),
            has_requirements=(path / REQUIREMENTS).is_file(),
            is_checkout=_is_checkout(path),
        )

    def _record(self) -> JsonObject:
        return json_file.load(self._folder / RECORD).value or {}

    @staticmethod
    def _entry(record: JsonObject, name: str) -> JsonObject:
        nodes: object = record.get("nodes")
        entry: Any = cast(JsonObject, nodes).get(name) if isinstance(nodes, dict) else None
        return cast(JsonObject, entry) if isinstance(entry, dict) else {}

    def _note(self, name: str, entry: JsonObject | None) -> None:
        record = self._record()
        nodes: object = record.get("nodes")
        known = dict(cast(JsonObject, nodes)) if isinstance(nodes, dict) else {}
        known.pop(name, None)
        json_file.save(self._folder / RECORD, record | {"nodes": known | ({name: entry} if entry else {})})


def _is_checkout(path: Path) -> bool:
    """With a repository inside: a `.git` file would lead somewhere else."""
    git = path / ".git"
    return git.is_dir() and not git.is_symlink() and not path.is_symlink()
