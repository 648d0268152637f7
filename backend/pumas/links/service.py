"""Links as their callers see them: plan, apply, resolve, look after.

Applying is a job that is answered when it is quick. The work itself is `work.py`, loaded when it is first needed; what
must be right from the start, the registry and what happens to links when models go and come back, is `keeping.py`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.events.stream import EventStream
from pumas.jobs.service import JobContext, JobService
from pumas.jobs.store import Json
from pumas.library.catalog import Catalog
from pumas.library.service import ANSWER_WITHIN_S
from pumas.links.keeping import Changes, LinkKeeper
from pumas.links.store import Link, LinkStore

if TYPE_CHECKING:
    from pumas.links.health import Health
    from pumas.links.places import OfApp
    from pumas.links.values import Applied, Plan
    from pumas.links.work import LinkWork, Removed

T = TypeVar("T")

APPLY = "apply_links"
_KEPT_PLANS = 4
# Planning takes a share of the ten seconds that a call may take.
APPLY_WITHIN_S = ANSWER_WITHIN_S - 3.0


@dataclass(frozen=True)
class ApplyAnswer:
    """What was done, by tag; those of which nothing is there are still under way in the job."""

    job_id: str | None
    applied: dict[str, Applied]
    pending: bool


class LinkService:
    def __init__(
        self,
        layout: Layout,
        apps: Apps,
        installed: OfApp,
        catalog: Catalog,
        jobs: JobService,
        events: EventStream,
        store: LinkStore,
        keeper: LinkKeeper,
    ) -> None:
        self._root = layout.root
        self._apps = apps
        self._catalog = catalog
        self._jobs = jobs
        self._events = events
        keeper.tell(self._tell_all)
        self._store = store
        self._keeper = keeper
        self._make_work: Callable[[], LinkWork] = lambda: _work(layout, apps, installed, store, keeper, catalog)
        self._work: LinkWork | None = None
        self._making = threading.Lock()
        self._at: list[tuple[str, str]] = []
        self._threads: ThreadPoolExecutor | None = None
        # Plans that a job is about to carry out.
        self._plans: dict[str, Plan] = {}
        jobs.register(APPLY, self._run_apply)

    async def open(self) -> None:
        """Finish what a killed process left half done. Call after the library is open."""
        await asyncio.to_thread(self._keeper.recover)

    async def go_on(self) -> None:
        """Go on with what a kill interrupted. Call after the library and the versions are open."""
        await self._jobs.go_on(APPLY)

    @property
    def work(self) -> LinkWork:
        """Loads much at its first use: from worker threads only."""
        with self._making:
            if self._work is None:
                self._work = self._make_work()
            return self._work

    def works_on(self, app_id: str, tag: str) -> bool:
        """Whether links of a version are being made: it must stay where it is."""
        return (app_id, tag) in self._at

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Planning and applying have threads of their own: they must not fill those that short calls wait for."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=3, thread_name_prefix="links")
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    # -- plan and apply ------------------------------------------------------------------------------------------------

    async def plan(self, app_id: str, tag: str, *, allow_copy: bool = False, replace_models_link: bool = False) -> Plan:
        """Raises UnknownApp, InvalidInput, VersionNotFound, and what reading the library refused."""
        await self._catalog.fresh()
        return await self._in_thread(
            lambda: self.work.plan(app_id, tag, allow_copy=allow_copy, replace_models_link=replace_models_link)
        )

    async def apply(
        self,
        app_id: str,
        tag: str,
        *,
        plan_id: str | None = None,
        model_ids: Collection[str] | None = None,
        resolutions: Mapping[str, str] | None = None,
        allow_copy: bool = False,
        replace_models_link: bool = False,
    ) -> ApplyAnswer:
        """Carry out the plan for a version as it is now, or the one with `plan_id` if that is still the same.

        Raises:
            PlanOutdated: it is another one; nothing was changed.
            InvalidInput: a resolution that is none; UnknownApp, VersionNotFound.
            LibraryOffline, DiskError, NotEnoughSpace, ReadOnly: what was done stays and is registered.
        """
        await self._catalog.fresh()
        words = dict(resolutions or {})

        def plan() -> Plan:
            from pumas.links.work import resolutions_of

            resolutions_of(words)
            return self.work.plan_for_apply(
                app_id, tag, plan_id, model_ids, allow_copy=allow_copy, replace_models_link=replace_models_link
            )

        params: Json = {
            "app_id": app_id,
            "tags": [tag],
            "model_ids": None if model_ids is None else list(model_ids),
            "resolutions": words,
            "allow_copy": allow_copy,
            "replace_models_link": replace_models_link,
        }
        return await self._carry_out([await self._in_thread(plan)], params)

    async def refresh(self, app_id: str) -> ApplyAnswer:
        """Look at the library anew and apply the plans of all installed versions. Raises as `apply`."""
        await self._catalog.reconcile()

        def plans() -> list[Plan]:
            places = self.work.places.of_app(app_id)
            return [self.work.plan_for_apply(app_id, place.tag, None) for place in places if place.models]

        found = await self._in_thread(plans)
        params: Json = {
            "app_id": app_id,
            "tags": [plan.place.tag for plan in found],
            "model_ids": None,
            "resolutions": {},
            "allow_copy": False,
            "replace_models_link": False,
        }
        return await self._carry_out(found, params)

    async def _carry_out(self, plans: Sequence[Plan], params: Json) -> ApplyAnswer:
        if not any(plan.changes or (params["resolutions"] and plan.conflicts) for plan in plans):
            return ApplyAnswer(None, await self._in_thread(lambda: self._apply(plans, params)), pending=False)
        while len(self._plans) > _KEPT_PLANS:
            self._plans.pop(next(iter(self._plans)))
        for plan in plans:
            self._plans[plan.id] = plan
        params["plan_ids"] = [plan.id for plan in plans]
        job = await self._jobs.start(APPLY, params, title=_title(plans))
        done = await self._jobs.outcome(job.id, APPLY_WITHIN_S)
        return ApplyAnswer(job.id, _applied(done["applied"]) if done else {}, pending=done is None)

    async def _run_apply(self, context: JobContext, params: Json) -> Json:
        """Also after a restart: the plans are made anew then, and what was done is not done again."""
        known = [self._plans.pop(plan_id, None) for plan_id in params["plan_ids"]]
        if any(plan is None for plan in known):
            await self._catalog.fresh()

        def work() -> dict[str, Applied]:
            plans = [plan or self._plan_again(params, tag) for plan, tag in zip(known, params["tags"], strict=True)]
            return self._apply(plans, params, context)

        applied = await self._in_thread(work)
        return {"applied": {tag: asdict(one) for tag, one in applied.items()}}

    def _plan_again(self, params: Json, tag: str) -> Plan:
        return self.work.plan_for_apply(
            params["app_id"],
            tag,
            None,
            params["model_ids"],
            allow_copy=params["allow_copy"],
            replace_models_link=params.get("replace_models_link", False),
        )

    def _apply(self, plans: Sequence[Plan], params: Json, context: JobContext | None = None) -> dict[str, Applied]:
        from pumas.links.work import resolutions_of

        resolutions = resolutions_of(params["resolutions"])
        done: dict[str, Applied] = {}
        for plan in plans:

            def report(count: int, total: int, tag: str = plan.place.tag) -> None:
                if context is not None:
                    context.report(stage="link", done=count, total=total, item=tag, unit="links")

            where = (plan.place.app.id, plan.place.tag)
            self._at.append(where)
            try:
                one = done[plan.place.tag] = self.work.apply(
                    plan,
                    resolutions,
                    allow_copy=params["allow_copy"],
                    check=context.check if context is not None else lambda: None,
                    report=report,
                )
            finally:
                self._at.remove(where)
            self._tell(plan.place.app.id, plan.place.version, one.created, one.removed)
        return done

    async def follow_version(self, app_id: str, tag: str) -> None:
        """A version came, or came back: bring its links to what the library and the rules are now. Raises as `apply`.

        Links that went with models meanwhile go, those of models that returned meanwhile are made again.
        """
        await asyncio.to_thread(self._keeper.recover)
        await self.apply(app_id, tag)

    async def forget_version(self, app_id: str, tag: str) -> None:
        """A version is gone for good, and its links with it. Raises what the registry refused."""

        def forget() -> None:
            folder = self._root / self._apps.get(app_id).folder / tag
            self._keeper.version_lost(str(folder))

        await asyncio.to_thread(forget)

    # -- health and questions ------------------------------------------------------------------------------------------

    async def health(self, app_id: str, tag: str | None) -> Health:
        """Raises UnknownApp, InvalidInput. A version that is not installed has no orphans."""
        await self._catalog.fresh()
        return await self._in_thread(lambda: self.work.health(app_id, tag))

    async def clean_broken(self) -> int:
        """See `LinkWork.clean_broken`."""
        cleaned = await self._in_thread(lambda: self.work.clean_broken())
        self._tell(None, None, 0, cleaned)
        return cleaned

    async def remove_orphans(self, app_id: str, tag: str, paths: Collection[str]) -> Removed:
        """See `LinkWork.remove_orphans`."""
        await self._catalog.fresh()
        done = await self._in_thread(lambda: self.work.remove_orphans(app_id, tag, paths))
        self._tell(app_id.strip().lower(), tag.strip().lstrip("vV"), 0, done.removed)
        return done

    async def of_model(self, model_id: str) -> list[Link]:
        return await asyncio.to_thread(lambda: self._store.of_models([model_id]))

    async def list(self, app_id: str | None, tag: str | None, *, limit: int, offset: int) -> tuple[list[Link], int]:
        """(in order of their paths, number of all)"""
        version = tag.lstrip("vV") if tag is not None else None
        app = app_id.strip().lower() if app_id is not None else None
        return await asyncio.to_thread(lambda: self._store.page(app, version, limit, offset))

    async def across(self, app_id: str, tag: str) -> tuple[str, str] | None:
        """See `LinkWork.across`."""
        return await self._in_thread(lambda: self.work.across(app_id, tag))

    def absolute(self, kept: str) -> str:
        """A path of a registered link, absolute."""
        return self._store.absolute(kept)

    # -- news ----------------------------------------------------------------------------------------------------------

    def _tell_all(self, made: Changes, removed: Changes) -> None:
        for app_id, version in made.keys() | removed.keys():
            self._tell(app_id, version, made[app_id, version], removed[app_id, version])

    def _tell(self, app_id: str | None, version: str | None, made: int, removed: int) -> None:
        """`links.changed`: an app or version of None means that it may be any."""
        if made or removed:
            changed = {"app_id": app_id, "app_version": version, "made": made, "removed": removed}
            self._events.publish_threadsafe("links.changed", changed)


def _work(
    layout: Layout, apps: Apps, installed: OfApp, store: LinkStore, keeper: LinkKeeper, catalog: Catalog
) -> LinkWork:
    from pumas.links.work import LinkWork

    return LinkWork(layout, apps, installed, store, keeper, catalog.index)


def _applied(values: Mapping[str, Json]) -> dict[str, Applied]:
    from pumas.links.values import Applied

    return {tag: Applied(**value) for tag, value in values.items()}


def _title(plans: Sequence[Plan]) -> str:
    place = plans[0].place
    return f"Link models to {place.app.name} {place.tag if len(plans) == 1 else f'({len(plans)} versions)'}"
