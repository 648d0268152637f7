"""Carries plans out, in batches: rows first, then links, then the folders synced, then the rows say so.

A kill between any two steps leaves each link on disk in the registry; `LinkKeeper.settle` asks the disk about the rest.
Every link is looked at once more before it is made or taken away: what a plan said may have changed since. What is in
the way is moved aside only where the caller chose so, and never deleted.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pumas.errors import AlreadyExists, PumasError
from pumas.jobs.store import now
from pumas.links import linking
from pumas.links.keeping import LinkKeeper, sync_folders
from pumas.links.linking import LinkKind, Unsupported
from pumas.links.store import Link, LinkStore, Replaced, new_link
from pumas.links.values import Action, Applied, Plan, PlannedLink, Resolution, Unneeded
from pumas.links.volumes import Volumes, device_of
from pumas.storage.files import disk_error, disk_errors, make_folders, rename_new
from pumas.storage.paths import display_name

BATCH = 1000
KEPT_FOLDER = ".pumas-replaced"
_MAX_ERRORS = 100

Report = Callable[[int, int], None]
_T = TypeVar("_T")


@dataclass
class _Batch:
    """One batch under way. `failed` places get no row, `unreplaced` were not moved aside."""

    rows: list[Link] = field(default_factory=list[Link])
    links: list[PlannedLink] = field(default_factory=list[PlannedLink])
    moves: dict[str, Replaced] = field(default_factory=dict[str, Replaced])
    copies: dict[str, str] = field(default_factory=dict[str, str])
    failed: list[str] = field(default_factory=list[str])
    unreplaced: list[str] = field(default_factory=list[str])


class Applier:
    """Calls block."""

    def __init__(self, store: LinkStore, keeper: LinkKeeper, volumes: Volumes) -> None:
        self._store = store
        self._keeper = keeper
        self._volumes = volumes

    def apply(
        self,
        plan: Plan,
        resolutions: Mapping[str, Resolution] | None = None,
        *,
        allow_copy: bool = False,
        check: Callable[[], None] = lambda: None,
        report: Report = lambda _done, _total: None,
    ) -> Applied:
        """
        Args:
            resolutions: by model id, what to do about conflicts; others are skipped.
            check: raises when the work should stop; what was done stays done.
            report: told how many of how many links were looked at.

        Raises:
            DiskError, NotEnoughSpace, ReadOnly: the registry cannot be written; see above.
        """
        run = _Run(self._store, self._keeper, self._volumes, plan, resolutions or {}, allow_copy=allow_copy)
        return run.apply(check, report)

    def take_away(self, unneeded: Sequence[Unneeded]) -> int:
        """Remove links that are ours, and the rows of those that are gone. Returns how many links were removed."""
        removed = 0
        for part in _parts(unneeded):
            with self._keeper.lock, disk_errors("Removing links"):
                removed += self._take_away(part)
        return removed

    def _take_away(self, part: Sequence[Unneeded]) -> int:
        removed, stay = 0, set[int]()
        for one in part:
            try:
                removed += linking.take_away(one.link, one.target, self._store.absolute(one.link.source_path))
            except OSError:
                stay.add(one.link.link_id)
        sync_folders(os.path.dirname(one.target) for one in part)
        self._store.forget(one.link.link_id for one in part if one.link.link_id not in stay)
        return removed


class _Run:
    def __init__(
        self,
        store: LinkStore,
        keeper: LinkKeeper,
        volumes: Volumes,
        plan: Plan,
        resolutions: Mapping[str, Resolution],
        *,
        allow_copy: bool,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._volumes = volumes
        self._plan = plan
        self._resolutions = resolutions
        self._allow_copy = allow_copy
        self._done = Applied()
        self._kept_folder = kept_folder(plan.place.models)
        self._more_errors = 0

    def apply(self, check: Callable[[], None], report: Report) -> Applied:
        plan, done = self._plan, self._done
        work = [link for link in plan.links if link.action in (Action.CREATE, Action.UPDATE) or self._chosen(link)]
        skipped = plan.of(Action.SKIP)
        done.errors += plan.errors
        done.skipped = len(skipped)
        done.conflicts = sum(link.action is Action.CONFLICT and not self._chosen(link) for link in plan.links)
        done.total = len(skipped)
        for link in plan.of(Action.COPY):
            self._fail(link, f"it would need a copy of {link.size:,} bytes; allow_copy does that")
        if plan.models_link:
            self._move_models_link()
        done.removed = Applier(self._store, self._keeper, self._volumes).take_away(plan.broken)
        position = 0
        for part in _parts(work):
            check()
            with self._keeper.lock, disk_errors("Making links"):
                again = self._batch(part)
                if again:
                    self._batch(again)
            position += len(part)
            report(position, len(work))
        if self._more_errors:
            done.errors.append(f"{self._more_errors} more links could not be made.")
        return done

    def _chosen(self, link: PlannedLink) -> bool:
        return link.action is Action.CONFLICT and self._resolution(link) is not Resolution.SKIP

    def _resolution(self, link: PlannedLink) -> Resolution:
        return self._resolutions.get(link.model_id, Resolution.SKIP)

    def _fail(self, link: PlannedLink, reason: str) -> None:
        if len(self._done.errors) >= _MAX_ERRORS:
            self._more_errors += 1
            return
        self._done.errors.append(f"{display_name(os.path.basename(link.target))} ({link.model_id}): {reason}.")

    def _move_models_link(self) -> None:
        """Only ever a link into the library: its place is taken by a real folder."""
        models = self._plan.place.models
        aside = f"{models}.replaced-{secrets.token_hex(4)}"
        moved = Replaced(self._store.kept(models), self._store.kept(aside), "", now())
        with self._keeper.lock, disk_errors("Moving the link to the library aside"):
            self._store.begin((), [moved])
            rename_new(Path(models), Path(aside))
            make_folders(Path(models))
        self._done.kept.append({"target_path": models, "backup_path": aside})

    # -- one batch: the lock is held -----------------------------------------------------------------------------------

    def _batch(self, links: Sequence[PlannedLink]) -> list[PlannedLink]:
        """Returns links that need another kind, to be tried again with that."""
        self._keeper.settle()
        batch = self._prepared(links)
        self._store.begin(batch.rows, list(batch.moves.values()))
        again: list[PlannedLink] = []
        try:
            for row, link in zip(batch.rows, batch.links, strict=True):
                other = self._make(batch, row, link)
                if other is not None:
                    again.append(other)
        finally:
            sync_folders(os.path.dirname(link.target) for link in batch.links)
            self._store.finish(batch.failed, batch.unreplaced)
        return again

    def _prepared(self, links: Sequence[PlannedLink]) -> _Batch:
        """Rows for what can be made. Our own older links at these places go first, while their rows still stand."""
        batch = _Batch()
        for link in links:
            if not os.path.exists(link.source):
                self._fail(link, "the model's file is gone")
                continue
            if not os.path.isdir(self._plan.place.folder):
                self._fail(link, "the version is gone")
                continue
            try:
                make_folders(Path(link.target).parent)
                if not self._make_room(link):
                    continue
                row = self._row(batch, link)
            except OSError as error:
                self._fail(link, _said(disk_error(error, "it cannot be made")))
                continue
            except PumasError as error:
                self._fail(link, _said(error))
                continue
            if link.action is Action.CONFLICT:
                batch.moves[link.target] = self._aside(link)
            batch.rows.append(row)
            batch.links.append(link)
        return batch

    def _make_room(self, link: PlannedLink) -> bool:
        """Whether the link can be made: nothing is there, or our own older link was, or what will be moved aside."""
        if link.action is Action.CONFLICT or not os.path.lexists(link.target):
            return True
        row = self._store.at(link.target)
        if row is not None and row.source_path == self._store.kept(link.source) and _is_made(row, link):
            self._done.skipped += 1  # somebody else has just applied the same plan
            self._done.total += 1
            return False
        if row is not None and link.action is Action.UPDATE:
            linking.take_away(row, link.target, self._store.absolute(row.source_path))
        if os.path.lexists(link.target):
            self._taken(link)
            return False
        return True

    def _taken(self, link: PlannedLink) -> None:
        self._done.conflicts += 1
        self._fail(link, "something else has taken its place")

    def _row(self, batch: _Batch, link: PlannedLink) -> Link:
        place = self._plan.place
        row = new_link(
            link.model_id,
            self._store.kept(link.source),
            self._store.kept(link.target),
            link.kind,
            place.app.id,
            place.version,
            external=link.external,
        )
        if link.kind is LinkKind.SYMLINK:
            return row._replace(link_text=link.text)
        if link.kind is LinkKind.HARDLINK:
            return row._replace(inode=os.stat(link.source).st_ino)
        temporary, status = linking.prepare_copy(link.source, link.target)
        batch.copies[link.target] = temporary
        return row._replace(inode=status.st_ino, size=status.st_size, mtime_ns=status.st_mtime_ns)

    def _aside(self, link: PlannedLink) -> Replaced:
        if self._resolution(link) is Resolution.OVERWRITE:
            kept = f"{self._kept_folder}/{link.target[len(self._plan.place.models) + 1 :]}"
        else:
            kept = next(name for name in _old_names(link.target) if not os.path.lexists(name))
        return Replaced(self._store.kept(link.target), self._store.kept(kept), link.model_id, now())

    def _make(self, batch: _Batch, row: Link, link: PlannedLink) -> PlannedLink | None:
        """Make one link, or note that it failed. Returns it with another kind when the place knows no such links."""
        try:
            if link.target in batch.moves:
                self._move_aside(batch, link)
            if link.target in batch.copies:
                linking.publish_copy(batch.copies[link.target], link.target)
            else:
                linking.make(row, link.target, link.source)
        except Unsupported:
            batch.failed.append(row.target_path)
            return self._other_kind(link)
        except (FileExistsError, AlreadyExists):
            batch.failed.append(row.target_path)
            self._taken(link)
        except OSError as error:
            batch.failed.append(row.target_path)
            self._fail(link, _said(disk_error(error, "it cannot be made")))
        except PumasError as error:
            batch.failed.append(row.target_path)
            self._fail(link, _said(error))
        else:
            self._count(link)
        return None

    def _move_aside(self, batch: _Batch, link: PlannedLink) -> None:
        moved = batch.moves.pop(link.target)
        kept = self._store.absolute(moved.kept_path)
        try:
            if _stamp(link.target) != link.stamp:
                raise AlreadyExists(f"{os.path.basename(link.target)} has changed.")
            make_folders(Path(kept).parent)
            rename_new(Path(link.target), Path(kept))
        except BaseException:
            batch.unreplaced.append(moved.kept_path)
            raise
        self._done.kept.append({"target_path": link.target, "backup_path": kept})
        if self._resolution(link) is Resolution.OVERWRITE:
            self._done.overwritten += 1
        else:
            self._done.renamed += 1

    def _other_kind(self, link: PlannedLink) -> PlannedLink | None:
        device = device_of(os.path.dirname(link.target))
        symlink = link.kind is LinkKind.SYMLINK
        self._volumes.lacks(device, symlinks=symlink, hardlinks=not symlink)
        # What was in the way has been moved by now.
        action = Action.CREATE if link.action is Action.CONFLICT else link.action
        if self._volumes.ability(device).hardlinks and not link.external:
            return replace(link, action=action, kind=LinkKind.HARDLINK, text="")
        size = os.stat(link.source).st_size
        if self._allow_copy:
            return replace(link, action=action, kind=LinkKind.COPY, text="", size=size)
        self._fail(link, f"no link can be made there; it would need a copy of {size:,} bytes, allow_copy does that")
        return None

    def _count(self, link: PlannedLink) -> None:
        self._done.total += 1
        self._done.created += 1
        self._done.updated += link.action is Action.UPDATE
        if link.kind is LinkKind.COPY:
            self._done.copied_bytes += link.size


def kept_folder(models: str) -> str:
    """A new folder for what is moved aside, on the volume of the models and outside of what the app looks through."""
    return f"{models}/{KEPT_FOLDER}/{now()[:19].replace(':', '')}-{secrets.token_hex(3)}"


def _parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _old_names(target: str) -> Iterable[str]:
    yield f"{target}.old"
    number = 1
    while True:
        yield f"{target}.old.{number}"
        number += 1


def _stamp(path: str) -> str:
    """As the plan noted it: what is there is still what the caller decided about."""
    status = os.lstat(path)
    if os.path.islink(path):
        return f"link {os.readlink(path)}"
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _is_made(row: Link, link: PlannedLink) -> bool:
    """Whether a link is there already, just as it is planned."""
    if link.kind is LinkKind.SYMLINK:
        return os.path.islink(link.target) and os.readlink(link.target) == link.text
    if link.kind is LinkKind.HARDLINK:
        return os.path.samefile(link.target, link.source)
    return link.action is Action.CREATE and linking.is_ours(row, link.target, link.source)


def _said(error: PumasError) -> str:
    return str(error).rstrip(".")
