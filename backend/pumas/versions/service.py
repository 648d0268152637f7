"""Versions of apps as their callers see them: which there are, which is active, install, update, roll back, remove.

Each app has one `VersionState` and one `ReleaseList`. Installs are jobs of the kind `install`. Knows apps by their
descriptions alone, and nothing of the wire. What a poll asks is answered from memory or from some file stamps, never
from the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pumas.apps.catalog import DEFAULT_APP, Apps
from pumas.apps.description import AppDescription
from pumas.config import Layout
from pumas.errors import (
    AlreadyExists,
    Busy,
    Cancelled,
    Interrupted,
    InvalidInput,
    PumasError,
    ReleaseNotFound,
    TimedOut,
    TrashEntryNotFound,
    WrongJobState,
)
from pumas.events.stream import EventStream
from pumas.jobs.service import JobContext, JobService, Slots
from pumas.jobs.store import Job, JobState, Json, now
from pumas.storage.json_file import JsonObject, StateLock
from pumas.storage.troubles import Troubles
from pumas.versions import undoing
from pumas.versions.places import Places, Removed, is_id
from pumas.versions.progress import Progress
from pumas.versions.rates import Rates
from pumas.versions.state import InstalledVersion, Validation, VersionState
from pumas.versions.tags import check_tag, newest_first
from pumas.versions.values import Dependencies, Offered, OneApp, OneVersion, Overview

if TYPE_CHECKING:
    from pumas.downloads.bandwidth import Bandwidth
    from pumas.net.client import NetworkClient
    from pumas.versions.installing import Plan
    from pumas.versions.releases import CacheStatus, Release
    from pumas.versions.sizes import ReleaseSize, Sizes

log = logging.getLogger(__name__)

T = TypeVar("T")

INSTALL = "install"
FETCH_S = 8.0
"""How long a call waits for a list of releases; the fetch goes on after that."""
FIRST_LOOK_S, LOOK_S = 20.0, 600.0
"""When lists of releases are looked at behind: soon after the start, then now and then."""
SIZE_S = 8.0
"""How long a call waits for the size of a release."""
_LONGEST_S = 30 * 86400.0
_LOGS_KEPT = 20

AfterInstall = Callable[[InstalledVersion], Awaitable[object]]
"""Awaited once a version is in place. What it raises is a warning of the installation."""


class VersionService:
    def __init__(
        self,
        layout: Layout,
        apps: Apps,
        troubles: Troubles,
        events: EventStream,
        jobs: JobService,
        network: NetworkClient,
        bandwidth: Bandwidth,
        *,
        rates: Rates | None = None,
        smoke: bool = True,
    ) -> None:
        self._layout = layout
        self._apps = apps
        self._troubles = troubles
        self._events = events
        self._jobs = jobs
        self._network = network
        self._bandwidth = bandwidth
        self._rates = rates or Rates()
        self._smoke = smoke
        self._file_lock = StateLock(layout.state_lock)
        self._known: dict[str, OneApp] = {}
        self._lock = threading.Lock()
        self._after: list[AfterInstall] = []
        self._in_use: list[Callable[[str, str], bool]] = []
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._fetched = False
        self._sizes_made: Sizes | None = None
        self._sizing = False
        self._dependencies: dict[Path, tuple[object, Dependencies]] = {}
        jobs.register(INSTALL, self._run, turns=Slots(2))

    # -- life --------------------------------------------------------------------------------------------------------

    def after_install(self, call: AfterInstall) -> None:
        """Have `call` done at the end of each installation (mapping models, patching, …)."""
        self._after.append(call)

    def ask_in_use(self, call: Callable[[str, str], bool]) -> None:
        """Have `call(app_id, tag)` say whether a version runs; such a one is neither removed nor replaced."""
        self._in_use.append(call)

    async def open(self) -> None:
        """Finish or go on with what a stop or a kill interrupted. Call after the jobs are open."""
        paused = await self._jobs.list(kind=INSTALL, states=(JobState.PAUSED,), limit=1000)
        going_on = [job for job in paused if job.error_code == Interrupted.kind]
        kept = {job.id for job in await self._jobs.list(kind=INSTALL, states=_UNFINISHED, limit=1000)}
        await asyncio.to_thread(self._clean, kept)
        for job in going_on:
            with contextlib.suppress(WrongJobState):
                await self._jobs.resume(job.id)
        self._spawn(self._keep_fresh(), "releases")

    async def _keep_fresh(self) -> None:
        """Refresh old lists of releases, once the start is over and then now and then."""
        pause = FIRST_LOOK_S
        while True:
            await asyncio.sleep(pause)
            pause = LOOK_S
            await self.refresh_all_behind()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def apps(self) -> list[tuple[AppDescription, list[str], str | None]]:
        """All apps, with the tags that are installed, newest first, and the active one."""

        def look() -> list[tuple[AppDescription, list[str], str | None]]:
            found: list[tuple[AppDescription, list[str], str | None]] = []
            for app in self._apps:
                state = self._app(app.id).state
                found.append((app, [version.tag for version in state.installed()], state.active()))
            return found

        return await asyncio.to_thread(look)

    # -- what is installed -------------------------------------------------------------------------------------------

    async def installed(self, app_id: str = DEFAULT_APP) -> list[InstalledVersion]:
        """Newest first. Raises UnknownApp."""
        return await self._do(app_id, lambda one: one.state.installed())

    async def active(self, app_id: str = DEFAULT_APP) -> InstalledVersion | None:
        """The version in use; None when none is installed. Raises UnknownApp."""

        def active(one: OneApp) -> InstalledVersion | None:
            tag = one.state.active()
            return one.state.get(tag) if tag else None

        return await self._do(app_id, active)

    async def default(self, app_id: str = DEFAULT_APP) -> str | None:
        return await self._do(app_id, lambda one: one.state.default())

    async def get(self, tag: str, app_id: str = DEFAULT_APP) -> InstalledVersion:
        """Raises UnknownApp, InvalidInput, VersionNotFound."""
        return await self._do(app_id, lambda one: one.state.get(tag))

    async def switch(self, tag: str, app_id: str = DEFAULT_APP) -> None:
        """Make a version active and the last selected. Raises as `get`, CorruptState and the disk's failures."""

        def switch(one: OneApp) -> str:
            wanted, former = one.state.get(tag).tag, one.state.active()
            past: JsonObject | None = {"kind": "switched", "tag": former, "at": now()} if former else None
            one.state.switch(wanted, remember=past if former != wanted else None)
            return wanted

        wanted = await self._do(app_id, switch)
        self._tell(app_id, "active", wanted)

    async def set_default(self, tag: str | None, app_id: str = DEFAULT_APP) -> None:
        """None clears it. Raises as `switch`."""
        await self._do(app_id, lambda one: one.state.set_default(tag))

    async def overview(self, app_id: str = DEFAULT_APP) -> Overview:
        def overview(one: OneApp) -> Overview:
            active = one.state.active()
            versions = [
                OneVersion(version, self._dependencies_of(one.app, version), version.tag == active)
                for version in one.state.installed()
            ]
            return Overview(active, one.state.default(), versions)

        return await self._do(app_id, overview)

    async def dependencies(self, tag: str, app_id: str = DEFAULT_APP) -> Dependencies:
        """Which packages are there and which are missing, from metadata on disk. Raises as `get`."""
        return await self._do(app_id, lambda one: self._dependencies_of(one.app, one.state.get(tag)))

    async def validate(self, app_id: str = DEFAULT_APP, *, rebuild: bool = False) -> Validation:
        """Compare the list with the disk and change nothing; `rebuild` lists anew what is whole when the list cannot be
        read. Raises the disk's failures."""

        def validate(one: OneApp) -> Validation:
            if rebuild:
                one.state.rebuild()
            busy = {one.progress.tag} if one.progress and not one.progress.finished else set[str]()
            return one.state.validate(busy)

        return await self._do(app_id, validate)

    # -- releases ----------------------------------------------------------------------------------------------------

    async def offered(self, app_id: str = DEFAULT_APP, *, force: bool = False) -> list[Offered]:
        """What can be installed, newest first. Without `force` from memory or disk; a stale list is refreshed behind.

        Raises:
            RateLimited, NetworkError, ReleaseNotFound, TimedOut: asked by force, and nothing is known. UnknownApp.
        """
        one = await self._of(app_id)
        if force:
            await self._refresh_now(one)
        elif one.releases.is_stale():
            self._refresh_behind(one)
        return await self._in_thread(lambda: self._shown(one))

    async def cache_status(self, app_id: str = DEFAULT_APP) -> CacheStatus:
        one = await self._of(app_id)
        return await asyncio.to_thread(one.releases.status)

    @property
    def fetched_behind(self) -> bool:
        """Whether the default app's releases were fetched in the background since the last reset."""
        return self._fetched

    def reset_fetched_behind(self) -> None:
        self._fetched = False

    async def release(self, tag: str, app_id: str = DEFAULT_APP) -> Release:
        """Raises ReleaseNotFound, UnknownApp, InvalidInput."""
        return await self._do(app_id, lambda one: one.releases.get(tag))

    async def newest(self, app_id: str = DEFAULT_APP) -> str | None:
        """The newest release's tag as far as it is known; asks nobody."""
        one = await self._of(app_id)
        return await asyncio.to_thread(lambda: _newest(one))

    async def size(self, tag: str, app_id: str = DEFAULT_APP, *, force: bool = False) -> ReleaseSize:
        """How much a release weighs; an estimate when that is not found out within seconds.

        Raises:
            UnknownApp, InvalidInput, ReleaseNotFound.
        """
        one = await self._of(app_id)
        release = await asyncio.to_thread(lambda: one.releases.get(tag))
        sizes = await self._sizes()
        work = asyncio.ensure_future(self._in_thread(lambda: sizes.calculate(one.app, release, force=force)))
        try:
            return await asyncio.wait_for(asyncio.shield(work), SIZE_S)
        except TimeoutError:
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            return await asyncio.to_thread(lambda: sizes.leave_estimate(one.app, release))

    async def known_size(self, tag: str, app_id: str = DEFAULT_APP) -> ReleaseSize | None:
        """What was calculated before."""
        one = await self._of(app_id)
        sizes = await self._sizes()
        return await asyncio.to_thread(lambda: sizes.kept(one.app, tag.strip()))

    async def all_sizes(self, app_id: str = DEFAULT_APP) -> tuple[list[ReleaseSize], list[str]]:
        """What is known of all releases that are offered, and the tags that are calculated from now on."""
        one = await self._of(app_id)
        sizes = await self._sizes()

        def look() -> tuple[list[ReleaseSize], list[Release]]:
            offered = one.releases.offered()
            known = {release.tag: size for release in offered if (size := sizes.kept(one.app, release.tag))}
            return list(known.values()), [release for release in offered if release.tag not in known]

        known, unknown = await asyncio.to_thread(look)
        if unknown and not self._sizing:
            self._sizing = True
            self._spawn(self._size_all(one, sizes, unknown), "sizes")
        return known, [release.tag for release in unknown]

    async def _size_all(self, one: OneApp, sizes: Sizes, releases: list[Release]) -> None:
        try:
            for release in releases:
                await self._in_thread(lambda release=release: sizes.calculate(one.app, release))
        finally:
            self._sizing = False
        self._events.publish("releases.changed", {"app_id": one.app.id})

    async def _sizes(self) -> Sizes:
        def make() -> Sizes:
            from pumas.versions.github import GitHub
            from pumas.versions.sizes import Sizes

            with self._lock:
                if self._sizes_made is None:
                    self._sizes_made = Sizes(self._layout, self._network, GitHub(self._network))
                return self._sizes_made

        return self._sizes_made or await asyncio.to_thread(make)

    # -- installing --------------------------------------------------------------------------------------------------

    async def install(
        self, tag: str, app_id: str = DEFAULT_APP, *, replace: bool = False, activate: bool = False
    ) -> Job:
        """Accept an installation and return its job at once.

        Raises:
            UnknownApp, InvalidInput, TooManyCalls, ReleaseNotFound, AlreadyExists, Busy, CorruptState.
        """
        one = await self._of(app_id)
        tag = check_tag(tag)
        self._rates.count("install_version")
        async with one.installing:
            if one.job_id is not None:
                raise Busy(f"Another version of {one.app.name} is being installed; wait for it or cancel it.")
            plan = await self._in_thread(lambda: self._plan(one, tag, replace=replace, activate=activate))
            return await self._begin(one, plan)

    async def update(self, app_id: str = DEFAULT_APP) -> Job | str:
        """Install the newest release that is offered, and use it. The tag, when it is installed already: it is active
        then.

        Raises:
            As `install`; ReleaseNotFound when no release is known.
        """
        one = await self._of(app_id)
        newest = await asyncio.to_thread(lambda: _newest(one))
        if newest is None:
            raise ReleaseNotFound(one.app.name, "newest", "is not known yet")
        if newest in {version.tag for version in await self.installed(app_id)}:
            await self.switch(newest, app_id)
            return newest
        return await self.install(newest, app_id, activate=True)

    async def rollback(self, app_id: str = DEFAULT_APP) -> str:
        """Take the last switch, update or new build back; the tag that is active then.

        Raises:
            NothingToRollBack, Busy, CorruptState, and the disk's failures.
        """
        one = await self._of(app_id)
        async with one.installing:
            if one.job_id is not None:
                raise Busy(f"A version of {one.app.name} is being installed; wait for it or cancel it.")
            tag = await asyncio.to_thread(lambda: undoing.roll_back(one, self._runs))
        self._tell(app_id, "active", tag)
        return tag

    async def progress(self, app_id: str = DEFAULT_APP) -> JsonObject | None:
        """The newest installation of this run, None when there was none."""
        one = await self._of(app_id)
        return one.progress.snapshot() if one.progress else None

    async def cancel(self, app_id: str | None = None) -> Job:
        """Stop the installation of an app, or with None of whichever app is installing, the default app first.

        Raises:
            TooManyCalls, WrongJobState: nothing is being installed. UnknownApp.
        """
        self._rates.count("cancel_installation")
        if app_id is None:
            busy = [one for one in self._known.values() if one.job_id is not None]
            one = min(busy, key=lambda one: one.app.id != DEFAULT_APP, default=None)
        else:
            one = await self._of(app_id)
        if one is None or one.job_id is None:
            raise WrongJobState("Nothing is being installed.")
        return await self._jobs.cancel(one.job_id)

    async def install_dependencies(self, tag: str, app_id: str = DEFAULT_APP) -> Job:
        """Bring what an installed version lacks into its environment; a job. Raises as `get`, CorruptState and Busy."""
        one = await self._of(app_id)
        if one.app.python is None:
            raise InvalidInput("app_id", f"{one.app.name} has no Python environment")
        await asyncio.to_thread(one.state.require_trusted)
        version = await self.get(tag, app_id)
        async with one.installing:
            if one.job_id is not None:
                raise Busy(f"A version of {one.app.name} is being installed; wait for it or cancel it.")
            title = f"Dependencies of {one.app.name} {version.tag}"
            params: Json = {"dependencies": {"app_id": one.app.id, "tag": version.tag}}
            return await self._launch(one, version.tag, params, title)

    # -- removing ----------------------------------------------------------------------------------------------------

    async def remove(self, tag: str, app_id: str = DEFAULT_APP) -> Removed:
        """Move a version to the trash.

        Raises:
            TooManyCalls, VersionInUse: it is active, runs or is being installed. VersionNotFound, InvalidInput,
            UnknownApp, CorruptState, and the disk's failures.
        """
        one = await self._of(app_id)
        check_tag(tag)
        self._rates.count("remove_version")
        async with one.installing:
            removed = await asyncio.to_thread(lambda: undoing.remove(one, tag, self._runs))
        self._tell(app_id, "removed", removed.tag)
        return removed

    async def removed(self, app_id: str = DEFAULT_APP) -> list[Removed]:
        return await self._do(app_id, lambda one: one.places.trash())

    async def restore(self, trash_id: str, app_id: str = DEFAULT_APP) -> str:
        """Put a version from the trash back; its tag. Raises TrashEntryNotFound, AlreadyExists, CorruptState, …"""
        one = await self._of(app_id)
        async with one.installing:

            def restore() -> str:
                removed = self._in_trash(one, trash_id)
                one.state.require_trusted()
                place = one.state.place(removed.tag)
                if place.exists():
                    raise AlreadyExists(f"{one.app.name} {removed.tag} is installed; remove it first.")
                info = removed.info or one.state.marker(one.places.content(removed))
                one.places.take_out(removed, place)
                one.state.add(removed.tag, info)
                one.places.forget(removed)
                return removed.tag

            tag = await asyncio.to_thread(restore)
        self._tell(app_id, "installed", tag)
        return tag

    async def purge(self, trash_id: str, app_id: str = DEFAULT_APP) -> None:
        """Remove a version from the trash for good. Raises TrashEntryNotFound."""
        await self._do(app_id, lambda one: one.places.forget(self._in_trash(one, trash_id)))

    # -- inside: apps ------------------------------------------------------------------------------------------------

    async def _of(self, app_id: str) -> OneApp:
        return self._known.get(app_id) or await asyncio.to_thread(lambda: self._app(app_id))

    def _app(self, app_id: str) -> OneApp:
        from pumas.versions.github import GitHub
        from pumas.versions.releases import ReleaseList

        app = self._apps.get(app_id)
        with self._lock:
            one = self._known.get(app.id)
            if one is None:
                state = VersionState(self._layout, app, self._file_lock, self._troubles)
                releases = ReleaseList(app, self._layout.data / "cache", GitHub(self._network))
                one = self._known[app.id] = OneApp(app, state, Places(state.folder), releases)
            return one

    async def _do(self, app_id: str, work: Callable[[OneApp], T]) -> T:
        return await asyncio.to_thread(lambda: work(self._app(app_id)))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """In a thread of our own: it may wait for the network or take minutes."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(8, thread_name_prefix="versions")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _tell(self, app_id: str, what: str, tag: str) -> None:
        self._events.publish("version.changed", {"app_id": app_id.strip().lower(), "what": what, "tag": tag})

    def _runs(self, app_id: str, tag: str) -> bool:
        return any(asked(app_id, tag) for asked in self._in_use)

    def _dependencies_of(self, app: AppDescription, version: InstalledVersion) -> Dependencies:
        """Looked up again when the environment or the requirements changed."""
        from pumas.versions.installing import missing_dependencies

        stamp = _environment_stamp(app, version.folder)
        known = self._dependencies.get(version.folder)
        if known is None or known[0] != stamp:
            installed, missing, requirements = missing_dependencies(app, version.folder)
            place = f"{app.folder}/{version.tag}/{requirements}" if requirements else None
            known = self._dependencies[version.folder] = (stamp, Dependencies(installed, missing, place))
        return known[1]

    # -- inside: releases --------------------------------------------------------------------------------------------

    async def _refresh_now(self, one: OneApp) -> None:
        """Wait a while for fresh releases; old ones are good enough when that fails."""
        fetch = asyncio.ensure_future(self._in_thread(one.releases.refresh))
        try:
            await asyncio.wait_for(asyncio.shield(fetch), FETCH_S)
        except TimeoutError:
            fetch.add_done_callback(lambda done: done.exception())
            if not one.releases.status().has_cache:
                raise TimedOut("GitHub has not answered yet; its list is still awaited, ask again.") from None
        except PumasError:
            if not one.releases.status().has_cache:
                raise

    def _refresh_behind(self, one: OneApp) -> None:
        async def refresh() -> None:
            try:
                await self._in_thread(lambda: one.releases.refresh(only_stale=True))
            except PumasError as error:
                log.info("releases of %s not refreshed: %s", one.app.id, error)
                return
            if one.app.id == DEFAULT_APP:
                self._fetched = True
            self._events.publish("releases.changed", {"app_id": one.app.id})

        if not one.releases.status().is_fetching:
            self._spawn(refresh(), f"releases {one.app.id}")

    async def refresh_all_behind(self) -> None:
        """Refresh the releases of every app whose list is missing or old, without anybody waiting for it."""
        for app in await asyncio.to_thread(lambda: list(self._apps)):
            one = await self._of(app.id)
            if await asyncio.to_thread(one.releases.is_stale):
                self._refresh_behind(one)

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _shown(self, one: OneApp) -> list[Offered]:
        from pumas.versions.sizes import kept_sizes

        busy = one.progress.tag if one.progress and not one.progress.finished else None
        sizes = kept_sizes(self._layout, one.app)
        found: list[Offered] = []
        for release in one.releases.offered():
            archive, dependencies, total = sizes(release)
            page = f"https://github.com/{one.app.releases.repository}/releases/tag/{release.tag}"
            found.append(Offered(release, total, archive, dependencies, release.tag == busy, page))
        return found

    # -- inside: installing ------------------------------------------------------------------------------------------

    def _plan(self, one: OneApp, tag: str, *, replace: bool, activate: bool) -> Plan:
        from pumas.versions.choosing import archive_of
        from pumas.versions.installing import Plan

        one.state.require_trusted()
        place = one.state.place(tag)
        if place.exists() and not replace:
            raise AlreadyExists(f"{one.app.name} {tag} is there already; pass reinstall to build it anew.")
        if replace:
            one.state.get(tag)
            if self._runs(one.app.id, tag):
                raise Busy(f"{one.app.name} {tag} runs now; stop it first.")
        release = one.releases.get(tag)
        return Plan(one.app.id, tag, archive_of(one.app, release), release.published_at, replace, activate)

    async def _begin(self, one: OneApp, plan: Plan) -> Job:
        return await self._launch(one, plan.tag, {"plan": plan.to_json()}, f"{one.app.name} {plan.tag}")

    async def _launch(self, one: OneApp, tag: str, params: Json, title: str) -> Job:
        one.progress = self._new_progress(one, tag, self._log_path(tag))
        one.job_id = "starting"
        try:
            job = await self._jobs.start(INSTALL, params, title=title)
        except BaseException:
            one.job_id = one.progress = None
            raise
        one.job_id = job.id
        self._spawn(self._see_end(one, job.id, one.progress), f"end of {job.id}")
        return job

    async def _see_end(self, one: OneApp, job_id: str, progress: Progress) -> None:
        """A job that is stopped before it began never comes to the runner."""
        job = await self._jobs.wait(job_id, _LONGEST_S)
        if one.job_id == job_id:
            one.job_id = None
            await asyncio.to_thread(lambda: progress.end(job.error or "Installation cancelled"))

    async def settled(self) -> None:
        """Return once all that follows finished installations is done."""
        ends = [task for task in self._tasks if task.get_name().startswith("end of ")]
        if ends:
            await asyncio.wait(ends)

    def _log_path(self, tag: str) -> Path:
        return self._layout.logs / f"install-{tag}-{int(time.time())}.log"

    def _new_progress(self, one: OneApp, tag: str, log_path: Path) -> Progress:
        def told(record: JsonObject) -> None:
            self._events.publish_threadsafe("install.progress", {"app_id": one.app.id, **_brief(record)})

        return Progress(tag, self._layout.data / "cache" / one.app.progress_file, log_path, told)

    async def _run(self, context: JobContext, params: Json) -> Json:
        """The runner of installs: everything that is not the job's state ends here, whatever happens."""
        wanted = params.get("plan") or params["dependencies"]
        one = await self._of(wanted["app_id"])
        if one.job_id not in (None, "starting", context.job_id):
            raise Busy(f"Another version of {one.app.name} is being installed; wait for it or cancel it.")
        if one.progress is None or one.progress.finished or one.progress.tag != wanted["tag"]:
            one.progress = self._new_progress(one, wanted["tag"], self._log_path(wanted["tag"]))
        one.job_id = context.job_id
        error: str | None = "Internal error; the log has the details."
        try:
            result = await self._in_thread(lambda: self._carry_out(context, one, params))
            if "plan" in params:
                result["warnings"] = await self._follow_up(one, wanted["tag"])
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
                self._tell(one.app.id, "installed", wanted["tag"])

    def _carry_out(self, context: JobContext, one: OneApp, params: Json) -> Json:
        from pumas.versions.installing import Install, Plan, Tools, install_dependencies
        from pumas.versions.running import InstallLog, Programs

        progress = one.progress
        assert progress is not None
        log_path = progress.snapshot()["log_path"]
        self._prune_logs()
        install_log = InstallLog(Path(log_path))
        reporting = _Reporting(context, progress)
        try:
            if "plan" not in params:
                version = one.state.get(params["dependencies"]["tag"])
                progress.stage("dependencies")
                note = one.places.work(context.job_id) / "running.json"
                programs = Programs(note, install_log, reporting.check)
                programs.end_leftover()
                try:
                    install_dependencies(one.app, version.folder, self._layout, programs)
                finally:
                    one.places.discard(context.job_id)
                return {"app_id": one.app.id, "tag": version.tag, "path": str(version.folder), "warnings": []}
            plan = Plan.from_json(params["plan"])
            tools = Tools(self._layout, self._network, self._bandwidth, self._runs, self._smoke)
            result = Install(tools, reporting, one.app, one.state, plan, progress, install_log).run()
            undoing.prune_replaced(one)
            return result
        finally:
            install_log.close()

    async def _follow_up(self, one: OneApp, tag: str) -> list[str]:
        version = await asyncio.to_thread(lambda: one.state.get(tag))
        warnings: list[str] = []
        for call in self._after:
            try:
                await call(version)
            except PumasError as error:
                log.warning("after installing %s %s: %s", one.app.id, tag, error)
                warnings.append(str(error))
        return warnings

    def _in_trash(self, one: OneApp, trash_id: str) -> Removed:
        removed = one.places.find(trash_id) if is_id(trash_id) else None
        if removed is None:
            raise TrashEntryNotFound(trash_id, "list_removed_versions")
        return removed

    # -- inside: cleaning --------------------------------------------------------------------------------------------

    def _clean(self, kept: set[str]) -> None:
        for app in self._apps:
            if (self._layout.root / app.folder).is_dir():
                try:
                    undoing.clean(self._app(app.id), kept)
                except PumasError as error:
                    self._troubles.report(app.folder, error.kind, str(error))

    def _prune_logs(self) -> None:
        with contextlib.suppress(OSError):
            logs = sorted(self._layout.logs.glob("install-*.log"), key=lambda path: path.stat().st_mtime)
            for path in logs[:-_LOGS_KEPT]:
                path.unlink()


class _Reporting:
    """A job's context that also tells the job's progress whenever it is asked whether to go on."""

    def __init__(self, context: JobContext, progress: Progress) -> None:
        self._context = context
        self._progress = progress
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
            at = self._progress.snapshot()
            self._context.report(
                stage=at["stage"],
                done=at["overall_progress"],
                total=100,
                item=at["current_item"] or "",
                unit="percent",
            )

    def save_checkpoint_sync(self, state: Json) -> None:
        self._context.save_checkpoint_sync(state)


_UNFINISHED = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)


def _newest(one: OneApp) -> str | None:
    tags = [release.tag for release in one.releases.offered() if not release.raw["prerelease"]]
    return newest_first(one.app, tags)[0] if tags else None


def _environment_stamp(app: AppDescription, folder: Path) -> object:
    if app.python is None:
        return None
    stamps: list[object] = []
    for path in (folder / app.python.requirements, *folder.glob("venv/lib/python*/site-packages")):
        with contextlib.suppress(OSError):
            status = path.stat()
            stamps.append((path.name, status.st_mtime_ns, status.st_ino))
    return stamps


def _brief(record: JsonObject) -> JsonObject:
    """An event need not repeat every package."""
    return {key: value for key, value in record.items() if key != "completed_items"}
