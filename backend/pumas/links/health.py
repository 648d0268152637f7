"""How the links are: which work, which are broken, which nobody needs. Looks, and changes nothing.

A broken link is one of ours that is gone or leads nowhere. An orphan is a symbolic link into the library that no rule
wants: ours from other rules, or somebody else's. Links that lead elsewhere are the user's own affair.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pumas.config import Layout
from pumas.links.applying import KEPT_FOLDER
from pumas.links.linking import LinkKind, is_ours, leads_to, library_of
from pumas.links.planning import is_away, is_unreadable
from pumas.links.store import Link, LinkStore, Replaced, new_link
from pumas.links.values import Plan, Unneeded

_UNREAD = "The model cannot be read"


@dataclass
class Health:
    """`orphaned` are absolute paths; `removable` those of them that `remove_orphaned_links` removes by itself."""

    total: int = 0
    healthy: int = 0
    broken: list[Unneeded] = field(default_factory=list[Unneeded])
    orphaned: list[str] = field(default_factory=list[str])
    removable: list[Unneeded] = field(default_factory=list[Unneeded])
    replaced: list[Replaced] = field(default_factory=list[Replaced])
    warnings: list[str] = field(default_factory=list[str])

    @property
    def status(self) -> str:
        return "errors" if self.broken else "warnings" if self.orphaned or self.warnings else "healthy"


class Examiner:
    """Calls block."""

    def __init__(self, layout: Layout, store: LinkStore) -> None:
        self._layout = layout
        self._library = str(layout.library)
        self._store = store

    def examine(self, plan: Plan | None) -> Health:
        """All registered links of versions that are there, and the folder of one version when its plan is given."""
        health = Health()
        away = external = unread = 0
        for row in self._store.all():
            if not os.path.isdir(self._version_folder(row)):
                continue
            health.total += 1
            external += row.is_external
            reason = self._trouble(row)
            if reason is None:
                health.healthy += 1
                continue
            target = self._store.absolute(row.target_path)
            # Where the link should be is there and the link is not: that is so whatever became of the file.
            gone = not os.path.lexists(target) and os.path.isdir(os.path.dirname(target))
            if not gone and is_away(self._store.absolute(row.source_path), self._library):
                away += 1
            elif reason == _UNREAD:
                unread += 1
            else:
                health.broken.append(Unneeded(row, target, _text(target), reason))
        if external:
            health.warnings.append(f"{external} links lead to another volume and break when the library is moved.")
        if away:
            health.warnings.append(f"{away} links lead to files on a drive that is away.")
        if unread:
            health.warnings.append(f"{unread} links are of models that cannot be read.")
        if plan is not None:
            self._look_for_orphans(plan, health)
        health.replaced = [r for r in self._store.replaced() if os.path.lexists(self._store.absolute(r.kept_path))]
        return health

    def _version_folder(self, row: Link) -> str:
        """Of the version that has the link. One that was removed may come back, with its links."""
        parts = row.target_path.split("/")
        return os.path.dirname(row.target_path) if parts[0] == "" else self._store.absolute("/".join(parts[:2]))

    def _trouble(self, row: Link) -> str | None:
        """Why a link does not work; None when it does."""
        target, source = self._store.absolute(row.target_path), self._store.absolute(row.source_path)
        if not os.path.lexists(target):
            return "The link is gone"
        if not is_ours(row, target, source):
            return "Something else is there now; it stays"
        file = target if row.link_type == LinkKind.SYMLINK else source
        if not os.path.exists(file):
            return _UNREAD if is_unreadable(file) else "The model's file is gone"
        return None

    def _look_for_orphans(self, plan: Plan, health: Health) -> None:
        health.removable = list(plan.unwanted)
        health.orphaned = [one.target for one in plan.unwanted]
        ours = {self._store.absolute(row.target_path) for row in self._store.below(plan.place.models)}
        foreign = [
            path for path in symlinks_below(plan.place.models) if path not in ours and is_inside(self._layout, path)
        ]
        health.orphaned += foreign
        if foreign:
            health.warnings.append(
                f"{len(foreign)} links into the library were not made by us; they are only removed when they are named."
            )


def is_inside(layout: Layout, path: str) -> bool:
    """Whether a symbolic link leads into the library, be its file there or not."""
    try:
        place = leads_to(path, os.readlink(path))
    except OSError:
        return False
    roots = {str(layout.library), os.path.realpath(layout.library), library_of(str(layout.root))}
    return any(place.startswith(f"{root}/") for root in roots)


def symlinks_below(folder: str) -> Iterator[str]:
    """All symbolic links in a folder; what was moved aside is not looked into."""
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != KEPT_FOLDER)
        yield from (full for name in sorted([*names, *folders]) if os.path.islink(full := f"{path}/{name}"))


def recovered_rows(store: LinkStore, plans: Iterable[Plan]) -> list[Link]:
    """Rows for links that are just as we would make them: for a registry that was lost.

    The plan says which they are; that they are ours is likely enough once the list of ours is gone.
    """
    known = {row.target_path for row in store.all()}
    rows: list[Link] = []
    for plan in plans:
        for link in plan.links:
            target = store.kept(link.target)
            if link.action == "skip" and target not in known and os.path.islink(link.target):
                row = new_link(
                    link.model_id,
                    store.kept(link.source),
                    target,
                    LinkKind.SYMLINK,
                    plan.place.app.id,
                    plan.place.version,
                    external=link.external,
                )
                rows.append(row._replace(link_text=os.readlink(link.target)))
    return rows


def _text(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
