"""Releases that can be installed, and how much they weigh, for callers: from memory or disk, and asked for behind.

Each app's list keeps itself (`releases.py`), and sizes are found out by `sizes.py`; this decides when somebody is asked
and who waits for it. No poll ever causes a request.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from pumas.apps.catalog import DEFAULT_APP
from pumas.errors import PumasError, TimedOut
from pumas.versions.known import Known
from pumas.versions.values import Offered, OneApp

if TYPE_CHECKING:
    from pumas.versions.releases import CacheStatus, Release
    from pumas.versions.sizes import ReleaseSize, Sizes

log = logging.getLogger(__name__)

FETCH_S = 8.0
"""How long a call waits for a list of releases; the fetch goes on after that."""
FIRST_LOOK_S, LOOK_S = 20.0, 600.0
"""When lists of releases are looked at behind: soon after the start, then now and then."""
SIZE_S = 8.0
"""How long a call waits for the size of a release."""


class Offers:
    """For one event loop."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._lock = threading.Lock()
        self._fetched = False
        self._sizes_made: Sizes | None = None
        self._sizing: set[str] = set()

    def open(self) -> None:
        self._known.spawn(self._keep_fresh(), "releases")

    # -- lists -------------------------------------------------------------------------------------------------------

    async def offered(self, app_id: str = DEFAULT_APP, *, force: bool = False) -> list[Offered]:
        """What can be installed, newest first. Without `force` from memory or disk; a stale list is refreshed behind.

        Raises:
            RateLimited, NetworkError, ReleaseNotFound, TimedOut: asked by force, and nothing is known. UnknownApp.
        """
        one = await self._known.of(app_id)
        if force:
            await self._refresh_now(one)
        elif one.releases.is_stale():
            self._refresh_behind(one)
        return await self._known.in_thread(lambda: self._shown(one))

    async def cache_status(self, app_id: str = DEFAULT_APP) -> CacheStatus:
        one = await self._known.of(app_id)
        return await asyncio.to_thread(one.releases.status)

    @property
    def fetched_behind(self) -> bool:
        """Whether the default app's releases were fetched in the background since the last reset."""
        return self._fetched

    def reset_fetched_behind(self) -> None:
        self._fetched = False

    async def release(self, tag: str, app_id: str = DEFAULT_APP) -> Release:
        """Raises ReleaseNotFound, UnknownApp, InvalidInput."""
        return await self._known.do(app_id, lambda one: one.releases.get(tag))

    async def newest(self, app_id: str = DEFAULT_APP) -> str | None:
        """The newest release's tag as far as it is known; asks nobody."""
        return await self._known.do(app_id, newest_of)

    async def refresh_all_behind(self) -> None:
        """Refresh the releases of every app whose list is missing or old, without anybody waiting for it."""
        for app in await asyncio.to_thread(lambda: list(self._known.apps)):
            one = await self._known.of(app.id)
            if await asyncio.to_thread(one.releases.is_stale):
                self._refresh_behind(one)

    # -- sizes -------------------------------------------------------------------------------------------------------

    async def size(self, tag: str, app_id: str = DEFAULT_APP, *, force: bool = False) -> ReleaseSize:
        """How much a release weighs; an estimate when that is not found out within seconds.

        Raises:
            UnknownApp, InvalidInput, ReleaseNotFound.
        """
        one = await self._known.of(app_id)
        release = await asyncio.to_thread(lambda: one.releases.get(tag))
        sizes = await self._sizes()
        work = asyncio.ensure_future(self._known.in_thread(lambda: sizes.calculate(one.app, release, force=force)))
        try:
            return await asyncio.wait_for(asyncio.shield(work), SIZE_S)
        except TimeoutError:
            work.add_done_callback(lambda done: done.cancelled() or done.exception())
            return await asyncio.to_thread(lambda: sizes.leave_estimate(one.app, release))

    async def known_size(self, tag: str, app_id: str = DEFAULT_APP) -> ReleaseSize | None:
        """What was calculated before."""
        one = await self._known.of(app_id)
        sizes = await self._sizes()
        return await asyncio.to_thread(lambda: sizes.kept(one.app, tag.strip()))

    async def all_sizes(self, app_id: str = DEFAULT_APP) -> tuple[list[ReleaseSize], list[str]]:
        """What is known of all releases that are offered, and the tags that are calculated from now on, those that are
        not installed first."""
        one = await self._known.of(app_id)
        sizes = await self._sizes()

        def look() -> tuple[list[ReleaseSize], list[Release]]:
            offered = one.releases.offered()
            known = {release.tag: size for release in offered if (size := sizes.kept(one.app, release.tag))}
            listed = one.state.listed()
            unknown = [release for release in offered if release.tag not in known]
            return list(known.values()), sorted(unknown, key=lambda release: release.tag in listed)

        known, unknown = await asyncio.to_thread(look)
        if unknown and one.app.id not in self._sizing:
            self._sizing.add(one.app.id)
            self._known.spawn(self._size_all(one, sizes, unknown), "sizes")
        return known, [release.tag for release in unknown]

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _size_all(self, one: OneApp, sizes: Sizes, releases: list[Release]) -> None:
        try:
            for release in releases:
                try:
                    await self._known.in_thread(lambda release=release: sizes.calculate(one.app, release))
                except PumasError as error:  # one that has nothing for this machine hides no other
                    log.info("%s %s not sized: %s", one.app.id, release.tag, error)
        finally:
            self._sizing.discard(one.app.id)
        self._known.tell_of_releases(one.app.id)

    async def _sizes(self) -> Sizes:
        def make() -> Sizes:
            from pumas.versions.github import GitHub
            from pumas.versions.sizes import Sizes

            with self._lock:
                if self._sizes_made is None:
                    self._sizes_made = Sizes(self._known.layout, self._known.network, GitHub(self._known.network))
                return self._sizes_made

        return self._sizes_made or await asyncio.to_thread(make)

    async def _keep_fresh(self) -> None:
        """Refresh old lists of releases, once the start is over and then now and then."""
        pause = FIRST_LOOK_S
        while True:
            await asyncio.sleep(pause)
            pause = LOOK_S
            await self.refresh_all_behind()

    async def _refresh_now(self, one: OneApp) -> None:
        """Wait a while for fresh releases; old ones are good enough when that fails."""
        fetch = asyncio.ensure_future(self._known.in_thread(one.releases.refresh))
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
                await self._known.in_thread(lambda: one.releases.refresh(only_stale=True))
            except PumasError as error:
                log.info("releases of %s not refreshed: %s", one.app.id, error)
                return
            if one.app.id == DEFAULT_APP:
                self._fetched = True
            self._known.tell_of_releases(one.app.id)

        if not one.releases.status().is_fetching:
            self._known.spawn(refresh(), f"releases {one.app.id}")

    def _shown(self, one: OneApp) -> list[Offered]:
        from pumas.versions.sizes import kept_sizes

        busy = one.progress.tag if one.progress and not one.progress.finished else None
        sizes = kept_sizes(self._known.layout, one.app)
        found: list[Offered] = []
        for release in one.releases.offered():
            archive, dependencies, total = sizes(release)
            page = f"https://github.com/{one.app.releases.repository}/releases/tag/{release.tag}"
            found.append(Offered(release, total, archive, dependencies, release.tag == busy, page))
        return found


def newest_of(one: OneApp) -> str | None:
    """The newest release that is no prerelease, as far as it is known. Blocks."""
    return next((release.tag for release in one.releases.offered() if not release.is_prerelease), None)
