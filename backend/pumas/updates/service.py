"""The launcher's own version: look for a newer one, go to it, start again.

Updating is a job of the kind `update_launcher`, answered when it is quick. One that was cut off while it changed the
checkout is finished after the next start. What does the work is loaded when needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pumas.config import Layout
from pumas.errors import NetworkError, NotOurCheckout, PumasError, Unsupported
from pumas.jobs.service import JobContext, JobService, Slots
from pumas.jobs.store import Json, now
from pumas.library.service import ANSWER_WITHIN_S
from pumas.net.client import NetworkClient
from pumas.storage import json_file
from pumas.storage.files import sweep
from pumas.updates.place import journal, place

if TYPE_CHECKING:
    from pumas.updates.checkout import Current, Workplace

log = logging.getLogger(__name__)

KIND = "update_launcher"
FRESH_S = 3600.0
RESTARTER = Path(__file__).with_name("restarter.py")
_COMMIT = ("sha", "message", "author", "date")
LAUNCHER_VARIABLE = "PUMAS_LAUNCHER"
"""Another program than the checkout's `launcher` to be started by a restart."""


@dataclass(frozen=True, slots=True)
class Check:
    """`commits` are those that came after the current one, newest first; `stale`: of an earlier look."""

    has_update: bool
    current: str
    latest: str
    branch: str
    behind: int
    commits: list[dict[str, str]]
    error: str | None = None
    stale: bool = False


class UpdateService:
    def __init__(self, layout: Layout, jobs: JobService, network: NetworkClient) -> None:
        self._layout, self._jobs, self._network = layout, jobs, network
        self._path = layout.cache / "launcher-update-check.json"
        self._staging = self._path.with_name("launcher-update")
        self._note = self._path.with_name("launcher-update-runs.json")
        jobs.register(KIND, self._run, turns=Slots(1))

    async def open(self) -> None:
        """Finish an update that a kill cut off, or take it back. Call after the jobs are open."""
        is_begun, is_prepared = await asyncio.to_thread(self._look)
        goes_on = is_begun and await self._jobs.go_on(KIND)
        if (is_begun or is_prepared) and not goes_on:
            # What was only prepared is thrown away.
            await asyncio.to_thread(self._undo)

    def _look(self) -> tuple[bool, bool]:
        """Whether an update is half done, and whether one was being prepared."""
        at = journal(place())
        sweep([at.parent])
        return at.exists(), self._staging.exists() or self._note.exists()

    def _undo(self) -> None:
        from pumas.updates.checkout import Checkout

        try:
            Checkout(place()).undo(self._workplace())
        except PumasError as error:
            log.error("an update of the launcher that was cut off: %s", error)

    def _workplace(self) -> Workplace:
        from pumas.updates.checkout import Workplace

        return Workplace(self._staging, self._note, self._layout.logs / "update-launcher.log")

    async def current(self) -> Current:
        def look() -> Current:
            from pumas.updates.checkout import Checkout

            return Checkout(place()).current()

        return await asyncio.to_thread(look)

    async def check(self, *, force: bool = False) -> Check:
        """Compare with the newest commits of the branch; at most an hour old, older when nobody answers.

        What cannot be found out stands in `error`: a launcher that is no checkout, or a network that is away.
        """
        return await asyncio.to_thread(lambda: self._check(force))

    async def update(self) -> tuple[str, Json | None]:
        """(job, what was done: `before` and `now`, commit ids; None while the job is at it).

        Raises:
            NotOurCheckout, LocalChanges, GitFailed, UpdateFailed: all is as it was.
        """
        job = await self._jobs.start(KIND, {}, title="Update the launcher")
        return job.id, await self._jobs.outcome(job.id, ANSWER_WITHIN_S)

    async def prepare_restart(self) -> None:
        """Have the launcher started once this process has ended. Raises Unsupported: there is none."""

        def start() -> None:
            launcher = os.environ.get(LAUNCHER_VARIABLE) or str(place() / "launcher")
            if not Path(launcher).is_file():
                raise Unsupported("This installation has no launcher that could be started again.")
            subprocess.Popen(
                [sys.executable, str(RESTARTER), str(os.getpid()), str(self._layout.root), launcher],
                cwd="/" if os.name == "posix" else None,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

        await asyncio.to_thread(start)

    async def _run(self, context: JobContext, params: Json) -> Json:  # noqa: ARG002 - there are none
        def work() -> dict[str, Any]:
            from pumas.updates.checkout import Checkout

            context.report(stage="update", done=0, total=1, item="launcher", unit="updates")
            return asdict(Checkout(place(), context.check).update(self._workplace()))

        return await asyncio.to_thread(work)

    def _check(self, force: bool) -> Check:
        from pumas.updates.checkout import Checkout, load_check

        checkout = Checkout(place())
        current = checkout.current()
        kept = load_check(self._path)
        known = _read(kept, current) if kept else None
        age = time.time() - known[1] if known else FRESH_S
        if known and not force and 0 <= age < FRESH_S:
            return known[0]
        try:
            commits = [asdict(one) for one in checkout.newest(self._network)]
        except (NetworkError, NotOurCheckout) as error:
            if known:
                one = known[0]
                return Check(one.has_update, one.current, one.latest, one.branch, one.behind, one.commits, None, True)
            return Check(False, current.commit, "", current.branch, 0, [], str(error))
        value: dict[str, Any] = {
            "lastChecked": now(), "checkedAt": time.time(), "branch": current.branch, "commits": commits,
        }  # fmt: skip
        with contextlib.suppress(PumasError, OSError):  # a cache: the next look asks anew
            self._path.parent.mkdir(parents=True, exist_ok=True)
            json_file.save(self._path, value)
        return _compare(commits, current)


def _read(kept: dict[str, Any], current: Current) -> tuple[Check, float] | None:
    """What an earlier look says about the commit that is checked out now, and when it was (in seconds since the epoch);
    None when it was of another kind."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        if kept["branch"] == current.branch:
            commits = [{key: str(one[key]) for key in _COMMIT} for one in kept["commits"]]
            return _compare(commits, current), float(kept["checkedAt"])
    return None


def _compare(commits: list[dict[str, str]], current: Current) -> Check:
    shas = [commit["sha"] for commit in commits]
    behind = shas.index(current.commit) if current.commit in shas else len(shas)
    latest = shas[0] if shas else ""
    return Check(behind > 0, current.commit, latest, current.branch, behind, commits[:behind])
