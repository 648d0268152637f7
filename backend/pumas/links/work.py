"""Everything about links that costs memory: planning, applying, health. Made when it is first needed.

Puts the parts together; what each promises is written there. Calls block and come from worker threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pumas.apps.catalog import Apps
from pumas.config import Layout
from pumas.errors import InvalidInput, PlanOutdated
from pumas.jobs.store import now
from pumas.library.store import Mappable
from pumas.links.applying import Applier, Report, kept_folder
from pumas.links.health import Examiner, Health, is_inside, recovered_rows
from pumas.links.keeping import LinkKeeper
from pumas.links.places import OfApp, Place, Places
from pumas.links.planning import Planner, is_there
from pumas.links.rules import write_default
from pumas.links.store import LinkStore, Replaced
from pumas.links.values import Applied, Plan, Resolution
from pumas.links.volumes import Volumes, device_of
from pumas.storage.files import disk_errors, make_folders, rename_new
from pumas.system import sandbox

_REBUILT = "rebuilt_after"


class Library(Protocol):
    """What is asked of the library's index."""

    @property
    def state(self) -> str: ...

    def mappable(self) -> list[Mappable]: ...

    def reconcile(self) -> object: ...


@dataclass(frozen=True)
class Removed:
    """`kept` are links that we did not make and that nobody named."""

    removed: int
    kept: list[str] = field(default_factory=list[str])


class LinkWork:
    def __init__(
        self,
        layout: Layout,
        apps: Apps,
        installed: OfApp,
        store: LinkStore,
        keeper: LinkKeeper,
        library: Library,
    ) -> None:
        volumes = Volumes()
        self._layout = layout
        self._store = store
        self._keeper = keeper
        self._library = library
        self.places = Places(apps, installed)
        self._planner = Planner(layout, store, library, volumes)
        self._applier = Applier(store, keeper, volumes)
        self._examiner = Examiner(layout, store)

    # -- plan and apply ------------------------------------------------------------------------------------------------

    def plan(
        self,
        app_id: str,
        tag: str,
        model_ids: Collection[str] | None = None,
        *,
        allow_copy: bool = False,
        replace_models_link: bool = False,
    ) -> Plan:
        """
        Raises:
            UnknownApp, InvalidInput, VersionNotFound: there is no such place.
            LibraryOffline, PumasError: see `Planner.plan`.
        """
        place = self.places.get(app_id, tag)
        self._after_loss()
        plan = self._planner.plan(place, model_ids, allow_copy=allow_copy, replace_models_link=replace_models_link)
        if sandbox.detect().is_sandboxed:
            plan.warnings.append("The sidecar runs in a sandbox; apps outside of it may see these paths differently.")
        return plan

    def plan_for_apply(
        self,
        app_id: str,
        tag: str,
        plan_id: str | None,
        model_ids: Collection[str] | None = None,
        *,
        allow_copy: bool = False,
        replace_models_link: bool = False,
    ) -> Plan:
        """As `plan`, after what a killed process began is settled.

        Raises:
            PlanOutdated: it is not the plan with `plan_id`.
        """
        with self._keeper.lock:
            self._keeper.settle()
        plan = self.plan(app_id, tag, model_ids, allow_copy=allow_copy, replace_models_link=replace_models_link)
        if plan_id is not None and plan.id != plan_id:
            raise PlanOutdated
        return plan

    def apply(
        self,
        plan: Plan,
        resolutions: Mapping[str, Resolution],
        *,
        allow_copy: bool,
        check: Callable[[], None] = lambda: None,
        report: Report = lambda _done, _total: None,
    ) -> Applied:
        """See `Applier.apply`."""
        if plan.from_app:
            write_default(self._layout, plan.place.app, now())
        return self._applier.apply(plan, resolutions, allow_copy=allow_copy, check=check, report=report)

    # -- health --------------------------------------------------------------------------------------------------------

    def health(self, app_id: str, tag: str | None) -> Health:
        """Raises UnknownApp, InvalidInput. A version that is not installed has no orphans."""
        self.places.require_app(app_id)
        place = None if tag is None else self.places.find(app_id, tag)
        if not is_there(str(self._layout.library)) and self._library.mappable():
            return Health(warnings=["The library's drive is away, and the registry of links with it."])
        self._after_loss()
        return self._examiner.examine(self._planned(place))

    def _planned(self, place: Place | None) -> Plan | None:
        return None if place is None or not place.models else self._planner.plan(place)

    def clean_broken(self) -> int:
        """Remove links that lead nowhere, and rows of links that are gone. Returns how many rows went.

        Nothing is removed while the library, or the drive of a file, is away.
        """
        self._library.reconcile()
        if self._library.state == "offline":
            return 0
        with self._keeper.lock:
            self._keeper.settle()
        broken = self._examiner.examine(None).broken
        self._applier.take_away(broken)
        return len(broken)

    def remove_orphans(self, app_id: str, tag: str, paths: Collection[str]) -> Removed:
        """Remove links of ours that no rule wants, and links into the library that are named.

        A named link that we did not make is moved aside, not deleted.

        Raises:
            UnknownApp, InvalidInput: no such app; a path that is no orphan of this version.
        """
        place = self.places.find(app_id, tag)
        health = self._examiner.examine(self._planned(place))
        unknown = sorted(set(paths) - set(health.orphaned))
        if unknown:
            raise InvalidInput("paths", f"{os.path.basename(unknown[0])[:100]} is no orphaned link of this version")
        ours = {one.target for one in health.removable}
        removed = self._applier.take_away(health.removable)
        foreign = [path for path in health.orphaned if path not in ours]
        for path in foreign:
            if path in paths and is_inside(self._layout, path):
                self._move_aside(place, path)
                removed += 1
        return Removed(removed, [path for path in foreign if path not in paths])

    def _move_aside(self, place: Place | None, path: str) -> None:
        assert place is not None  # without one there are no orphans
        kept = f"{kept_folder(place.models)}/{path[len(place.models) + 1 :]}"
        with self._keeper.lock, disk_errors("Moving a link aside"):
            self._store.begin((), [Replaced(self._store.kept(path), self._store.kept(kept), "", now())])
            make_folders(Path(kept).parent)
            rename_new(Path(path), Path(kept))

    # -- after the registry was lost -----------------------------------------------------------------------------------

    def _after_loss(self) -> None:
        """Register our links again when a damaged registry was put aside: those that are as we would make them."""
        self._store.prepare()
        lost = list(self._store.put_aside())
        if lost and self._store.setting(_REBUILT) != lost[-1]:
            with self._keeper.lock:
                plans = [self._planner.plan(place) for place in self.places.all() if place.models]
                self._store.begin(recovered_rows(self._store, plans))
                self._store.finish()
                self._store.set(_REBUILT, lost[-1])

    # -- questions -----------------------------------------------------------------------------------------------------

    def across(self, app_id: str, tag: str) -> tuple[str, str] | None:
        """(library, models folder) when they lie on different volumes. Raises UnknownApp, InvalidInput."""
        place = self.places.find(app_id, tag)
        if place is None or not place.models:
            return None
        library = str(self._layout.library)
        return (library, place.models) if device_of(library) != device_of(place.models) else None


def resolutions_of(texts: Mapping[str, str]) -> dict[str, Resolution]:
    """Raises InvalidInput for a word that is none of `skip`, `overwrite`, `rename`."""
    known = {str(one) for one in Resolution}
    for model_id, word in texts.items():
        if word not in known:
            raise InvalidInput("resolutions", f"{model_id[:100]} must be skip, overwrite or rename")
    return {model_id: Resolution(word) for model_id, word in texts.items()}
