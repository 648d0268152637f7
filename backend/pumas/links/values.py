"""What planning and applying hand to each other and to callers: plain values without a word about how it is done."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from pumas.links.linking import LinkKind
from pumas.links.places import Place
from pumas.links.store import Link


class Action(StrEnum):
    """`update`: our own link leads elsewhere and is made anew. `copy`: no link can be made there, and nobody asked for
    a copy."""

    CREATE = "create"
    UPDATE = "update"
    SKIP = "skip"
    CONFLICT = "conflict"
    COPY = "copy"


class Resolution(StrEnum):
    """What to do about something foreign in the way. `overwrite` and `rename` both keep it: in a folder for such, or
    beside the link as `<name>.old`."""

    SKIP = "skip"
    OVERWRITE = "overwrite"
    RENAME = "rename"


@dataclass(frozen=True, slots=True)
class PlannedLink:
    """One file of a model in one place of an app. Paths are absolute; `text` is what a symlink will hold; `size` of a
    copy in bytes; `existing` describes what is there (for conflicts, exactly enough to notice that it changed)."""

    action: Action
    model_id: str
    model_name: str
    source: str
    target: str
    kind: LinkKind
    text: str
    external: bool
    reason: str
    existing: str = ""
    size: int = 0
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class Unneeded:
    """A row of the registry whose link is to go: `existing` is what its symlink holds, "" when nothing is there."""

    link: Link
    target: str
    existing: str
    reason: str


@dataclass
class Plan:
    """What would be done for one version.

    `models_link` is set when the models folder itself is a link that is moved aside for a folder: one into the library,
    as very old versions had it, or another that the caller gave up. `foreign_link` is where one leads that leads
    elsewhere. `unwanted` links work but no rule wants them any more.
    """

    place: Place
    links: list[PlannedLink] = field(default_factory=list[PlannedLink])
    broken: list[Unneeded] = field(default_factory=list[Unneeded])
    unwanted: list[Unneeded] = field(default_factory=list[Unneeded])
    models_link: str = ""
    foreign_link: str = ""
    from_app: bool = False
    warnings: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])

    def of(self, *actions: Action) -> list[PlannedLink]:
        return [link for link in self.links if link.action in actions]

    @property
    def changes(self) -> bool:
        """Whether applying it would do anything."""
        return bool(self.broken or self.models_link or any(link.action in _CHANGING for link in self.links))

    @property
    def conflicts(self) -> list[PlannedLink]:
        return self.of(Action.CONFLICT)

    @functools.cached_property
    def id(self) -> str:
        """The same for the same plan: another one means that something has changed meanwhile."""
        digest = hashlib.blake2b(f"{self.place.folder}\0{self.models_link}\0".encode(), digest_size=16)
        for link in self.links:
            if link.action is not Action.SKIP:
                parts = (link.action, link.model_id, link.source, link.target, link.kind, link.text, link.stamp)
                digest.update("\0".join(parts).encode("utf-8", "surrogateescape") + b"\n")
        for gone in self.broken:
            digest.update(f"{gone.target}\0{gone.existing}\n".encode("utf-8", "surrogateescape"))
        return f"plan-{digest.hexdigest()}"


_CHANGING = frozenset({Action.CREATE, Action.UPDATE})


@dataclass
class Applied:
    """Counts of what was done. `total` links of the version are in place; `errors` say which were not made and why."""

    created: int = 0
    updated: int = 0
    skipped: int = 0
    removed: int = 0
    renamed: int = 0
    overwritten: int = 0
    conflicts: int = 0
    total: int = 0
    copied_bytes: int = 0
    errors: list[str] = field(default_factory=list[str])
    kept: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
