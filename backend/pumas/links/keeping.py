"""Keeps registry and links in step when models go and come back, and after a kill. Light: it is there from the start.

A link's row is written before the link is made. `recover` asks the disk about every row whose making was not finished,
and about every model that was on its way into the trash or back: what is there and ours is registered, and nothing else
is. `LinkKeeper` is the library's `Companions`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path

from pumas.config import Layout
from pumas.errors import PumasError, UnknownApp
from pumas.library.trash import MODEL
from pumas.links.linking import LinkKind, Unsupported, is_ours, make, symlink_text, take_away
from pumas.links.store import Link, LinkStore, Parked, new_link
from pumas.links.volumes import device_of
from pumas.storage.files import disk_error, disk_errors, fsync_folder, make_folders, remove_stale_temporaries

log = logging.getLogger(__name__)


Changes = Counter[tuple[str, str]]
"""How many links, by app and version (a tag without leading v)."""


class LinkKeeper:
    """Calls block. `lock` is held while rows and links change; never for long."""

    def __init__(self, layout: Layout, store: LinkStore) -> None:
        self._root = layout.root
        self._trash = layout.trash
        self._store = store
        self._is_removed: Callable[[str, str], bool] = lambda _app_id, _tag: False
        self._told: Callable[[Changes, Changes], None] = lambda _made, _removed: None
        self.lock = threading.RLock()

    def ask_removed(self, call: Callable[[str, str], bool]) -> None:
        """Have `call(app_id, tag)` say whether a version lies in the trash: it may come back, and its links with it."""
        self._is_removed = call

    def tell(self, call: Callable[[Changes, Changes], None]) -> None:
        """Have `call(made, removed)` done from any thread, after links came or went with their model."""
        self._told = call

    # -- models that go and come back ----------------------------------------------------------------------------------

    def count(self, model_ids: Sequence[str]) -> int:
        return len(self._store.of_models(model_ids))

    def used_by(self) -> Mapping[str, Sequence[str]]:
        return self._store.models_by_app()

    @contextlib.contextmanager
    def leaving(self, trash_id: str, model_ids: Sequence[str]) -> Generator[int]:
        """See `Companions`. A link that cannot be removed stays, dangling and registered."""
        with self.lock:
            rows = self._store.of_models(model_ids)
            if not rows:
                yield 0
                return
            links = [row for row in rows if row.link_type != LinkKind.COPY]
            self._store.park(trash_id, links)
            try:
                gone = self._take_away(links)
                yield len(gone) + len(rows) - len(links)
            except BaseException:
                self._bring_back(trash_id)
                raise
            # A copy is not made again by itself, so it goes last.
            gone |= self._take_away(row for row in rows if row.link_type == LinkKind.COPY)
            self._told(Counter(), _count(gone))
            try:
                gone_for_good = (row for row in rows if not self._is_there(row) and not self._is_away(row))
                self._store.forget(row.link_id for row in gone_for_good)
            except PumasError as error:
                # The model has gone; the next start forgets them.
                log.warning("links of a deleted model are still in the registry: %s", error)

    def returned(self, trash_id: str) -> int:
        """See `Companions`. Where something else has taken a link's place meanwhile, that stays."""
        with self.lock:
            return self._bring_back(trash_id)

    def forgotten(self, trash_id: str) -> None:
        if self._store.exists:
            self._store.unpark(trash_id)

    def version_lost(self, folder: str) -> None:
        """Forget the links of a version (its folder, absolute) that is gone for good.

        Raises:
            PumasError: the registry cannot be read or written.
        """
        with self.lock:
            if self._store.exists and not os.path.lexists(folder):
                self._store.forget_below(folder)

    def _is_away(self, one: Link | Parked) -> bool:
        """Whether a link lies in a version that is in the trash: neither can be looked at, and both may come back."""
        parts = one.target_path.split("/")
        if parts[0] == "" or len(parts) < 3 or os.path.isdir(self._root / parts[0] / parts[1]):
            return False
        try:
            return self._is_removed(one.app_id, parts[1])
        except UnknownApp:
            return False

    def _is_there(self, row: Link) -> bool:
        return is_ours(row, self._store.absolute(row.target_path), self._store.absolute(row.source_path))

    def _take_away(self, rows: Iterable[Link]) -> set[Link]:
        gone: set[Link] = set()
        for row in rows:
            target = self._store.absolute(row.target_path)
            try:
                if take_away(row, target, self._store.absolute(row.source_path)):
                    gone.add(row)
            except OSError as error:
                log.warning("a link stays without its model: %s", disk_error(error, os.path.basename(target)))
        sync_folders(os.path.dirname(self._store.absolute(row.target_path)) for row in gone)
        return gone

    def _bring_back(self, trash_id: str) -> int:
        """How many links are made again. Those that the disk refused are tried again at the next start, those of a
        version in the trash when it is back."""
        parked = self._store.parked(trash_id)
        if not parked:
            return 0
        away = [one for one in parked if self._is_away(one)]
        made, refused = self._make_again([one for one in parked if one not in away])
        self._store.unpark(trash_id, {*refused, *(one.target_path for one in away)})
        return made

    def _make_again(self, parked: Sequence[Parked]) -> tuple[int, list[str]]:
        """Links whose file is there, where nothing else is by now: (how many, places that the disk refused)."""
        rows = [row for one in parked if (row := self._row_of(one)) is not None]
        if not rows:
            return 0, []
        self._store.begin(rows)
        failed: list[str] = []
        refused: list[str] = []
        for row in rows:
            target = self._store.absolute(row.target_path)
            try:
                make_folders(Path(target).parent)
                make(row, target, self._store.absolute(row.source_path))
            except (OSError, Unsupported) as error:
                if not self._is_there(row):
                    failed.append(row.target_path)
                    if not isinstance(error, FileExistsError):
                        refused.append(row.target_path)
                        log.warning("a link could not be made again: %s", os.path.basename(target))
        sync_folders(os.path.dirname(self._store.absolute(row.target_path)) for row in rows)
        self._store.finish(failed)
        made = [row for row in rows if row.target_path not in failed]
        self._told(_count(made), Counter())
        return len(made), refused

    def _row_of(self, one: Parked) -> Link | None:
        source, target = self._store.absolute(one.source_path), self._store.absolute(one.target_path)
        app_folder = os.path.dirname(os.path.dirname(target))
        if not os.path.exists(source) or not os.path.isdir(app_folder):
            return None
        external = device_of(source) != device_of(target)
        row = new_link(
            one.model_id,
            one.source_path,
            one.target_path,
            one.link_type,
            one.app_id,
            one.app_version,
            external=external,
        )._replace(created_at=one.created_at)
        if one.link_type == LinkKind.HARDLINK:
            return row._replace(inode=os.stat(source).st_ino)
        folder = os.path.realpath(os.path.dirname(target))
        return row._replace(link_text=symlink_text(self._store.root, source, folder, external=external))

    # -- after a crash -------------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Finish what a killed process began: at start, after the trash has done the same; and when a version is back.

        Raises:
            PumasError: the registry cannot be read or written.
        """
        if not self._store.database.path.exists():
            return
        with self.lock, disk_errors("Looking after the links"):
            self.settle()
            trash_ids = dict.fromkeys(one.trash_id for one in self._store.parked())
            for trash_id in trash_ids:
                self._settle_parked(trash_id)

    def settle(self) -> None:
        """Ask the disk about links whose making was not finished."""
        rows = self._store.making()
        if not rows:
            return
        for folder in {os.path.dirname(self._store.absolute(row.target_path)) for row in rows}:
            with contextlib.suppress(OSError):
                remove_stale_temporaries(Path(folder))
        self._store.finish([row.target_path for row in rows if not self._is_there(row)])

    def _settle_parked(self, trash_id: str) -> None:
        if not os.path.lexists(self._trash / trash_id / MODEL):
            # The model never left or is back; or the trash was emptied, and then there is nothing to link to.
            self._bring_back(trash_id)
            return
        places = {one.target_path for one in self._store.parked(trash_id)}
        ids = {one.model_id for one in self._store.parked(trash_id)}
        rows = [row for row in self._store.of_models(ids) if row.target_path in places]
        self._told(Counter(), _count(self._take_away(rows)))
        self._store.forget(row.link_id for row in rows if not self._is_there(row) and not self._is_away(row))


def _count(rows: Iterable[Link]) -> Changes:
    return Counter((row.app_id, row.app_version) for row in rows)


def sync_folders(folders: Iterable[str]) -> None:
    """Make the links in these folders durable. A folder that is gone, or that a file took the place of, has none."""
    for folder in dict.fromkeys(folders):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            fsync_folder(Path(folder))
