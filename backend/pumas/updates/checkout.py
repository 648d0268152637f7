"""The launcher's own checkout: what it is at, what is newest, and going there with a way back.

An update is fetched, laid out beside the checkout and tried there; only then the checkout goes forward, and back again
when its installation fails. Blocks. GitHub's list of commits:
https://docs.github.com/rest/commits/commits#list-commits.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pumas import __version__
from pumas.apps.command import child_environment
from pumas.errors import InvalidReply, LocalChanges, NotOurCheckout, PumasError, UpdateFailed
from pumas.net.client import NetworkClient
from pumas.net.options import Timeouts
from pumas.nodes.git import Git
from pumas.storage import json_file
from pumas.versions.github import api

CHECKOUT_VARIABLE = "PUMAS_CHECKOUT"
"""Another folder than the one that this program lies in, for tests."""
MOST_COMMITS = 10
TRY_S, SETUP_S = 60.0, 1800.0
_LARGEST = 4 * 1024 * 1024
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


def place() -> Path:
    return Path(os.environ.get(CHECKOUT_VARIABLE) or Path(__file__).resolve().parents[3])


class Checkout:
    def __init__(self, folder: Path, check: Callable[[], None] = lambda: None) -> None:
        self._folder = folder
        self._git = Git(check)

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
        match = _REPOSITORY.fullmatch("/" + url.split("/", 3)[3])
        if match is None:
            raise NotOurCheckout("The launcher was not cloned from a repository owner/name.")
        address = f"{api()}/repos/{match[1]}/commits?sha={branch}&per_page={MOST_COMMITS}"
        timeouts = Timeouts(connect_s=3, read_s=5)
        with network.send("GET", address, timeouts=timeouts, patience_s=1.0, preload=_LARGEST) as reply:
            body: object = reply.json(_LARGEST)
            if not isinstance(body, list):
                raise InvalidReply(reply.failure().host, "no list of commits")
            found = cast("list[object]", body)[:MOST_COMMITS]
            return [_commit(cast("dict[str, Any]", one)) for one in found if isinstance(one, dict)]

    def update(self, staging: Path) -> Applied:
        """Go to the newest commit of its branch, after it was tried in `staging`.

        Raises:
            NotOurCheckout, LocalChanges, GitFailed, UpdateFailed: all is as it was.
        """
        url, branch = self._origin()
        if self._git.changed(self._folder):
            raise LocalChanges("Files of the launcher were changed here; commit or undo that, then update.")
        before = self._git.head(self._folder)
        newest = self._git.fetch(self._folder, url, branch)
        if newest == before:
            return Applied(before, before)
        shutil.rmtree(staging, ignore_errors=True)
        staging.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._git.lay_out(self._folder, newest, staging)
            self._try(staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        self._git.forward(self._folder, newest)
        try:
            _run([sys.executable, str(self._folder / "launcher"), "setup"], self._folder, SETUP_S)
        except BaseException:
            self._git.back(self._folder, before)
            raise
        return Applied(before, newest)

    def _try(self, folder: Path) -> None:
        """Whether it can be read as a program at all; what it needs in addition is installed later."""
        for name in ("launcher", "backend/rpc_server.py"):
            if not (folder / name).is_file():
                raise UpdateFailed(f"The new version has no {name}; nothing was changed.")
        _run([sys.executable, "-m", "compileall", "-q", str(folder / "backend")], folder, TRY_S)
        _run([sys.executable, str(folder / "launcher"), "help"], folder, TRY_S)

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


def _run(command: list[str], folder: Path, timeout_s: float) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=child_environment({"PYTHONDONTWRITEBYTECODE": "1"}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise UpdateFailed(f"{Path(command[1]).name} of the new version failed: {type(error).__name__}.") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise UpdateFailed(f"The new version does not work here: {said[-1][:300]}")
