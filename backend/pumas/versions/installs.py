"""Installations for callers, and the runner of their jobs: accept, follow, cancel, and end whatever happens.

Each is a job of the kind `install`; what it does stands in `installing.py`. At most one per app.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pumas.apps.catalog import DEFAULT_APP
from pumas.errors import (
    AlreadyExists,
    Busy,
    Cancelled,
    InvalidInput,
    PumasError,
    ReleaseNotFound,
    VersionNotFound,
    WrongJobState,
)
from pumas.jobs.service import JobContext, JobService, Slots
from pumas.jobs.store import Job, JobState, Json
from pumas.storage.json_file import JsonObject
from pumas.versions import undoing
from pumas.versions.known import Known
from pumas.versions.offers import newest_of
from pumas.versions.progress import Progress
from pumas.versions.rates import Rates
from pumas.versions.state import InstalledVersion
from pumas.versions.tags import check_tag
from pumas.versions.values import OneApp

if TYPE_CHECKING:
    from pumas.downloads.bandwidth import Bandwidth
    from pumas.versions.installing import Plan
    from pumas.versions.running import InstallLog

log = logging.getLogger(__name__)

INSTALL = "install"
_LONGEST_S = 30 * 86400.0
_LOGS_KEPT = 20
_UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)

AfterInstall = Callable[[InstalledVersion], Awaitable[object]]
"""Awaited once a version is in place. What it raises is a warning of the installation."""


class Installs:
    """For one event loop. `smoke` False leaves out the try of a new version."""

    def __init__(self, known: Known, jobs: JobService, bandwidth: Bandwidth, rates: Rates, *, smoke: bool) -> None:
        self._known = known
        self._jobs = jobs
        self._bandwidth = bandwidth
        self._rates = rates
        self._smoke = smoke
        self._after: list[AfterInstall] = []
        jobs.register(INSTALL, self._run, turns=Slots(2))

    def after(self, call: AfterInstall) -> None:
        """Have `call` done at the end of each installation (mapping models, patching, …), with the others at once."""
        self._after.append(call)

    async def unfinished(self) -> set[str]:
        """Ids of the jobs that may go on."""
        return {job.id for job in await self._jobs.list(kind=INSTALL, states=_UNFINISHED, limit=1000)}

    async def go_on(self) -> None:
        await self._jobs.go_on(INSTALL)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def install(
        self, tag: str, app_id: str = DEFAULT_APP, *, replace: bool = False, activate: bool = False
    ) -> Job:
        """Accept an installation and return its job at once.

        Raises:
            UnknownApp, InvalidInput, TooManyCalls, ReleaseNotFound, AlreadyExists, Busy, CorruptState; VersionNotFound:
            nothing is there that could be replaced.
        """
        one = await self._known.of(app_id)
        tag = check_tag(tag)
        self._rates.count("install_version")
        async with one.installing:
            if one.job_id is not None:
                raise Busy(f"Another version of {one.app.name} is being installed; wait for it or cancel it.")
            plan = await self._known.in_thread(lambda: self._plan(one, tag, replace=replace, activate=activate))
            return await self._start(one, tag, {"plan": plan.to_json()}, f"{one.app.name} {tag}")

    async def newest(self, app_id: str = DEFAULT_APP) -> str:
        """The tag that an update brings. Raises ReleaseNotFound when none is known, UnknownApp."""
        one = await self._known.of(app_id)
        newest = await asyncio.to_thread(lambda: newest_of(one))
        if newest is None:
            raise ReleaseNotFound(one.app.name, "newest", "is not known yet")
        return newest

    async def install_dependencies(self, tag: str, app_id: str = DEFAULT_APP) -> Job:
        """Bring what an installed version lacks into its environment; a job.

        Raises:
            UnknownApp, VersionNotFound, InvalidInput, CorruptState, Busy.
        """
        one = await self._known.of(app_id)
        if one.app.python is None:
            raise InvalidInput("app_id", f"{one.app.name} has no Python environment")
        await asyncio.to_thread(one.state.require_trusted)
        tag = (await self._known.do(app_id, lambda one: _with_or_without_environment(one, tag))).tag
        async with one.installing:
            if one.job_id is not None:
                raise Busy(f"A version of {one.app.name} is being installed; wait for it or cancel it.")
            params: Json = {"dependencies": {"app_id": one.app.id, "tag": tag}}
            return await self._start(one, tag, params, f"Dependencies of {one.app.name} {tag}")

    async def progress(self, app_id: str = DEFAULT_APP) -> JsonObject | None:
        """The newest installation of this run, None when there was none."""
        one = await self._known.of(app_id)
        return one.progress.snapshot() if one.progress else None

    async def cancel(self, app_id: str | None = None) -> Job:
        """Stop the installation of an app, or with None of whichever app is installing, the default app first.

        Raises:
            TooManyCalls, WrongJobState: nothing is being installed. UnknownApp.
        """
        self._rates.count("cancel_installation")
        if app_id is None:
            busy = [one for one in self._known.made() if one.job_id is not None]
            one = min(busy, key=lambda one: one.app.id != DEFAULT_APP, default=None)
        else:
            one = await self._known.of(app_id)
        if one is None or one.job_id is None:
            raise WrongJobState("Nothing is being installed.")
        return await self._jobs.cancel(one.job_id)

    async def settled(self) -> None:
        """Return once all that follows finished installations is done."""
        ends = self._known.spawned("end of ")
        if ends:
            await asyncio.wait(ends)

    # -- accepting ---------------------------------------------------------------------------------------------------

    def _plan(self, one: OneApp, tag: str, *, replace: bool, activate: bool) -> Plan:
        from pumas.versions.choosing import archive_of
        from pumas.versions.installing import Plan

        one.state.require_trusted()
        place = one.state.place(tag)
        if replace and not place.exists():
            raise VersionNotFound(one.app.name, tag)
        if place.exists():
            if tag not in one.state.listed() and one.state.built_by(place) is None:
                where = f"{one.app.folder}/{tag} is there already and is no version of ours"
                raise AlreadyExists(f"{where}; move it away, then install.")
            if one.state.is_whole(tag) and not replace:
                raise AlreadyExists(f"{one.app.name} {tag} is there already; pass reinstall to build it anew.")
            replace = True  # also what is left of one that nobody can start
            if self._known.runs(one.app.id, tag):
                raise Busy(f"{one.app.name} {tag} runs now; stop it first.")
        release = one.releases.get(tag)
        return Plan(one.app.id, tag, archive_of(one.app, release), release.published_at, replace, activate)

    async def _start(self, one: OneApp, tag: str, params: Json, title: str) -> Job:
        one.progress = self._new_progress(one, tag, self._log_path(tag))
        one.job_id = "starting"
        try:
            job = await self._jobs.start(INSTALL, params, title=title)
        except BaseException:
            one.job_id = one.progress = None
            raise
        one.job_id = job.id
        self._known.spawn(self._see_end(one, job.id, one.progress), f"end of {job.id}")
        return job

    async def _see_end(self, one: OneApp, job_id: str, progress: Progress) -> None:
        """A job that is stopped before it began never comes to the runner."""
        job = await self._jobs.wait(job_id, _LONGEST_S)
        if one.job_id == job_id:
            one.job_id = None
            await asyncio.to_thread(lambda: progress.end(job.error or "Installation cancelled"))

    def _log_path(self, tag: str) -> Path:
        return self._known.layout.logs / f"install-{tag}-{int(time.time())}.log"

    def _new_progress(self, one: OneApp, tag: str, log_path: Path) -> Progress:
        def told(record: JsonObject) -> None:
            self._known.events.publish_threadsafe("install.progress", {"app_id": one.app.id, **_brief(record)})

        return Progress(tag, self._known.layout.cache / one.app.progress_file, log_path, told)

    # -- running -----------------------------------------------------------------------------------------------------

    async def _run(self, context: JobContext, params: Json) -> Json:
        """The runner of installs: everything that is not the job's state ends here, whatever happens."""
        wanted = params.get("plan") or params["dependencies"]
        one = await self._known.of(wanted["app_id"])
        if one.job_id not in (None, "starting", context.job_id):
            raise Busy(f"Another version of {one.app.name} is being installed; wait for it or cancel it.")
        if one.progress is None or one.progress.finished or one.progress.tag != wanted["tag"]:
            one.progress = self._new_progress(one, wanted["tag"], self._log_path(wanted["tag"]))
        one.job_id = context.job_id
        error: str | None = "Internal error; the log has the details."
        try:
            result = await self._known.in_thread(lambda: self._carry_out(context, one, params))
            if "plan" in params:
                result["warnings"] += await self._follow_up(one, wanted["tag"])
            error = None
            return result
        except Cancelled:
            error = "Installation cancelled"
            raise
        except PumasError as failure:
            error = str(failure)
            raise
        finally:
            progress = one.progress
            await asyncio.shield(asyncio.to_thread(lambda: progress.end(error)))
            one.job_id = None
            if error is None:
                self._known.tell(one.app.id, "installed", wanted["tag"])

    def _carry_out(self, context: JobContext, one: OneApp, params: Json) -> Json:
        from pumas.versions.installing import Install, Plan, Tools
        from pumas.versions.running import InstallLog

        progress = one.progress
        assert progress is not None
        self._prune_logs()
        install_log = InstallLog(Path(progress.snapshot()["log_path"]))
        reporting = _Reporting(context, progress)
        try:
            if "plan" not in params:
                return self._bring_dependencies(one, params["dependencies"]["tag"], reporting, install_log)
            plan = Plan.from_json(params["plan"])
            known = self._known
            tools = Tools(known.layout, known.network, self._bandwidth, known.runs, self._smoke)
            result = Install(tools, reporting, one.app, one.state, plan, progress, install_log).run()
            undoing.prune_replaced(one)
            return result
        finally:
            install_log.close()

    def _bring_dependencies(self, one: OneApp, tag: str, work: _Reporting, install_log: InstallLog) -> Json:
        from pumas.versions.dependencies import install_dependencies
        from pumas.versions.running import Programs

        version = _with_or_without_environment(one, tag)
        work.progress.stage("dependencies")
        programs = Programs(one.places.work(work.job_id) / "running.json", install_log, work.check)
        programs.end_leftover()
        try:
            install_dependencies(one.app, version.folder, self._known.layout, programs)
        finally:
            one.places.discard(work.job_id)
        return {"app_id": one.app.id, "tag": version.tag, "path": str(version.folder), "warnings": []}

    async def _follow_up(self, one: OneApp, tag: str) -> list[str]:
        version = await asyncio.to_thread(lambda: one.state.get(tag))

        async def warning(call: AfterInstall) -> str:
            try:
                await call(version)
            except PumasError as error:
                log.warning("after installing %s %s: %s", one.app.id, tag, error)
                return str(error)
            return ""

        return [text for text in await asyncio.gather(*map(warning, self._after)) if text]

    def _prune_logs(self) -> None:
        with contextlib.suppress(OSError):
            logs = sorted(self._known.layout.logs.glob("install-*.log"), key=lambda path: path.stat().st_mtime)
            for path in logs[:-_LOGS_KEPT]:
                path.unlink()


class _Reporting:
    """A job's context that also tells the job's progress whenever it is asked whether to go on."""

    def __init__(self, context: JobContext, progress: Progress) -> None:
        self._context = context
        self.progress = progress
        self._told = 0.0

    @property
    def job_id(self) -> str:
        return self._context.job_id

    @property
    def checkpoint(self) -> Json:
        return self._context.checkpoint

    def check(self) -> None:
        self._context.check()
        if time.monotonic() - self._told > 0.25:
            self._told = time.monotonic()
            at = self.progress.snapshot()
            self._context.report(
                stage=at["stage"],
                done=at["overall_progress"],
                total=100,
                item=at["current_item"] or "",
                unit="percent",
            )

    def save_checkpoint_sync(self, state: Json) -> None:
        self._context.save_checkpoint_sync(state)


def _with_or_without_environment(one: OneApp, tag: str) -> InstalledVersion:
    """A version that is whole, or would be with a Python environment. Raises VersionNotFound, InvalidInput."""
    found = one.state.get_listed(tag)
    return found if one.state.lacks_environment(found.tag) else one.state.get(tag)


def _brief(record: JsonObject) -> JsonObject:
    """An event need not repeat every package."""
    return {key: value for key, value in record.items() if key != "completed_items"}
