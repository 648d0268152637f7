"""The launcher's own checkout: what it is at, what is newest, and going there with a way back.

An update is fetched, laid out beside the checkout and tried there; only then the checkout goes forward, and back again
when its installation fails. From the first changed file to the end of the installation a journal says so (`place.py`):
after a kill the update is finished, without asking anybody again. Blocks. GitHub's list of commits:
https://docs.github.com/rest/commits/commits#list-commits.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pumas import __version__
from pumas.apps.command import child_environment
from pumas.errors import InstallFailed, InvalidReply, LocalChanges, NotOurCheckout, PumasError, UpdateFailed
from pumas.net.children import with_network
from pumas.net.client import NetworkClient
from pumas.net.options import Timeouts
from pumas.nodes.git import Git, check_commit
from pumas.storage import json_file
from pumas.storage.files import disk_errors, make_folders, write_durably
from pumas.updates.loading import load_all
from pumas.updates.place import journal
from pumas.versions.github import api
from pumas.versions.places import remove_tree
from pumas.versions.running import InstallLog, Programs, end_noted

MOST_COMMITS = 10
TRY_S, SETUP_S = 60.0, 1800.0
_LARGEST = 4 * 1024 * 1024
# With what was installed for it, all of the sidecar can be loaded.
_LOAD = ["-c", "import sys; sys.path[0] = 'backend'; import pumas.app"]
_HOSTS = ("github.com", "www.github.com")
_REPOSITORY = re.compile(r"/([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+?)(?:\.git)?/?")


@dataclass(frozen=True, slots=True)
class Current:
    """`commit` and `branch` are "" outside a git checkout."""

    version: str
    commit: str
    branch: str
    is_checkout: bool


@dataclass(frozen=True, slots=True)
class Commit:
    sha: str
    message: str
    author: str
    date: str


@dataclass(frozen=True, slots=True)
class Applied:
    before: str
    now: str


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where an update works: `staging` is a folder of its own, `note` names the program that runs, `log` tells all."""

    staging: Path
    note: Path
    log: Path

    def clear(self) -> None:
        """End what a killed process left running, and remove what it had laid out."""
        end_noted(self.note)
        remove_tree(self.staging)


