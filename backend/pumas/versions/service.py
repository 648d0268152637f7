"""Versions of apps as callers see them: which there are, which is active, what they need, removing and going back.

Each app has one `VersionState`; `offers` are the releases that can be installed, `installs` puts them in place. Knows
apps by their descriptions alone, and nothing of the wire. What a poll asks is answered from memory or from some file
stamps, never from the network.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pumas.apps.catalog import DEFAULT_APP, Apps
from pumas.apps.description import AppDescription
from pumas.config import Layout
from pumas.errors import Busy, CorruptState, DependencyFailed, PumasError, VersionNotFound
from pumas.events.stream import EventStream
from pumas.jobs.service import JobService
from pumas.jobs.store import Job
from pumas.storage.troubles import Troubles
from pumas.versions import undoing
from pumas.versions.installs import Installs
from pumas.versions.known import Known
from pumas.versions.offers import Offers
from pumas.versions.places import Removed, remove_tree
from pumas.versions.rates import Rates
from pumas.versions.state import InstalledVersion, Validation, VersionState
from pumas.versions.tags import check_tag
from pumas.versions.values import Dependencies, OneApp, OneVersion, Overview

if TYPE_CHECKING:
    from pumas.downloads.bandwidth import Bandwidth
    from pumas.net.client import NetworkClient

log = logging.getLogger(__name__)

AfterRemoval = Callable[[str, str], Awaitable[object]]
"""Awaited with (app_id, tag) once a version is in the trash; what it raises as a PumasError changes nothing of that."""
AfterLoss = Callable[[str, str], Awaitable[object]]
"""Awaited with (app_id, tag) once no version of that tag is installed or in the trash any more."""
AfterReturn = Callable[[InstalledVersion], Awaitable[object]]
"""Awaited once a version, or a former build of it, is in its place again."""
_NAMED = 5


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
        self._known = Known(layout, apps, troubles, events, network)
        self._rates = rates or Rates()
        self.offers = Offers(self._known)
        self.installs = Installs(self._known, jobs, bandwidth, self._rates, smoke=smoke)
        self._after_removal: list[AfterRemoval] = []
        self._after_return: list[AfterReturn] = []
        self._after_loss: list[AfterLoss] = []
        self._dependencies: dict[Path, tuple[object, Dependencies]] = {}

    # -- life --------------------------------------------------------------------------------------------------------

    def ask_in_use(self, call: Callable[[str, str], bool]) -> None:
        """Have `call(app_id, tag)` say whether a version runs; such a one is neither removed nor replaced."""
        self._known.ask_in_use(call)

    def after_removal(self, call: AfterRemoval) -> None:
        """Have `call` done at the end of each removal (shortcuts, …)."""
        self._after_removal.append(call)

    def after_return(self, call: AfterReturn) -> None:
        """Have `call` done when a version comes back, out of the trash or by a rollback (links, …)."""
        self._after_return.append(call)

    def after_loss(self, call: AfterLoss) -> None:
        """Have `call` done when the last of a tag is removed for good (links, …)."""
        self._after_loss.append(call)

    @property
    def changes(self) -> int:
        """How often something was told of a version or of releases: what was read before is old when it has grown."""
        return self._known.changes

    async def open(self) -> None:
        """Finish or go on with what a stop or a kill interrupted. Call after the jobs are open."""
        kept = await self.installs.unfinished()
        swept = await asyncio.to_thread(self._recover, kept)
        await self.installs.go_on()
        self._known.spawn(self._sweep(swept), "sweep")
        self.offers.open()

    def _recover(self, kept: set[str]) -> list[Path]:
        """Returns the folders that are to be removed for good."""
        from pumas.versions.scratch import left_behind

        swept = left_behind(self._known.layout.cache)
        for app in self._known.apps:
            if (self._known.layout.root / app.folder).is_dir():
                from pumas.versions.recovering import recover

                one = self._known.app(app.id)
                for step in (
                    one.state.sweep,
                    partial(recover, one, kept),
                    lambda one=one: swept.extend(one.places.tidy()),
                ):
                    try:
                        step()
                    except CorruptState:
                        continue  # the list says that itself, until it can be read again
                    except PumasError as error:
                        self._known.troubles.report(app.folder, error.kind, str(error))
        return swept

    async def _sweep(self, folders: list[Path]) -> None:
        """Environments have tens of thousands of files; a start does not wait for that."""
        for folder in folders:
            await self._known.in_thread(partial(remove_tree, folder))

    async def close(self) -> None:
        self._known.close()

    async def apps(self) -> list[tuple[AppDescription, list[str], str | None]]:
        """All apps, with the tags that are installed, newest first, and the active one."""

        def look() -> list[tuple[AppDescription, list[str], str | None]]:
            found: list[tuple[AppDescription, list[str], str | None]] = []
            for app in self._known.apps.refreshed().values():
                state = self._known.app(app.id).state
                found.append((app, [version.tag for version in state.installed()], state.active()))
            return found

        return await asyncio.to_thread(look)

    # -- what is installed -------------------------------------------------------------------------------------------

    async def installed(self, app_id: str = DEFAULT_APP) -> list[InstalledVersion]:
        """Newest first. Raises UnknownApp."""
        return await self._known.do(app_id, lambda one: one.state.installed())

    async def active(self, app_id: str = DEFAULT_APP) -> InstalledVersion | None:
        """The version in use; None when none is installed. Raises UnknownApp."""

        def active(one: OneApp) -> InstalledVersion | None:
            tag = one.state.active()
            return one.state.get(tag) if tag else None

        return await self._known.do(app_id, active)

    async def require_active(self, app_id: str = DEFAULT_APP) -> InstalledVersion:
        """The version in use. Raises UnknownApp, NoActiveVersion."""
        return await self._known.do(app_id, lambda one: one.state.require_active())

    async def default(self, app_id: str = DEFAULT_APP) -> str | None:
        return await self._known.do(app_id, lambda one: one.state.default())

    async def get(self, tag: str, app_id: str = DEFAULT_APP) -> InstalledVersion:
        """Raises UnknownApp, InvalidInput, VersionNotFound."""
        return await self._known.do(app_id, lambda one: one.state.get(tag))

    def state(self, app_id: str = DEFAULT_APP) -> VersionState:
        """What is installed of an app, for worker threads. Blocks. Raises UnknownApp."""
        return self._known.app(app_id).state

    def is_removed(self, app_id: str, tag: str) -> bool:
        """Whether a version of that tag lies in the trash. Blocks. Raises UnknownApp."""
        return any(removed.tag == tag for removed in self._known.app(app_id).places.trash())

    async def overview(self, app_id: str = DEFAULT_APP) -> Overview:
        def overview(one: OneApp) -> Overview:
            active = one.state.active()
            versions = [
                OneVersion(version, self._dependencies_of(one.app, version), version.tag == active)
                for version in one.state.installed()
            ]
            return Overview(active, one.state.default(), versions)

        return await self._known.do(app_id, overview)

    async def validate(self, app_id: str = DEFAULT_APP, *, rebuild: bool = False) -> Validation:
        """Compare the list with the disk and change nothing; `rebuild` lists anew what is whole when the list cannot be
        read. Raises the disk's failures."""

        def validate(one: OneApp) -> Validation:
            if rebuild:
                one.state.rebuild()
            busy = {one.progress.tag} if one.progress and not one.progress.finished else set[str]()
            return one.state.validate(busy)

        return await self._known.do(app_id, validate)

    # -- what a version needs ----------------------------------------------------------------------------------------

    async def dependencies(self, tag: str, app_id: str = DEFAULT_APP) -> Dependencies:
        """Which packages are there and which are missing, from metadata on disk. Raises as `get`."""
        return await self._known.do(app_id, lambda one: self._dependencies_of(one.app, one.state.get(tag)))

    async def prepare(self, tag: str, app_id: str = DEFAULT_APP) -> None:
        """What must hold before a version is started: its packages are there, its links lead somewhere.

        A package of another version than is asked for hinders nobody; users change them for their custom nodes.

        Raises:
            DependencyFailed: packages are missing; the message names them and what brings them. And as `get`.
            DiskError, NotEnoughSpace, ReadOnly: a link cannot be made.
        """

        def prepare(one: OneApp) -> None:
            from pumas.versions.setup_links import mend

            version = one.state.get(tag)
            absent = self._dependencies_of(one.app, version).absent
            if absent:
                named = ", ".join(absent[:_NAMED]) + (f" and {len(absent) - _NAMED} more" if absent[_NAMED:] else "")
                raise DependencyFailed(
                    "dependencies",
                    f"{one.app.name} {version.tag} lacks {named}; install its dependencies first "
                    "(install_version_dependencies).",
                )
            for link in one.app.links:
                mend(link, version.folder, self._known.layout.root)

        await self._known.do(app_id, prepare)

    def _dependencies_of(self, app: AppDescription, version: InstalledVersion) -> Dependencies:
        """Looked up again when the environment or the requirements changed."""
        from pumas.versions.dependencies import look_up, stamp

        fresh = stamp(app, version.folder)
        known = self._dependencies.get(version.folder)
        if known is None or known[0] != fresh:
            known = self._dependencies[version.folder] = (fresh, look_up(app, version.folder, version.tag))
        return known[1]

    # -- choosing ----------------------------------------------------------------------------------------------------

    async def switch(self, tag: str, app_id: str = DEFAULT_APP) -> None:
        """Make a version active and the last selected. Raises as `get`, CorruptState and the disk's failures."""

        wanted = await self._known.do(app_id, lambda one: undoing.switch(one, tag))
        self._known.tell(app_id, "active", wanted)

    async def set_default(self, tag: str | None, app_id: str = DEFAULT_APP) -> None:
        """None clears it. Raises as `switch`."""
        await self._known.do(app_id, lambda one: one.state.set_default(tag))

    async def update(self, app_id: str = DEFAULT_APP) -> Job | str:
        """Install the newest release that is offered, and use it. The tag, when it is installed already: it is active
        then.

        Raises:
            As `Installs.install`; ReleaseNotFound when no release is known.
        """
        newest = await self.installs.newest(app_id)
        if newest in {version.tag for version in await self.installed(app_id)}:
            await self.switch(newest, app_id)
            return newest
        return await self.installs.install(newest, app_id, activate=True)

    async def rollback(self, app_id: str = DEFAULT_APP) -> str:
        """Take the last switch, update or new build back; the tag that is active then.

        Raises:
            NothingToRollBack, Busy, CorruptState, and the disk's failures.
        """
        one = await self._known.of(app_id)
        async with one.installing:
            if one.job_id is not None:
                raise Busy(f"A version of {one.app.name} is being installed; wait for it or cancel it.")
            tag = await asyncio.to_thread(lambda: undoing.roll_back(one, self._known.runs))
        self._known.tell(app_id, "active", tag)
        await self._returned(one, tag)
        return tag

    # -- removing ----------------------------------------------------------------------------------------------------

    async def remove(self, tag: str, app_id: str = DEFAULT_APP, *, last: bool = False) -> Removed:
        """Move a version to the trash; the active one only when it is the last one, and that is meant.

        Raises:
            TooManyCalls, VersionInUse: it is active, runs or is being installed. VersionNotFound, InvalidInput,
            UnknownApp, CorruptState, and the disk's failures.
        """
        one = await self._known.of(app_id)
        check_tag(tag)
        self._rates.count("remove_version")
        async with one.installing:
            removed = await asyncio.to_thread(lambda: undoing.remove(one, tag, self._known.runs, last=last))
        for call in self._after_removal:
            try:
                await call(one.app.id, removed.tag)
            except PumasError as error:
                log.warning("after removing %s %s: %s", one.app.id, removed.tag, error)
        self._known.tell(app_id, "removed", removed.tag)
        return removed

    async def removed(self, app_id: str = DEFAULT_APP) -> list[Removed]:
        """What is in the trash, newest first."""
        return await self._known.do(app_id, lambda one: one.places.trash())

    async def restore(self, trash_id: str, app_id: str = DEFAULT_APP) -> str:
        """Put a version from the trash back; its tag.

        Raises:
            TrashEntryNotFound, AlreadyExists, CorruptState, and the disk's failures.
        """
        one = await self._known.of(app_id)
        async with one.installing:
            tag = await asyncio.to_thread(lambda: undoing.restore(one, trash_id))
        await self._returned(one, tag)
        self._known.tell(app_id, "installed", tag)
        return tag

    async def _returned(self, one: OneApp, tag: str) -> None:
        for call in self._after_return:
            try:
                await call(await asyncio.to_thread(lambda: one.state.get(tag)))
            except VersionNotFound:  # not whole: the list of what is installed tells of that
                continue
            except PumasError as error:
                self._known.troubles.report(one.app.folder, error.kind, str(error))

    async def purge(self, trash_id: str, app_id: str = DEFAULT_APP) -> None:
        """Remove a version from the trash for good. Raises TrashEntryNotFound, and the disk's failures."""
        one = await self._known.of(app_id)
        async with one.installing:
            tag = await asyncio.to_thread(lambda: undoing.purge(one, trash_id))
        if tag is not None:
            for call in self._after_loss:
                try:
                    await call(one.app.id, tag)
                except PumasError as error:
                    self._known.troubles.report(one.app.folder, error.kind, str(error))