class Checkout:
    """`check` is called several times a second while a program runs, and ends it by raising."""

    def __init__(self, folder: Path, check: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._check = check
        self._git = Git(check)
        self._journal = journal(folder)

    def current(self) -> Current:
        try:
            commit, branch = self._git.head(self._folder), self._git.branch(self._folder) or ""
        except PumasError:
            return Current(__version__, "", "", False)
        return Current(commit[:7], commit, branch, True)

    def newest(self, network: NetworkClient) -> list[Commit]:
        """The newest commits of its branch, newest first.

        Raises:
            NotOurCheckout, NetworkError.
        """
        url, branch = self._origin()
        parts = urlsplit(url)
        match = _REPOSITORY.fullmatch(parts.path)
        # http is only ever a server on this machine, for tests.
        if match is None or (parts.scheme == "https" and parts.hostname not in _HOSTS):
            raise NotOurCheckout("The launcher was not cloned from a repository owner/name on GitHub.")
        address = f"{api()}/repos/{match[1]}/commits?sha={branch}&per_page={MOST_COMMITS}"
        timeouts = Timeouts(connect_s=3, read_s=5)
        with network.send("GET", address, timeouts=timeouts, patience_s=1.0, preload=_LARGEST) as reply:
            body: object = reply.json(_LARGEST)
            if not isinstance(body, list):
                raise InvalidReply(reply.failure().host, "no list of commits")
            found = cast("list[object]", body)[:MOST_COMMITS]
            return [_commit(cast("dict[str, Any]", one)) for one in found if isinstance(one, dict)]

    def update(self, at: Workplace) -> Applied:
        """Go to the newest commit of its branch, after it was tried aside; or finish an update that was cut off.

        Raises:
            NotOurCheckout, LocalChanges, GitFailed, UpdateFailed: all is as it was.
            DiskError, NotEnoughSpace, ReadOnly: all is as it was.
        """
        at.clear()
        self._git = Git(self._check, at.note)
        begun = self._begun()
        if begun is not None:
            self._take_back(begun)
            return self._go(begun, at)
        url, branch = self._origin()
        if self._git.changed(self._folder):
            raise LocalChanges("Files of the launcher were changed here; commit or undo that, then update.")
        before = self._git.head(self._folder)
        newest = self._git.fetch(self._folder, url, branch)
        if newest == before:
            return Applied(before, before)
        with disk_errors("Preparing the update"):
            make_folders(at.staging, 0o700)
        try:
            self._git.lay_out(self._folder, newest, at.staging / "tree")
            self._try(at.staging / "tree", at)
        finally:
            remove_tree(at.staging)
        return self._go(Applied(before, newest), at)

    def undo(self, at: Workplace) -> None:
        """Take back an update that was cut off, when nobody is to finish it. Raises GitFailed, the disk's failures."""
        at.clear()
        begun = self._begun()
        if begun is not None:
            self._take_back(begun)

    def _go(self, step: Applied, at: Workplace) -> Applied:
        """Change the files, then install what they need; all back when that fails."""
        if Path(__file__).is_relative_to(self._folder):
            load_all()
        with disk_errors("Beginning the update"):
            write_durably(self._journal, f"{step.before} {step.now}\n".encode())
        try:
            self._git.forward(self._folder, step.now)
            self._setup(at, self._check)
            if (self._folder / "backend" / "pumas" / "app.py").is_file():
                _run(self._folder, _LOAD, TRY_S, at, self._check)
        except BaseException:
            self._take_back(step)
            with contextlib.suppress(PumasError):  # what the new version had already replaced
                self._setup(at, lambda: None)
            raise
        with disk_errors("Ending the update"):
            self._journal.unlink(missing_ok=True)
        return step

    def _begun(self) -> Applied | None:
        """An update that was cut off, when it is still known between which commits."""
        try:
            before, now = self._journal.read_text(encoding="ascii").split()
            return Applied(check_commit(before), check_commit(now))
        except (OSError, ValueError, PumasError):
            return None

    def _take_back(self, step: Applied) -> None:
        Git().mend(self._folder, step.before, step.now)
        with disk_errors("Taking the update back"):
            self._journal.unlink(missing_ok=True)

    def _setup(self, at: Workplace, check: Callable[[], None]) -> None:
        _run(self._folder, ["launcher", "setup"], SETUP_S, at, check)

    def _try(self, folder: Path, at: Workplace) -> None:
        """Whether it can be read as a program at all; what it needs in addition is installed later."""
        for name in ("launcher", "backend/rpc_server.py"):
            if not (folder / name).is_file():
                raise UpdateFailed(f"The new version has no {name}; nothing was changed.")
        _run(folder, ["-m", "compileall", "-q", "backend"], TRY_S, at, self._check)
        _run(folder, ["launcher", "help"], TRY_S, at, self._check)

    def _origin(self) -> tuple[str, str]:
        if not (self._folder / ".git").exists():
            raise NotOurCheckout("The launcher is no git checkout; update it the way it was installed.")
        url, branch = self._git.remote(self._folder), self._git.branch(self._folder)
        if not url or not branch:
            raise NotOurCheckout("The launcher's checkout has no branch, or was not cloned from an https address.")
        return url, branch


def load_check(path: Path) -> json_file.JsonObject | None:
    """What was found out last; a cache, so that a damaged one is none."""
    try:
        return json_file.load(path).value
    except PumasError:
        return None


def _commit(one: dict[str, Any]) -> Commit:
    facts = cast("dict[str, Any]", one.get("commit") or {})
    author = cast("dict[str, Any]", facts.get("author") or {})
    lines = str(facts.get("message") or "").splitlines() or [""]
    return Commit(
        str(one.get("sha") or "")[:40],
        lines[0][:200],
        str(author.get("name") or "")[:100],
        str(author.get("date") or "")[:40],
    )


def _run(folder: Path, arguments: list[str], timeout_s: float, at: Workplace, check: Callable[[], None]) -> None:
    """Run a script of the checkout, or a module, by our own interpreter."""
    log = InstallLog(at.log)
    environment = with_network(child_environment({"PYTHONDONTWRITEBYTECODE": "1"}))
    try:
        with disk_errors("Running the new version"):
            make_folders(at.note.parent)
        status, tail = Programs(at.note, log, check).run(
            [sys.executable, *arguments], folder, environment, timeout_s=timeout_s
        )
    except InstallFailed as error:
        raise UpdateFailed(f"The new version does not work here: {error}") from None
    finally:
        log.close()
    if status:
        said = [line.strip() for line in tail if line.strip()] or ["it said nothing"]
        raise UpdateFailed(f"The new version does not work here: {said[-1][:300]}")
